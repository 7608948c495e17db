"""Mistral (https://docs.mistral.ai/api)."""

from typing import Final

from gateway.providers.provider import Provider, openai_paths
from gateway.routes import CHAT, EMBEDDINGS, MODERATIONS, TRANSCRIPTIONS

PROVIDER: Final = Provider(
    slug="mistral",
    name="Mistral",
    api_base="https://api.mistral.ai/v1",
    paths=openai_paths(CHAT, EMBEDDINGS, MODERATIONS, TRANSCRIPTIONS),
)
