"""Deployments to route between, and rules about them."""

import uuid
from typing import Any

from budgets.models import Organization
from gateway.models import Deployment, RoutingRule
from gateway.routing_rules import create_rule
from gateway.services import create_deployment


def deployed(name: str = "", **values: Any) -> Deployment:
    """Make a deployment, of a new model if no name is given; nothing answers there."""
    model_name = name or f"model-{uuid.uuid4().hex[:12]}"
    known = {
        "model_name": model_name, "provider": "nobody", "upstream_model": "upstream",
        "api_base": "https://api.example.com/v1",
    }  # fmt: skip
    return create_deployment(values=known | values, api_key=None)


def models(number: int) -> list[str]:
    """Return the names of new models that are served."""
    return [deployed().model_name for _ in range(number)]


def rule_of(model: str, *, organization: Organization | None = None, **values: Any) -> RoutingRule:
    return create_rule(values={"model_name": model, "organization": organization, **values})


def no_rule_for_every_model() -> None:
    """Take away what another test has left for everybody's every model."""
    RoutingRule.objects.filter(model_name="*").delete()
