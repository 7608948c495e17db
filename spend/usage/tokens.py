"""Splits a total of tokens into its classes, as OpenAI's shapes tell them and all who follow."""

from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage.counts import NOTHING, Counts, inner

_CACHED: Final = (
    "cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens",
    "cached_prompt_text_tokens",
)  # fmt: skip
_WRITTEN: Final = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_WRITTEN_SPLITS: Final = (
    "cache_creation_token_details", "cache_write_tokens_details", "cache_creation",
)  # fmt: skip
_LASTING: Final = ("ephemeral_1h_input_tokens", "ttl_12h_tokens")
"""Written to be kept for an hour and longer."""
_REASONING: Final = ("reasoning_tokens", "thinking_tokens")

Told = Mapping[str, object]


def input_classes(
    counts: Counts, total: int, details: Told, *, beside: Told = NOTHING
) -> dict[Component, int]:
    """Split the tokens of an input; the cache may be told ``beside`` its details."""
    told = (details, beside)
    cached = counts.first(told, _CACHED, at_most=total)
    written = _written(counts, told, at_most=total - cached)
    left = total - cached - sum(written.values())
    of_cache = [inner(each, "cached_tokens_details") for each in told]
    audio_hit = counts.first(of_cache, ("audio_tokens", "cached_audio_tokens"), at_most=cached)
    image_hit = counts.first(
        of_cache, ("image_tokens", "cached_image_tokens"), at_most=cached - audio_hit
    )
    audio = _missed(counts, details, "audio_tokens", hit=audio_hit, at_most=left)
    image = _missed(counts, details, "image_tokens", hit=image_hit, at_most=left - audio)
    video = counts.take(details, "video_tokens", at_most=left - audio - image)
    return {
        Component.INPUT: left - audio - image - video,
        Component.CACHED_READ: cached - audio_hit - image_hit,
        Component.CACHED_READ_AUDIO: audio_hit,
        Component.CACHED_READ_IMAGE: image_hit,
        Component.INPUT_AUDIO: audio,
        Component.INPUT_IMAGE: image,
        Component.INPUT_VIDEO: video,
        **written,
    }


def output_classes(
    counts: Counts,
    total: int,
    details: Told,
    *,
    beside: Told = NOTHING,
    reasoning_at_least: int = 0,
) -> dict[Component, int]:
    """Split the tokens of an output; reasoning may be told ``beside`` its details."""
    told = counts.first((details, beside), _REASONING, at_most=total)
    reasoning = max(told, reasoning_at_least)
    audio = counts.take(details, "audio_tokens", at_most=total - reasoning)
    image = counts.take(details, "image_tokens", at_most=total - reasoning - audio)
    video = counts.take(details, "video_tokens", at_most=total - reasoning - audio - image)
    return {
        Component.OUTPUT: total - reasoning - audio - image - video,
        Component.REASONING: reasoning,
        Component.OUTPUT_AUDIO: audio,
        Component.OUTPUT_IMAGE: image,
        Component.OUTPUT_VIDEO: video,
    }


def apart(counts: Counts, reported: Told, told: int) -> int:
    """Return the tokens that only the total has: some leave reasoning out of the output."""
    return max(0, counts.take(reported, "total_tokens") - told)


def _written(counts: Counts, told: tuple[Told, ...], *, at_most: int) -> dict[Component, int]:
    """Return what was written to the cache, with or without for how long."""
    written = counts.first(told, _WRITTEN, at_most=at_most)
    splits = [inner(each, name) for each in told for name in _WRITTEN_SPLITS]
    lasting = counts.first(splits, _LASTING, at_most=written)
    return {Component.CACHE_WRITE_5M: written - lasting, Component.CACHE_WRITE_1H: lasting}


def _missed(counts: Counts, details: Told, name: str, *, hit: int, at_most: int) -> int:
    """Return the tokens of a kind that the cache has not; those it has are told among them."""
    among = counts.take(details, name)
    counts.clamped = counts.clamped or 0 < among < hit
    return counts.cut(max(0, among - hit), at_most=at_most)
