"""
Vertex AI by its OpenAI-compatible endpoint, for a service account's key or an access token
(https://cloud.google.com/vertex-ai/generative-ai/docs/start/openai).
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import orjson
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from gateway.providers.gemini import GeminiAnswers
from gateway.providers.provider import CredentialRefused, Outgoing, Provider, openai_paths
from gateway.routes import CHAT

HOST: Final = "aiplatform.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address, not a token
KEY_FIELDS: Final = ("client_email", "private_key")
ACCOUNTS_MAX: Final = 256


async def authenticate(secret: str, outgoing: Outgoing) -> Mapping[str, str]:
    """
    Return an access token: the secret itself, or one that its service account is given.

    :raises CredentialRefused: if Google gives none
    """
    if not secret.lstrip().startswith("{"):
        return {"authorization": f"Bearer {secret}"}
    account = _account(secret)
    if not account.valid:
        # google-auth waits for Google's answer: not here.
        await asyncio.to_thread(_refresh, account)
    return {"authorization": f"Bearer {account.token}"}


@lru_cache(maxsize=ACCOUNTS_MAX)
def _account(secret: str) -> service_account.Credentials:
    try:
        # A key may name where its tokens come from: nobody else is to be asked from here.
        info = orjson.loads(secret) | {"token_uri": TOKEN_URL}
        return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])  # type: ignore[no-any-return, no-untyped-call]  # theirs has no types
    except (ValueError, TypeError) as error:
        raise CredentialRefused("is no service account's key") from error


def _refresh(account: service_account.Credentials) -> None:
    try:
        account.refresh(Request())  # type: ignore[no-untyped-call]  # as above
    except GoogleAuthError as error:
        raise CredentialRefused("Google gives it no access token") from error


def base_url(*, project: str, location: str) -> str:
    """Return the base URL of a project in a location."""
    host = HOST if location == "global" else f"{location}-{HOST}"
    return f"https://{host}/v1/projects/{project}/locations/{location}/endpoints/openapi"


def model_sent(name: str) -> str:
    """Google's own models are named with their publisher there."""
    return name if "/" in name else f"google/{name}"


PROVIDER: Final = Provider(
    slug="google",
    name="Vertex AI",
    hosts=(HOST,),
    model_sent=model_sent,
    paths=openai_paths(CHAT),
    authenticate=authenticate,
    answers={CHAT.name: GeminiAnswers()},
)
