"""Who may ask what things cost: whoever has a virtual key, and the master key."""

import hmac
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from budgets import keys, snapshots
from budgets.snapshots import KeySnapshot
from gateway import identity


@dataclass(frozen=True, slots=True)
class Caller:
    """A virtual key, or the master key, which is None."""

    snapshot: KeySnapshot | None
    is_authenticated: bool = True


class AnyKeyAuthentication(BaseAuthentication):
    """Takes a key from where OpenAI's, Anthropic's and Azure's clients send it."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        """
        Return who calls.

        :raises GatewayError: if the key is blocked or has expired
        """
        secret = identity.sent_in({name.lower(): text for name, text in request.headers.items()})
        if hmac.compare_digest(secret.encode(), settings.MASTER_KEY.encode()):
            return Caller(None), None
        snapshot = _read(secret)
        if snapshot is None:
            raise AuthenticationFailed("Send your key as 'Authorization: Bearer sk-…'.")
        identity.check_usable(snapshot, at=timezone.now())  # noqa: TID251  # the edge, as a view is
        return Caller(snapshot), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class AnyKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # theirs
    """How the API's description names it."""

    target_class = AnyKeyAuthentication
    name = "anyKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A virtual or the master key."}


def _read(secret: str) -> KeySnapshot | None:
    if not secret or len(secret) > keys.LENGTH_MAX or not keys.is_well_formed(secret):
        return None
    return snapshots.read_key(digest=keys.digest(secret), legacy_digest=keys.legacy_digest(secret))
