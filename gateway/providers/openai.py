"""OpenAI (https://platform.openai.com/docs/api-reference)."""

from typing import Final

from gateway.providers.provider import BATCH_PATHS, OPENAI_ROUTES, Provider, openai_paths
from gateway.routes import MODERATIONS

PROVIDER: Final = Provider(
    slug="openai",
    name="OpenAI",
    api_base="https://api.openai.com/v1",
    paths={**openai_paths(*OPENAI_ROUTES), **BATCH_PATHS},
    # https://help.openai.com/en/articles/4936833-is-the-moderation-endpoint-free-to-use
    free=frozenset({MODERATIONS.name}),
)
