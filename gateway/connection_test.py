"""Asks a deployment for its models, to see whether its address and credential work."""

import asyncio
from dataclasses import dataclass

from django.conf import settings

from gateway import vault
from gateway.models import Deployment
from gateway.upstream import UpstreamBroke, UpstreamNotReached, make

SECONDS_MAX = 10
UNAUTHORIZED = (401, 403)


@dataclass(frozen=True, slots=True)
class Result:
    ok: bool
    detail: str


def run(*, deployment: Deployment) -> Result:
    """Return whether the upstream answers and takes the credential; nothing is billed for it."""
    return asyncio.run(_ask(deployment))


async def _ask(deployment: Deployment) -> Result:
    upstream = make(
        total_seconds=SECONDS_MAX,
        connect_seconds=SECONDS_MAX,
        idle_seconds=SECONDS_MAX,
        connections_max=1,
        allowed=settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS,
    )
    try:
        status = await upstream.status_of(
            f"{deployment.api_base.rstrip('/')}/models", headers=_headers(deployment)
        )
    except (UpstreamNotReached, UpstreamBroke, vault.CredentialError) as error:
        return Result(ok=False, detail=str(error))
    finally:
        await upstream.close()
    return _result(status)


def _headers(deployment: Deployment) -> dict[str, str]:
    credential = deployment.credential
    if credential is None:
        return {}
    secret = vault.unseal(
        bytes(credential.secret), bound_to=credential.host, api_base=deployment.api_base
    )
    return {"authorization": f"Bearer {secret}"}


def _result(status: int) -> Result:
    if status in UNAUTHORIZED:
        return Result(ok=False, detail=f"reached, but the credential was refused ({status})")
    if status >= 500:  # noqa: PLR2004  # server errors, as RFC 9110 numbers them
        return Result(ok=False, detail=f"reached, but it answered {status}")
    return Result(ok=True, detail=f"reached; it answered {status}")
