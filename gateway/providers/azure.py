"""
Azure OpenAI: one URL for each deployment of a model with ``api-version``, or its v1 API without
(https://learn.microsoft.com/azure/ai-foundry/openai/reference).
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from gateway.providers.provider import (
    OPENAI_ROUTES,
    Outgoing,
    Place,
    Provider,
    openai_paths,
)
from gateway.routes import MODERATIONS


async def authenticate(secret: str, outgoing: Outgoing) -> Mapping[str, str]:
    return {"api-key": secret}


def url(place: Place, path: str) -> str:
    """Return the deployment's own URL; ``api_base`` is the resource, or its v1 API."""
    base = place.api_base
    if not place.api_version:
        return f"{base}{path}" if base.endswith("/v1") else f"{base}/openai/v1{path}"
    base = base.removesuffix("/openai/v1").removesuffix("/openai")
    # Responses are of the resource, and name the deployment in the body.
    named = f"/deployments/{quote(place.upstream_model, safe='')}" if path != "/responses" else ""
    return f"{base}/openai{named}{path}?api-version={quote(place.api_version, safe='')}"


PROVIDER: Final = Provider(
    slug="azure",
    name="Azure OpenAI",
    paths=openai_paths(*(route for route in OPENAI_ROUTES if route is not MODERATIONS)),
    authenticate=authenticate,
    url=url,
)
