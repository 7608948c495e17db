"""
Videos, as OpenAI's and compatible APIs answer: seconds of a resolution.

The answer tells a job; one that failed has used nothing. The resolution is told as such, or is the
shorter side of the size (https://platform.openai.com/docs/api-reference/videos/object).
"""

import re
from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage.counts import NOTHING, Counts, inner, milliseconds
from spend.usage.reading import Reading, reading

_SIZE: Final = re.compile(r"([0-9]{2,5})(?:x|-x-)([0-9]{2,5})")
_LENGTHS: Final = ("seconds", "duration")


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a video used, None if neither the answer nor the request tells its length."""
    counts = Counts()
    told = inner(answer)
    if told.get("status") == "failed":
        return Reading(usage={}, was_clamped=False)
    made = _length(counts, told, request)
    if made is None:
        return None
    return reading(
        counts,
        {Component.OUTPUT_VIDEO_MS: made},
        variant=_resolution(counts, told) or _resolution(counts, request),
    )


def _length(
    counts: Counts, answer: Mapping[str, object], request: Mapping[str, object]
) -> int | None:
    for source in (inner(answer, "usage"), answer, request):
        for name in _LENGTHS:
            if milliseconds(source.get(name)) is not None:
                return counts.milliseconds(source, name)
    return None


def _resolution(counts: Counts, source: Mapping[str, object]) -> str:
    if told := counts.word(source, "resolution"):
        return told
    size = _SIZE.fullmatch(counts.word(source, "size"))
    return f"{min(int(size[1]), int(size[2]))}p" if size else ""
