"""
Cohere: chat and embeddings by its compatible endpoint, reranking by its own
(https://docs.cohere.com/docs/compatibility-api, https://docs.cohere.com/reference/rerank).
"""

from typing import Final

from gateway.providers.provider import Provider
from gateway.routes import CHAT, EMBEDDINGS, RERANK

COMPATIBLE: Final = "/compatibility/v1"

PROVIDER: Final = Provider(
    slug="cohere",
    name="Cohere",
    api_base="https://api.cohere.ai",
    paths={
        CHAT.name: f"{COMPATIBLE}/chat/completions",
        EMBEDDINGS.name: f"{COMPATIBLE}/embeddings",
        RERANK.name: "/v2/rerank",
    },
)
