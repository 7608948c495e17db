"""
Speech made of text, as OpenAI's and compatible APIs answer: mostly with nothing but audio.

So the characters of the request count. Where the last event of a stream tells tokens they are
read too, as it is the price that decides; the output is audio
(https://platform.openai.com/docs/api-reference/audio/speech-audio-done-event).
"""

from collections.abc import Mapping

from spend.components import Component
from spend.usage.counts import COUNT_MAX, NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading
from spend.usage.tokens import input_classes


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what speech used, None if neither the answer nor the request tells it."""
    counts = Counts()
    usage = _tokens(counts, inner(answer, "usage"))
    text = request.get("input")
    if usage is None and not isinstance(text, str):
        return None
    spoken = counts.cut(len(text), at_most=COUNT_MAX) if isinstance(text, str) else 0
    return reading(counts, {**(usage or {}), Component.INPUT_CHARACTERS: spoken})


class Stream:
    """Reads the events of streamed speech: the last one has the usage."""

    def __init__(self, *, request: Mapping[str, object] = NOTHING) -> None:
        self._request = request
        self._last: object = None

    def add(self, event: object) -> None:
        """Take over what an event tells."""
        if _tokens(Counts(), inner(event, "usage")) is not None:
            self._last = {"usage": inner(event, "usage")}

    def reading(self) -> Reading | None:
        """Return what the events so far and the request tell."""
        return read(self._last, request=self._request)


def _tokens(counts: Counts, reported: Mapping[str, object]) -> dict[Component, int] | None:
    total_in = whole(reported.get("input_tokens"))
    total_out = whole(reported.get("output_tokens"))
    if total_in is None or total_out is None:
        return None
    usage = input_classes(counts, total_in, inner(reported, "input_token_details"))
    return {**usage, Component.OUTPUT_AUDIO: total_out}
