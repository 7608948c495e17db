"""
Images, as OpenAI's and compatible APIs answer: by tokens, and by number, size and quality.

GPT image models tell tokens; what is told of their output to be neither text nor image is image.
Others tell none, and are paid by the images in ``data``; both are read, as it is the price that
decides (https://platform.openai.com/docs/api-reference/images/object).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage.counts import ITEMS_MAX, NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading
from spend.usage.tokens import input_classes, output_classes

_DONE: Final = frozenset({"image_generation.completed", "image_edit.completed"})


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what an answer with images used, None if it has neither images nor usage."""
    counts = Counts()
    told = inner(answer)
    usage = classes(counts, inner(told, "usage"))
    made = len(counts.items(told.get("data")))
    if usage is None and not made:
        return None
    usage = {**(usage or {}), Component.IMAGES: made}
    variant = _variant(counts, told, request)
    tier = counts.word(told, "service_tier")
    return reading(counts, usage, variant=variant, service_tier=tier)


class Stream:
    """Reads the events of streamed images: each that is done has a usage of its own."""

    def __init__(self, *, request: Mapping[str, object] = NOTHING) -> None:
        self._request = request
        self._done: list[Reading] = []
        self._is_cut = False

    def add(self, event: object) -> None:
        """Take over what an event tells."""
        told = inner(event)
        kind = told.get("type")
        if not isinstance(kind, str) or kind not in _DONE:
            return
        self._is_cut = len(self._done) == ITEMS_MAX
        if not self._is_cut and (one := read({**told, "data": [{}]}, request=self._request)):
            self._done.append(one)

    def reading(self) -> Reading | None:
        """Return what all images so far used."""
        if not self._done:
            return None
        usage: Counter[Component] = Counter()
        for one in self._done:
            usage.update(one.usage)
        counts = Counts()
        counts.clamped = self._is_cut or any(one.was_clamped for one in self._done)
        last = self._done[-1]
        return reading(counts, usage, variant=last.variant, service_tier=last.service_tier)


def classes(counts: Counts, reported: Mapping[str, object]) -> dict[Component, int] | None:
    """Return the classes of an image's usage, None if its totals are not usable."""
    total_in = whole(reported.get("input_tokens"))
    total_out = whole(reported.get("output_tokens"))
    if total_in is None or total_out is None:
        return None
    details = inner(reported, "output_tokens_details")
    usage = output_classes(counts, total_out, details)
    left = usage[Component.OUTPUT]
    usage[Component.OUTPUT] = counts.take(details, "text_tokens", at_most=left)
    usage[Component.OUTPUT_IMAGE] += left - usage[Component.OUTPUT]
    in_details = inner(reported, "input_tokens_details")
    return {**usage, **input_classes(counts, total_in, in_details, beside=reported)}


def _variant(counts: Counts, answer: Mapping[str, object], request: Mapping[str, object]) -> str:
    """Return "quality/size" of what was made, each left out where nobody told it."""
    words = (_word(counts, answer, request, name) for name in ("quality", "size"))
    return "/".join(word.replace("-x-", "x") for word in words if word)


def _word(
    counts: Counts, answer: Mapping[str, object], request: Mapping[str, object], name: str
) -> str:
    words = (counts.word(answer, name), counts.word(request, name))
    return next((word for word in words if word not in {"", "auto"}), "")
