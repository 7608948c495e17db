"""Together AI (https://docs.together.ai/docs/openai-api-compatibility)."""

from typing import Final

from gateway.providers.provider import TEXT_ROUTES, Provider, openai_paths
from gateway.routes import (
    IMAGE_GENERATIONS,
    RERANK,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
)

PROVIDER: Final = Provider(
    slug="together",
    name="Together AI",
    api_base="https://api.together.xyz/v1",
    paths=openai_paths(
        *TEXT_ROUTES, IMAGE_GENERATIONS, RERANK, SPEECH, TRANSCRIPTIONS, TRANSLATIONS
    ),
)
