"""
Anthropic: its own messages, and chat completions by its compatible endpoint
(https://platform.claude.com/docs/en/api).
"""

from collections.abc import Mapping
from typing import Final

from gateway.providers.provider import Outgoing, Provider, openai_paths
from gateway.routes import CHAT, COUNT_TOKENS, MESSAGES

VERSION: Final = "2023-06-01"


async def authenticate(secret: str, outgoing: Outgoing) -> Mapping[str, str]:
    """The compatible endpoint takes a bearer token, the own one a header of its own."""
    if outgoing.route == CHAT.name:
        return {"authorization": f"Bearer {secret}"}
    return {"x-api-key": secret}


PROVIDER: Final = Provider(
    slug="anthropic",
    name="Anthropic",
    api_base="https://api.anthropic.com/v1",
    paths=openai_paths(CHAT, MESSAGES, COUNT_TOKENS),
    authenticate=authenticate,
    headers={"anthropic-version": VERSION},
)
