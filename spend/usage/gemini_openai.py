"""
Gemini at its OpenAI-compatible endpoints, and what differs there from other chat completions.

Thoughts are in the total only, which ``openai_chat`` reads; ``completion_tokens`` is left out
where nothing but thoughts was written; Vertex tells the tier that served as the type of traffic;
every chunk of a stream repeats the usage, growing
(https://ai.google.dev/gemini-api/docs/openai).
"""

from collections.abc import Mapping
from typing import Final

from spend.usage import openai_chat
from spend.usage.counts import NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading

_TIERS: Final[Mapping[str, str]] = {
    "on_demand": "default",
    "on_demand_priority": "priority",
    "on_demand_flex": "flex",
}


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a chat completion of Gemini used, None if it tells nothing usable."""
    counts = Counts()
    reported = _completed(openai_chat.reported_in(answer))
    usage = openai_chat.classes(counts, reported, request=request)
    if usage is None:
        return None
    return reading(counts, usage, service_tier=_tier(counts, answer, reported))


class Stream(openai_chat.Stream):
    """Reads the chunks of a streamed chat completion of Gemini."""

    def reading(self) -> Reading | None:
        """Return what all chunks so far tell together."""
        return read(self._merged.report, request=self._request)


def _completed(reported: Mapping[str, object]) -> Mapping[str, object]:
    is_left_out = reported.get("completion_tokens") is None
    if is_left_out and whole(reported.get("total_tokens")) is not None:
        return {**reported, "completion_tokens": 0}
    return reported


def _tier(counts: Counts, answer: object, reported: Mapping[str, object]) -> str:
    told = counts.word(inner(answer), "service_tier")
    traffic = counts.word(inner(reported, "extra_properties", "google"), "traffic_type")
    return told or _TIERS.get(traffic, traffic)
