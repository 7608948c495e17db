"""vLLM, on whatever host it runs (https://docs.vllm.ai/en/latest/serving/openai_compatible_server)."""

from typing import Final

from gateway.providers.provider import TEXT_ROUTES, Provider, openai_paths
from gateway.routes import COUNT_TOKENS, MESSAGES, RERANK, RESPONSES, TRANSCRIPTIONS, TRANSLATIONS

PROVIDER: Final = Provider(
    slug="vllm",
    name="vLLM",
    paths=openai_paths(
        *TEXT_ROUTES, RESPONSES, RERANK, TRANSCRIPTIONS, TRANSLATIONS, MESSAGES, COUNT_TOKENS
    ),
)
