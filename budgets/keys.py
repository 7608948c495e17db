"""
The secrets of virtual keys: how they look, and what is kept of them.

``sk-cp-`` + 43 characters of randomness + 6 of checksum, so that a scanner (and the gateway,
before it asks the database) can tell a mistyped key from a real one.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import Final

from django.conf import settings

PREFIX: Final = "sk-cp-"
RANDOM_CHARACTERS: Final = 43
CHECKSUM_CHARACTERS: Final = 6
SHOWN_CHARACTERS: Final = 10
CUSTOM_LENGTH_MIN: Final = 16
LENGTH_MAX: Final = 256
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_OURS: Final = re.compile(rf"sk-cp-[0-9A-Za-z]{{{RANDOM_CHARACTERS + CHECKSUM_CHARACTERS}}}")
_CUSTOM: Final = re.compile(r"sk-[!-~]{13,253}")


def new_secret() -> str:
    body = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return PREFIX + body + _checksum(body)


def is_well_formed(secret: str) -> bool:
    """Return whether this can be a key at all: right checksum, or one that somebody chose."""
    if secret.startswith(PREFIX):
        if not _OURS.fullmatch(secret):
            return False
        body, checksum = secret[len(PREFIX) : -CHECKSUM_CHARACTERS], secret[-CHECKSUM_CHARACTERS:]
        return _checksum(body) == checksum
    return _CUSTOM.fullmatch(secret) is not None


def digest(secret: str) -> str:
    """Return the HMAC-SHA256 under the pepper, in hex: what is stored and looked up."""
    return hmac.digest(settings.KEY_PEPPER.encode(), secret.encode(), "sha256").hex()


def legacy_digest(secret: str) -> str:
    """Return the plain SHA-256 in hex, as LiteLLM stores keys."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(body: str) -> str:
    number, letters = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        letters = _ALPHABET[digit] + letters
    return letters
