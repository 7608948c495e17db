"""
Reads the usage that a provider reports into disjoint classes that add up.

Nonsense is clamped by a stated rule and flagged, never trusted and never a crash: a count that is
no whole number from 0 to 10⁹ is 0; parts that exceed their whole are cut to it. Without a usable
``prompt_tokens`` or ``completion_tokens`` there is no usage at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spend.components import OUTPUT_COMPONENTS, Component, Usage, total_of

TOKENS_MAX: Final = 10**9


@dataclass(frozen=True, slots=True)
class Reading:
    usage: Usage
    was_clamped: bool


class _Counts:
    """Takes whole numbers out of a mapping and remembers whether one had to be mended."""

    def __init__(self) -> None:
        self.clamped = False

    def take(self, source: Mapping[str, object], name: str, *, at_most: int = TOKENS_MAX) -> int:
        value = source.get(name)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.clamped = True
            return 0
        if value > at_most:
            self.clamped = True
        return min(value, at_most)


def of_openai_chat(reported: object) -> Reading | None:
    """
    Return the classes of a chat completion's ``usage``, or None if it tells nothing usable.

    ``prompt_tokens`` includes cached and audio tokens, ``completion_tokens`` includes reasoning
    and audio (https://platform.openai.com/docs/api-reference/chat/object).
    """
    if not isinstance(reported, Mapping) or not _is_usable(reported):
        return None
    counts = _Counts()
    prompt = counts.take(reported, "prompt_tokens")
    completion = counts.take(reported, "completion_tokens")
    usage = _input(counts, prompt, _details(reported, "prompt_tokens_details"))
    # Some providers leave reasoning out of completion_tokens and have it in the total only.
    apart = max(0, counts.take(reported, "total_tokens") - prompt - completion)
    details = _details(reported, "completion_tokens_details")
    usage |= _output(counts, completion + apart, details, reasoning_at_least=apart)
    usage[Component.REQUEST] = 1
    return Reading({k: n for k, n in usage.items() if n}, counts.clamped)


def _is_usable(reported: Mapping[str, object]) -> bool:
    return all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX
        for value in (reported.get("prompt_tokens"), reported.get("completion_tokens"))
    )


def _details(reported: Mapping[str, object], name: str) -> Mapping[str, object]:
    details = reported.get(name)
    return details if isinstance(details, Mapping) else {}


def _input(counts: _Counts, prompt: int, details: Mapping[str, object]) -> dict[Component, int]:
    cached = counts.take(details, "cached_tokens", at_most=prompt)
    written = _written(counts, details, at_most=prompt - cached)
    left = prompt - cached - sum(written.values())
    audio = counts.take(details, "audio_tokens", at_most=left)
    return {
        Component.INPUT: left - audio,
        Component.CACHED_READ: cached,
        Component.INPUT_AUDIO: audio,
        **written,
    }


def _written(
    counts: _Counts, details: Mapping[str, object], *, at_most: int
) -> dict[Component, int]:
    """Return cache writes, which some providers report, with or without their lifetime."""
    has_first = details.get("cache_write_tokens") is not None
    name = "cache_write_tokens" if has_first else "cache_creation_tokens"
    written = counts.take(details, name, at_most=at_most)
    split = _details(details, "cache_creation_token_details")
    hour = counts.take(split, "ephemeral_1h_input_tokens", at_most=written)
    return {Component.CACHE_WRITE_5M: written - hour, Component.CACHE_WRITE_1H: hour}


def _output(
    counts: _Counts, completion: int, details: Mapping[str, object], *, reasoning_at_least: int
) -> dict[Component, int]:
    told = counts.take(details, "reasoning_tokens", at_most=completion)
    reasoning = max(told, reasoning_at_least)
    audio = counts.take(details, "audio_tokens", at_most=completion - reasoning)
    return {
        Component.OUTPUT: completion - reasoning - audio,
        Component.REASONING: reasoning,
        Component.OUTPUT_AUDIO: audio,
    }


def larger(told: Usage, seen: Usage) -> Usage:
    """Return ``told``, its output raised to what was seen of it: the telling was cut off."""
    missing = total_of(seen, OUTPUT_COMPONENTS) - total_of(told, OUTPUT_COMPONENTS)
    return {**told, Component.OUTPUT: told.get(Component.OUTPUT, 0) + max(0, missing)}


BYTES_PER_TOKEN: Final = 4


def estimated(*, prompt_bytes: int, output_bytes: int) -> Usage:
    """Return the usage of an answer that told none: a token for every four bytes, rounded up."""
    return {
        Component.INPUT: -(-prompt_bytes // BYTES_PER_TOKEN),
        Component.OUTPUT: -(-output_bytes // BYTES_PER_TOKEN),
        Component.REQUEST: 1,
    }
