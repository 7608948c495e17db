"""Provider credentials, encrypted at rest and only opened for the host they were saved for."""

import base64
import hashlib
from functools import lru_cache
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings


class CredentialError(Exception):
    """The credential cannot be opened, or not for this host."""


def host_of(api_base: str) -> str:
    """Return host and port of a URL, as a credential is bound to them."""
    parts = urlsplit(api_base)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{(parts.hostname or '').lower()}:{port}"


def seal(secret: str) -> bytes:
    return _cipher().encrypt(secret.encode())


def unseal(sealed: bytes, *, bound_to: str, api_base: str) -> str:
    """
    Return the credential for a request to ``api_base``.

    :raises CredentialError: if it was saved for another host or under another encryption key
    """
    if host_of(api_base) != bound_to:
        raise CredentialError(f"was saved for {bound_to}, not for {host_of(api_base)}")
    return _decrypted(sealed)


@lru_cache(maxsize=1_024)
def _decrypted(sealed: bytes) -> str:
    try:
        return _cipher().decrypt(sealed).decode()
    except InvalidToken as error:
        raise CredentialError("was encrypted under another COSTPLATFORM_ENCRYPTION_KEY") from error


def _cipher() -> Fernet:
    key = hashlib.sha256(settings.ENCRYPTION_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
