"""
Documents that are read page by page, as Mistral answers.

A page is an annotated one if the request asks for annotations: those have a price of their own
(https://docs.mistral.ai/api/endpoint/ocr).
"""

from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage.counts import NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading

_ANNOTATIONS: Final = ("document_annotation_format", "bbox_annotation_format")


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what an answer with pages used, None if it does not tell how many."""
    told = inner(answer, "usage_info")
    if whole(told.get("pages_processed")) is None:
        return None
    counts = Counts()
    pages = counts.take(told, "pages_processed")
    is_annotated = any(request.get(name) is not None for name in _ANNOTATIONS)
    kind = Component.ANNOTATED_PAGE if is_annotated else Component.PAGE
    return reading(counts, {kind: pages})
