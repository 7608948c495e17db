"""
Reranking, as Cohere, Jina, Voyage, Together and vLLM answer.

Cohere bills search units; its tokens are not billed and not read. Others bill tokens, and all of
them are input (https://docs.cohere.com/reference/rerank, https://jina.ai/reranker).
"""

from collections.abc import Mapping

from spend.components import Component
from spend.usage import openai_embeddings
from spend.usage.counts import NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a reranking used, None if it tells nothing usable."""
    for billed in (inner(answer, "meta", "billed_units"), inner(answer, "usage")):
        if whole(billed.get("search_units")) is not None:
            counts = Counts()
            return reading(counts, {Component.QUERY: counts.take(billed, "search_units")})
    return openai_embeddings.read(answer, request=request)
