"""Limits that LiteLLM states beside a deployment's parameters: here its account's own budget."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from budgets.errors import InvalidInput
from budgets.models import AccountKind, Budget
from budgets.queries import platform_account_id
from budgets.services.accounts import Terms
from budgets.services.platform import set_platform_budgets
from gateway.models import Deployment

FIELDS: Final = {
    "max_budget": "max_budget",
    "budget_duration": "duration",
    "rpm": "rpm_limit",
    "tpm": "tpm_limit",
}
"""LiteLLM's parameter, and the budget's field of that meaning."""


def set_limits(*, deployment: Deployment, params: Mapping[str, Any], now: datetime) -> None:
    """
    Limit a deployment by what its parameters say, if they say anything.

    :raises InvalidInput: naming the field that does not fit
    """
    said = {FIELDS[name]: params[name] for name in FIELDS if params.get(name) is not None}
    if not said:
        return
    if "duration" in said and "max_budget" not in said:
        raise InvalidInput("budget_duration", "needs a max_budget that it is about")
    set_platform_budgets(
        kind=AccountKind.DEPLOYMENT,
        terms={deployment.public_id: Terms(**said)},
        labels={deployment.public_id: str(deployment)},
        now=now,
    )


def limits_of(deployments: Iterable[Deployment]) -> dict[int, dict[str, Any]]:
    """Return what limits deployments, as LiteLLM's parameters, by the rows' ids; in one query."""
    accounts = {
        platform_account_id(AccountKind.DEPLOYMENT, each.public_id): each.pk for each in deployments
    }
    found: dict[int, dict[str, Any]] = {pk: {} for pk in accounts.values()}
    for budget in Budget.objects.filter(private_to__in=accounts):
        assert budget.private_to_id is not None
        found[accounts[budget.private_to_id]] = _said_by(budget)
    return found


def _said_by(budget: Budget) -> dict[str, Any]:
    said = {name: getattr(budget, field) for name, field in FIELDS.items()}
    return {name: value for name, value in said.items() if value not in {None, ""}}
