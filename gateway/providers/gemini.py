"""Gemini by its OpenAI-compatible endpoint (https://ai.google.dev/gemini-api/docs/openai)."""

from typing import Final

from gateway.providers.provider import Provider, openai_paths
from gateway.routes import CHAT, EMBEDDINGS, IMAGE_GENERATIONS
from gateway.routes.answers import Json, StreamUsage
from gateway.routes.chat import ChatAnswers
from spend.usage import Reading, gemini_openai


class GeminiAnswers(ChatAnswers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return gemini_openai.read(reply, request=request)

    def stream(self, request: Json) -> StreamUsage:
        return gemini_openai.Stream(request=request)


PROVIDER: Final = Provider(
    slug="google",
    name="Gemini",
    api_base="https://generativelanguage.googleapis.com/v1beta/openai",
    paths=openai_paths(CHAT, EMBEDDINGS, IMAGE_GENERATIONS),
    answers={CHAT.name: GeminiAnswers()},
)
