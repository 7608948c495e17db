import pytest

from gateway import vault

pytestmark = pytest.mark.no_servers

BASE = "https://api.example.com/v1"


def test_a_credential_opens_for_its_host_only() -> None:
    sealed = vault.seal("sk-secret")

    assert b"sk-secret" not in sealed
    assert (
        vault.unseal(sealed, bound_to=vault.host_of(BASE), api_base="https://API.example.com/v2")
        == "sk-secret"
    )
    for elsewhere in (
        "https://evil.example/v1",
        "http://api.example.com",
        "https://api.example.com:8443",
    ):
        with pytest.raises(vault.CredentialError):
            vault.unseal(sealed, bound_to=vault.host_of(BASE), api_base=elsewhere)


def test_a_damaged_credential_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(vault.CredentialError):
        vault.unseal(b"nonsense", bound_to="x:443", api_base="https://x")
