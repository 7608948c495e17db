"""Asks the provider of a deployment about files and batches: small answers, read whole."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from django.conf import settings

from gateway import providers, vault
from gateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from gateway.models import Deployment
from gateway.providers import CredentialRefused, Outgoing, Provider
from gateway.routes.asked import JSON
from gateway.upstream import Response, Upstream, UpstreamBroke, UpstreamNotReached

ERROR_STATUS_MIN: Final = 400
REDIRECT_STATUS_MIN: Final = 300
NOT_FOUND: Final = 404
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a deployment is, and with which key; its credential stays sealed until it is sent."""

    public_id: str
    api_base: str
    upstream_model: str
    api_version: str
    serving: Provider
    sealed_secret: bytes | None = field(repr=False)
    secret_host: str


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_error(self) -> bool:
        return self.status >= REDIRECT_STATUS_MIN

    def json(self) -> dict[str, Any]:
        """Return the object that was answered; empty where it is none."""
        try:
            read = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return read if isinstance(read, dict) else {}


def address_of(deployment: Deployment) -> Address:
    """Return where a deployment is; its credential must be loaded with it."""
    credential = deployment.credential
    return Address(
        public_id=deployment.public_id,
        api_base=deployment.api_base.rstrip("/"),
        upstream_model=deployment.upstream_model,
        api_version=deployment.api_version,
        serving=providers.of(deployment.provider, deployment.api_base),
        sealed_secret=bytes(credential.secret) if credential else None,
        secret_host=credential.host if credential else "",
    )


async def begin(
    upstream: Upstream,
    address: Address,
    method: str,
    path: tuple[str, ...],
    *,
    body: bytes | None = None,
    content_type: str = JSON,
) -> Response:
    """
    Send a request; the first part of ``path`` is ``files`` or ``batches``, the rest goes below it.

    :raises UpstreamNotReached: if nothing was sent
    :raises UpstreamBroke: if it was sent, and no headers came
    """
    kind, *below = path
    url = address.serving.url(address, "/".join([address.serving.paths[kind], *below]))
    headers = {"accept-encoding": "identity", "user-agent": "costplatform"}
    if body is not None:
        headers["content-type"] = content_type
    headers |= address.serving.headers
    headers |= await _authenticated(address, Outgoing(url, body or b"", content_type, kind))
    return await upstream.request(method, url, body=body, headers=headers)


async def ask(
    upstream: Upstream,
    address: Address,
    method: str,
    path: tuple[str, ...],
    *,
    body: bytes | None = None,
    content_type: str = JSON,
) -> Answer:
    """
    Send a request and read its answer, whatever its status.

    :raises UpstreamNotReached: if nothing was sent
    :raises UpstreamBroke: if it was sent, and the answer did not come in full
    """
    response = await begin(upstream, address, method, path, body=body, content_type=content_type)
    try:
        read = await response.read(bytes_max=settings.GATEWAY_REPLY_BYTES_MAX)
    finally:
        response.close()
    return Answer(response.status, response.headers, read)


def failure(error: UpstreamNotReached | UpstreamBroke) -> GatewayError:
    """Return what a caller is told where the provider gave no answer."""
    if isinstance(error, UpstreamBroke) and error.timed_out:
        return UpstreamTimeout("The provider did not answer in time.")
    if isinstance(error, UpstreamBroke):
        return UpstreamFailed("The provider broke off.")
    return UpstreamFailed("The provider cannot be reached.")


def id_in(answer: Mapping[str, Any], name: str = "id") -> str:
    """Return an id that the provider has given, empty where it has given none that can be kept."""
    given = answer.get(name)
    # It becomes a part of paths below the base URL, and must not lead anywhere else.
    return given if isinstance(given, str) and _ID.fullmatch(given) else ""


async def _authenticated(address: Address, outgoing: Outgoing) -> dict[str, str]:
    """:raises UpstreamNotReached: if there is no using the credential"""
    if address.sealed_secret is None:
        return {}
    try:
        secret = vault.unseal(
            address.sealed_secret, bound_to=address.secret_host, api_base=address.api_base
        )
        return dict(await address.serving.authenticate(secret, outgoing))
    except (vault.CredentialError, CredentialRefused) as error:
        raise UpstreamNotReached(str(error)) from error
