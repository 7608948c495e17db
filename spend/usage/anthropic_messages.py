"""
Messages, as Anthropic, Bedrock and Vertex answer for Claude.

``input_tokens`` excludes what was read from the cache and written to it, so that the input is the
sum of the three. Writes for an hour are told apart; where they are not, all are for 5 minutes.
Thinking is a part of the output, if told. What a compaction used is in ``iterations`` only and is
added; so is what an adviser used, another model, which is told as mended since it has a price of
its own (https://platform.claude.com/docs/en/api/messages).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage.counts import NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading
from spend.usage.streams import Merged
from spend.usage.tokens import output_classes

_APART: Final = frozenset({"compaction", "advisor_message"})
_NO_REGIONS: Final = frozenset({"global", "not_available"})


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a message used, None if it tells nothing usable."""
    counts = Counts()
    reported = inner(answer, "usage")
    usage = _classes(counts, reported)
    if usage is None:
        return None
    for iteration in _apart(counts, reported):
        usage.update(_classes(counts, iteration) or {})
    searches = counts.take(inner(reported, "server_tool_use"), "web_search_requests")
    usage[Component.WEB_SEARCH] = searches
    region = counts.word(reported, "inference_geo")
    speed = counts.word(reported, "speed")
    return reading(
        counts,
        usage,
        service_tier=counts.word(reported, "service_tier"),
        variant="" if speed == "standard" else speed,
        region="" if region in _NO_REGIONS else region,
    )


class Stream:
    """Reads the events of a streamed message: its start tells the input, its deltas the output."""

    def __init__(self, *, request: Mapping[str, object] = NOTHING) -> None:
        self._request = request
        self._merged = Merged()

    def add(self, event: object) -> None:
        """Take over what an event tells."""
        for told in (inner(event, "message", "usage"), inner(event, "usage")):
            self._merged.add({"usage": told})

    def reading(self) -> Reading | None:
        """Return what the events so far tell together."""
        return read(self._merged.report, request=self._request)


def _classes(counts: Counts, reported: Mapping[str, object]) -> Counter[Component] | None:
    fresh = whole(reported.get("input_tokens"))
    written_out = whole(reported.get("output_tokens"))
    if fresh is None or written_out is None:
        return None
    usage = Counter(output_classes(counts, written_out, inner(reported, "output_tokens_details")))
    usage[Component.INPUT] = fresh
    usage[Component.CACHED_READ] = counts.take(reported, "cache_read_input_tokens")
    usage.update(_cache_writes(counts, reported))
    return usage


def _cache_writes(counts: Counts, reported: Mapping[str, object]) -> dict[Component, int]:
    split = inner(reported, "cache_creation")
    short = counts.take(split, "ephemeral_5m_input_tokens")
    hour = counts.take(split, "ephemeral_1h_input_tokens")
    if not (total := counts.take(reported, "cache_creation_input_tokens")):
        return {Component.CACHE_WRITE_5M: short, Component.CACHE_WRITE_1H: hour}
    hour = counts.cut(hour, at_most=total)
    counts.cut(short, at_most=total - hour)
    return {Component.CACHE_WRITE_5M: total - hour, Component.CACHE_WRITE_1H: hour}


def _apart(counts: Counts, reported: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Return what was used beside the message itself."""
    kinds = [(each.get("type"), each) for each in counts.items(reported.get("iterations"))]
    beside = [(kind, each) for kind, each in kinds if isinstance(kind, str) and kind in _APART]
    counts.clamped = counts.clamped or any(kind == "advisor_message" for kind, _ in beside)
    return [each for _, each in beside]
