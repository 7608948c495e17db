"""Speech made of a text; the answer is sound, or events with pieces of it."""

from typing import Final

from gateway.routes import fields as read
from gateway.routes.answers import ENDS, GOES_ON, Answers, Json, StreamUsage, Told
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers
from gateway.routes.texts import count_texts
from gateway.written import Written
from spend.components import Component
from spend.usage import Reading, openai_speech

MS_A_CHARACTER_MAX: Final = 500
"""Nobody speaks slower than two characters a second."""
TOKENS_A_CHARACTER_MAX: Final = 10
"""A second of sound has 20 tokens."""
_DONE: Final = "speech.audio.done"
_EVENTS: Final = "sse"


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    text = read.text(fields, "input")
    length = len(text)
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        stream=fields.get("stream_format") == _EVENTS,
        output_tokens_asked=max(length * TOKENS_A_CHARACTER_MAX, TOKENS_A_CHARACTER_MAX),
        others_max={
            Component.INPUT_CHARACTERS: length,
            Component.OUTPUT_AUDIO_MS: length * MS_A_CHARACTER_MAX,
        },
        assumed={Component.INPUT_CHARACTERS: length},
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


class SpeechAnswers(Answers):
    """Sound tells no usage: what is paid is in the request."""

    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return openai_speech.read(reply, request=request)

    def read_opaque(self, body: bytes, *, request: Json, written: Written) -> Reading | None:
        return openai_speech.read(None, request=request)

    def stream(self, request: Json) -> StreamUsage:
        return openai_speech.Stream(request=request)

    def note_event(self, event: Json, written: Written) -> Told:
        return ENDS if event.get("type") == _DONE else GOES_ON

    def count_prompt(self, request: Json, *, model: str) -> int:
        return count_texts([request.get("input"), request.get("instructions")], model=model)
