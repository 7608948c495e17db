"""Each provider's ways: where requests go, and how they are authenticated there."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway import providers
from gateway.batches.routes import route_of
from gateway.providers import PROVIDERS, CredentialRefused, Outgoing, Provider, bedrock, vertex
from gateway.providers.provider import ALL_ROUTES, OPENAI_ROUTES
from gateway.routes import CHAT, COUNT_TOKENS, MESSAGES, RERANK, RESPONSES, TRANSCRIPTIONS
from gateway.routes.route import Route
from tests.test_docs import ROOT

pytestmark = pytest.mark.no_servers

ACCESS_KEY = orjson.dumps(
    {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI"}
).decode()
RUNTIME = "https://bedrock-runtime.eu-central-1.amazonaws.com/openai/v1"


def url(provider: Provider, route: Route, **place: str) -> str:
    given = {"api_base": provider.api_base or "", "upstream_model": "m", "api_version": ""} | place
    there: Any = SimpleNamespace(**given)
    return provider.url(there, provider.paths[route.name])


async def headers(
    provider: Provider, route: Route = CHAT, *, secret: str = "s3cret", to: str = "https://x.test/"
) -> dict[str, str]:
    outgoing = Outgoing(to, b"{}", "application/json", route.name)
    return dict(await provider.authenticate(secret, outgoing))


@pytest.mark.parametrize(
    ("slug", "route", "expected"),
    [
        ("openai", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("openai", TRANSCRIPTIONS, "https://api.openai.com/v1/audio/transcriptions"),
        ("anthropic", MESSAGES, "https://api.anthropic.com/v1/messages"),
        ("anthropic", COUNT_TOKENS, "https://api.anthropic.com/v1/messages/count_tokens"),
        (
            "google",
            CHAT,
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
        ("mistral", CHAT, "https://api.mistral.ai/v1/chat/completions"),
        ("groq", RESPONSES, "https://api.groq.com/openai/v1/responses"),
        ("together", RERANK, "https://api.together.xyz/v1/rerank"),
        ("deepseek", CHAT, "https://api.deepseek.com/v1/chat/completions"),
        ("x-ai", RESPONSES, "https://api.x.ai/v1/responses"),
        ("fireworks", CHAT, "https://api.fireworks.ai/inference/v1/chat/completions"),
        ("cohere", CHAT, "https://api.cohere.ai/compatibility/v1/chat/completions"),
        ("cohere", RERANK, "https://api.cohere.ai/v2/rerank"),
        ("openrouter", CHAT, "https://openrouter.ai/api/v1/chat/completions"),
    ],
)
def test_a_known_provider_needs_no_base_url(slug: str, route: Route, expected: str) -> None:
    base = providers.base_url_of(slug)
    assert base is not None

    assert url(providers.of(slug, base), route) == expected


@pytest.mark.parametrize(
    ("base", "version", "route", "expected"),
    [
        ("https://r.openai.azure.com", "2025-04-01-preview", CHAT,
         "/openai/deployments/gpt%204/chat/completions?api-version=2025-04-01-preview"),
        ("https://r.openai.azure.com/openai/v1", "2024-10-21", CHAT,
         "/openai/deployments/gpt%204/chat/completions?api-version=2024-10-21"),
        ("https://r.openai.azure.com", "2025-04-01-preview", RESPONSES,
         "/openai/responses?api-version=2025-04-01-preview"),
        ("https://r.openai.azure.com", "", CHAT, "/openai/v1/chat/completions"),
        ("https://r.openai.azure.com/openai/v1", "", CHAT, "/openai/v1/chat/completions"),
    ],
)  # fmt: skip
def test_azure_has_a_url_for_each_deployment_or_its_v1_api(
    base: str, version: str, route: Route, expected: str
) -> None:
    azure = providers.of("azure", base)

    found = url(azure, route, api_base=base, upstream_model="gpt 4", api_version=version)

    assert found == f"https://r.openai.azure.com{expected}"


async def test_each_provider_gets_its_key_where_it_looks_for_it() -> None:
    anthropic = providers.of("anthropic", "")

    assert await headers(providers.of("openai", "")) == {"authorization": "Bearer s3cret"}
    assert await headers(providers.of("azure", "")) == {"api-key": "s3cret"}
    assert await headers(anthropic, MESSAGES) == {"x-api-key": "s3cret"}
    assert await headers(anthropic, CHAT) == {"authorization": "Bearer s3cret"}
    assert anthropic.headers == {"anthropic-version": "2023-06-01"}


async def test_bedrock_takes_an_api_key_or_signs_with_an_access_key() -> None:
    aws = providers.of("aws", RUNTIME)

    with_key = await headers(aws)
    signed = await headers(aws, secret=ACCESS_KEY, to=f"{RUNTIME}/chat/completions")

    assert with_key == {"authorization": "Bearer s3cret"}
    scope = rf"{datetime.now(UTC):%Y%m%d}/eu-central-1/bedrock/aws4_request"
    pattern = rf"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders=\S+, Signature="
    assert re.match(pattern, signed["authorization"])
    assert "x-amz-date" in signed


@pytest.mark.parametrize(
    ("secret", "to"), [("{", RUNTIME), ("{}", RUNTIME), (ACCESS_KEY, "https://proxy.test/v1")]
)
async def test_what_cannot_sign_is_refused(secret: str, to: str) -> None:
    with pytest.raises(CredentialRefused):
        await headers(bedrock.PROVIDER, secret=secret, to=to)


@pytest.fixture
def service_account() -> str:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account", "client_email": "a@p.iam.gserviceaccount.com",
        "private_key": pem.decode(), "token_uri": "https://evil.test/token",
    }  # fmt: skip
    return orjson.dumps(account).decode()


async def test_vertex_asks_google_alone_for_a_token_and_keeps_it(
    service_account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refresh(account: Any) -> None:
        asked.append(account._token_uri)
        account.token = f"token-{len(asked)}"
        account.expiry = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)

    monkeypatch.setattr(vertex, "_refresh", refresh)
    found = providers.of("google", "https://europe-west1-aiplatform.googleapis.com/v1/x")
    assert found is vertex.PROVIDER

    tokens = [await headers(found, secret=service_account) for _ in range(2)]

    assert tokens == [{"authorization": "Bearer token-1"}] * 2
    assert asked == ["https://oauth2.googleapis.com/token"]
    assert await headers(found, secret="ya29.token") == {"authorization": "Bearer ya29.token"}


async def test_a_service_account_that_is_none_is_refused() -> None:
    with pytest.raises(CredentialRefused):
        await headers(vertex.PROVIDER, secret='{"type": "service_account"}')


def test_whoever_is_not_known_is_taken_to_be_compatible() -> None:
    unknown = providers.of("in-house", "https://llm.example.com/v1")

    assert all(unknown.serves(route) for route in ALL_ROUTES)
    assert url(unknown, MESSAGES, api_base="https://llm.example.com/v1").endswith("/v1/messages")


def test_the_page_of_providers_says_what_each_serves() -> None:
    page = (ROOT / "docs" / "reference" / "providers.md").read_text()

    assert "\n".join(table()) in page


def table() -> Iterator[str]:
    """Yield the page's table as the presets say it."""
    shown = [route for route in ALL_ROUTES if route is not COUNT_TOKENS]
    shown.append(route_of(CHAT))
    yield "| provider | slug | " + " | ".join(route.name for route in shown) + " |"
    yield "| --- | --- |" + " :-: |" * len(shown)
    for each in PROVIDERS:
        marks = ("✓" if each.serves(route) else "" for route in shown)
        yield f"| {each.name} | `{each.slug}` | " + " | ".join(marks) + " |"


def test_openai_serves_what_is_named_after_it() -> None:
    assert all(providers.of("openai", "").serves(route) for route in OPENAI_ROUTES)
