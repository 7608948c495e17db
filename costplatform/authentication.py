"""Who may use the management API: whoever has the master key, and nobody else yet."""

import hmac
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db.models import Q
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from budgets import keys
from budgets.models import ApiKey


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The one caller of the management API; it is no user, no key, and cannot call models."""

    is_authenticated: bool = True


class MasterKeyAuthentication(BaseAuthentication):
    """Takes the master key from where OpenAI's, Anthropic's and Azure's clients send keys."""

    def authenticate(self, request: Request) -> tuple[MasterKey, None]:
        secret = _secret_of(request)
        if not secret:
            raise AuthenticationFailed("Send the master key as 'Authorization: Bearer sk-…'.")
        if hmac.compare_digest(secret.encode(), settings.MASTER_KEY.encode()):
            return MasterKey(), None
        if _is_virtual_key(secret):
            raise PermissionDenied("A virtual key may call models, but not manage anything.")
        raise AuthenticationFailed("This is not the master key.")

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class MasterKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # theirs
    """How the API's description names it."""

    target_class = MasterKeyAuthentication
    name = "masterKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "The master key."}


_OTHER_HEADERS: Final = ("x-api-key", "api-key")


def _secret_of(request: Request) -> str:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    candidates = [bearer.strip() if scheme.lower() == "bearer" else ""]
    candidates += [request.headers.get(name, "") for name in _OTHER_HEADERS]
    return next((candidate for candidate in candidates if candidate), "")


def _is_virtual_key(secret: str) -> bool:
    if not keys.is_well_formed(secret):
        return False
    known = Q(digest=keys.digest(secret)) | Q(legacy_digest=keys.legacy_digest(secret))
    return ApiKey.objects.filter(known).exists()
