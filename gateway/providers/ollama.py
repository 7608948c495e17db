"""Ollama, on whatever host it runs (https://docs.ollama.com/api/openai-compatibility)."""

from typing import Final

from gateway.providers.provider import TEXT_ROUTES, Provider, openai_paths
from gateway.routes import MESSAGES, RESPONSES

PROVIDER: Final = Provider(
    slug="ollama",
    name="Ollama",
    paths=openai_paths(*TEXT_ROUTES, RESPONSES, MESSAGES),
)
