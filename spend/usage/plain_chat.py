"""
The usage of a chat completion as nearly all report it: numbers that fit, and no others.

It reads the same as :mod:`spend.usage.openai_chat` does, at a fraction of the time: each answer is
read while its client waits. Whatever has to be mended, or looked for elsewhere, is not read here.
"""

from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage.counts import COUNT_MAX, NOTHING

_FIELDS: Final = frozenset(
    {
        "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
        "completion_tokens_details",
    }
)  # fmt: skip
_OF_PROMPT: Final = frozenset({"cached_tokens", "audio_tokens"})
_OF_COMPLETION: Final = frozenset(
    {"reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"}
)


def classes(reported: Mapping[str, object]) -> dict[Component, int] | None:
    """Return the classes of a usage that is plain, None if it is not."""
    if not _FIELDS.issuperset(reported):
        return None
    prompt, completion = reported.get("prompt_tokens"), reported.get("completion_tokens")
    of_prompt = _details(reported.get("prompt_tokens_details"), _OF_PROMPT)
    of_completion = _details(reported.get("completion_tokens_details"), _OF_COMPLETION)
    if of_prompt is None or of_completion is None or not (_fits(prompt) and _fits(completion)):
        return None
    assert isinstance(prompt, int)
    assert isinstance(completion, int)
    cached, heard = of_prompt.get("cached_tokens", 0), of_prompt.get("audio_tokens", 0)
    thought, said = of_completion.get("reasoning_tokens", 0), of_completion.get("audio_tokens", 0)
    adds_up = reported.get("total_tokens", prompt + completion) == prompt + completion
    if not adds_up or cached + heard > prompt or thought + said > completion:
        return None
    return {
        Component.INPUT: prompt - cached - heard,
        Component.CACHED_READ: cached,
        Component.INPUT_AUDIO: heard,
        Component.OUTPUT: completion - thought - said,
        Component.REASONING: thought,
        Component.OUTPUT_AUDIO: said,
    }


def _details(value: object, known: frozenset[str]) -> Mapping[str, int] | None:
    """Return counts that are all known and fit, None if one is not."""
    if value is None:
        return NOTHING  # type: ignore[return-value]  # nothing, of whatever type
    if type(value) is not dict or not known.issuperset(value):
        return None
    return value if all(map(_fits, value.values())) else None


def _fits(value: object) -> bool:
    return type(value) is int and 0 <= value <= COUNT_MAX
