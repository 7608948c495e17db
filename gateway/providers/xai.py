"""xAI (https://docs.x.ai/docs/api-reference)."""

from typing import Final

from gateway.providers.provider import Provider, openai_paths
from gateway.routes import CHAT, COMPLETIONS, IMAGE_GENERATIONS, RESPONSES

PROVIDER: Final = Provider(
    slug="x-ai",
    name="xAI",
    api_base="https://api.x.ai/v1",
    paths=openai_paths(CHAT, COMPLETIONS, IMAGE_GENERATIONS, RESPONSES),
)
