"""OpenRouter (https://openrouter.ai/docs/api-reference)."""

from typing import Final

from gateway.providers.provider import Provider, openai_paths
from gateway.routes import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

PROVIDER: Final = Provider(
    slug="openrouter",
    name="OpenRouter",
    api_base="https://openrouter.ai/api/v1",
    paths=openai_paths(CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES),
)
