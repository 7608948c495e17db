"""Fireworks AI (https://docs.fireworks.ai/api-reference)."""

from typing import Final

from gateway.providers.provider import Provider, openai_paths
from gateway.routes import CHAT, COMPLETIONS, EMBEDDINGS, RERANK, RESPONSES

PROVIDER: Final = Provider(
    slug="fireworks",
    name="Fireworks AI",
    api_base="https://api.fireworks.ai/inference/v1",
    paths=openai_paths(CHAT, COMPLETIONS, EMBEDDINGS, RERANK, RESPONSES),
)
