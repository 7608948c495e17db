"""
Transcriptions and translations of speech, as OpenAI, Groq, Mistral and vLLM answer.

The usage is one of tokens or one of seconds; what is not told to be text of the input is audio.
Without a usage the ``duration`` of a verbose answer counts. Mistral tells seconds and tokens; the
tokens of its audio are in the total only, and are paid by the seconds
(https://platform.openai.com/docs/api-reference/audio/json-object).
"""

from collections.abc import Mapping

from spend.components import Component
from spend.usage import openai_chat
from spend.usage.counts import NOTHING, Counts, inner, milliseconds, whole
from spend.usage.reading import Reading, reading
from spend.usage.streams import LastTold
from spend.usage.tokens import input_classes, output_classes


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a transcription used, None if it tells nothing usable."""
    counts = Counts()
    reported = inner(answer, "usage")
    usage = (
        _tokens(counts, reported)
        or openai_chat.classes(counts, reported, request=NOTHING)
        or _seconds(counts, reported, "seconds")
        or _seconds(counts, inner(answer), "duration")
    )
    return None if usage is None else reading(counts, usage)


class Stream(LastTold):
    """Reads the events of a streamed transcription: the last one has the usage."""

    def __init__(self, *, request: Mapping[str, object] = NOTHING) -> None:
        super().__init__(read, request=request)


def _tokens(counts: Counts, reported: Mapping[str, object]) -> dict[Component, int] | None:
    total_in = whole(reported.get("input_tokens"))
    total_out = whole(reported.get("output_tokens"))
    if total_in is None or total_out is None:
        return None
    details = inner(reported, "input_token_details") or inner(reported, "input_tokens_details")
    usage = input_classes(counts, total_in, details)
    left = usage[Component.INPUT]
    usage[Component.INPUT] = counts.take(details, "text_tokens", at_most=left)
    usage[Component.INPUT_AUDIO] += left - usage[Component.INPUT]
    return usage | output_classes(counts, total_out, inner(reported, "output_token_details"))


def _seconds(
    counts: Counts, source: Mapping[str, object], name: str
) -> dict[Component, int] | None:
    if milliseconds(source.get(name)) is None:
        return None
    return {Component.INPUT_AUDIO_MS: counts.milliseconds(source, name)}
