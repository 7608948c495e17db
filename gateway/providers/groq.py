"""Groq (https://console.groq.com/docs/openai)."""

from typing import Final

from gateway.providers.provider import BATCH_PATHS, Provider, openai_paths
from gateway.routes import CHAT, RESPONSES, SPEECH, TRANSCRIPTIONS, TRANSLATIONS

PROVIDER: Final = Provider(
    slug="groq",
    name="Groq",
    api_base="https://api.groq.com/openai/v1",
    paths={
        **openai_paths(CHAT, RESPONSES, SPEECH, TRANSCRIPTIONS, TRANSLATIONS),
        # https://console.groq.com/docs/batch
        **BATCH_PATHS,
    },
)
