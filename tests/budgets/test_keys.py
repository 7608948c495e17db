"""The secrets of keys: how they look, how a typo is told, and what is kept of them."""

import hashlib
import hmac
import string

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from budgets import keys

pytestmark = pytest.mark.no_servers

LETTERS = string.ascii_letters + string.digits


def test_new_secrets_are_well_formed_and_never_the_same() -> None:
    secrets = {keys.new_secret() for _ in range(500)}

    assert len(secrets) == 500
    assert all(keys.is_well_formed(secret) for secret in secrets)
    assert {len(secret) for secret in secrets} == {55}
    assert all(secret.startswith("sk-cp-") for secret in secrets)


@given(place=st.integers(6, 54), letter=st.sampled_from(LETTERS))
def test_any_one_mistyped_letter_is_noticed(place: int, letter: str) -> None:
    secret = keys.new_secret()
    mistyped = secret[:place] + letter + secret[place + 1 :]

    assert keys.is_well_formed(mistyped) == (mistyped == secret)


@given(place=st.integers(6, 53))
def test_two_letters_that_were_swapped_are_noticed(place: int) -> None:
    secret = keys.new_secret()
    swapped = secret[:place] + secret[place + 1] + secret[place] + secret[place + 2 :]

    assert keys.is_well_formed(swapped) == (swapped == secret)


@pytest.mark.parametrize(
    ("secret", "fits"),
    [
        ("sk-1234567890123", True),
        ("sk-123456789012", False),
        ("sk-" + "x" * 253, True),
        ("sk-" + "x" * 254, False),
        ("pk-1234567890123", False),
        ("sk-123456789 0123", False),
        ("sk-1234567890123\n", False),
        ("sk-1234567890123é", False),
        ("sk-cp-1234567890123", False),
        ("sk-cp-" + "0" * 49, False),
        ("", False),
    ],
)
def test_secret_of_ones_own_has_its_form(secret: str, fits: bool) -> None:
    assert keys.is_well_formed(secret) is fits


def test_checksum_of_a_known_key_never_changes() -> None:
    """Keys live longer than releases."""
    assert keys.is_well_formed("sk-cp-" + "a" * 43 + "4SHDYg")


def test_digest_is_an_hmac_under_the_pepper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "KEY_PEPPER", "pepper")
    expected = hmac.new(b"pepper", b"sk-secret", hashlib.sha256).hexdigest()

    assert keys.digest("sk-secret") == expected
    monkeypatch.setattr(settings, "KEY_PEPPER", "other")
    assert keys.digest("sk-secret") != expected


def test_digest_of_litellm_is_the_plain_sha256() -> None:
    assert keys.legacy_digest("sk-secret") == hashlib.sha256(b"sk-secret").hexdigest()
