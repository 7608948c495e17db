"""
Embeddings, as OpenAI, Voyage, Jina, Mistral and Cohere answer: tokens of input.

Some tell ``prompt_tokens``, some the total only, and some a total of which the prompt is a part:
the larger counts. Voyage tells which of them are text, and the rest comes from pixels. Cohere
tells what it bills in ``meta`` (https://platform.openai.com/docs/api-reference/embeddings/object).
"""

from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage.counts import NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading
from spend.usage.tokens import input_classes

_TOTALS: Final = ("prompt_tokens", "input_tokens", "total_tokens")


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what an answer with embeddings used, None if it tells nothing usable."""
    counts = Counts()
    usage = _billed(counts, inner(answer, "meta", "billed_units"))
    if usage is None:
        usage = _reported(counts, inner(answer, "usage"))
    if usage is None:
        return None
    return reading(counts, usage, service_tier=counts.word(inner(answer), "service_tier"))


def _billed(counts: Counts, billed: Mapping[str, object]) -> dict[Component, int] | None:
    names = ("input_tokens", "image_tokens", "images")
    if all(whole(billed.get(name)) is None for name in names):
        return None
    return {
        Component.INPUT: counts.take(billed, "input_tokens"),
        Component.INPUT_IMAGE: counts.take(billed, "image_tokens"),
        Component.INPUT_IMAGES: counts.take(billed, "images"),
    }


def _reported(counts: Counts, reported: Mapping[str, object]) -> dict[Component, int] | None:
    totals = [whole(reported.get(name)) for name in _TOTALS]
    if all(total is None for total in totals):
        return None
    total = max(counts.take(reported, name) for name in _TOTALS)
    usage = input_classes(counts, total, inner(reported, "prompt_tokens_details"), beside=reported)
    if reported.get("text_tokens") is not None:
        text = counts.take(reported, "text_tokens", at_most=usage[Component.INPUT])
        usage[Component.INPUT_IMAGE] += usage[Component.INPUT] - text
        usage[Component.INPUT] = text
    return usage
