"""Transcriptions and translations of speech: a form with a file, text out."""

from typing import Final

from gateway.errors import InvalidRequest
from gateway.routes import fields as read
from gateway.routes import forms, sound
from gateway.routes.answers import ENDS, GOES_ON, SAYS_NOTHING, Answers, Json, StreamUsage, Told
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers
from gateway.routes.texts import count_texts
from gateway.written import Written
from spend.components import Component
from spend.usage import Reading, openai_transcription

TEXT: Final = (0, "")
_DONE: Final = "transcript.text.done"
_DELTA: Final = "transcript.text.delta"


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    form = forms.read(body, content_type=headers.get("content-type", ""))
    fields = form.fields()
    read.check_refused(fields)
    files = [each for each in form.files if each.field == "file"]
    if len(files) != 1:
        raise InvalidRequest("file must be one file.", param="file")
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        stream=fields.get("stream") == "true",
        bytes_bound_input=False,
        text_bytes=sum(len(value) for _, value in form.texts),
        others_max={Component.INPUT_AUDIO_MS: sound.milliseconds_max(files[0].data)},
        assumed={Component.INPUT_AUDIO_MS: sound.milliseconds(files[0].data, name=files[0].name)},
        form=form,
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


class TranscriptionAnswers(Answers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return openai_transcription.read(reply, request=request)

    def read_opaque(self, body: bytes, *, request: Json, written: Written) -> Reading | None:
        written.add_text(TEXT, body.decode(errors="replace"))
        return None

    def stream(self, request: Json) -> StreamUsage:
        return openai_transcription.Stream(request=request)

    def note(self, reply: Json, written: Written) -> None:
        if isinstance(text := reply.get("text"), str):
            written.add_text(TEXT, text)

    def note_event(self, event: Json, written: Written) -> Told:
        if event.get("type") == _DONE:
            return ENDS
        if event.get("type") == _DELTA and isinstance(text := event.get("delta"), str):
            written.add_text(TEXT, text)
            return GOES_ON
        return SAYS_NOTHING

    def count_prompt(self, request: Json, *, model: str) -> int:
        return count_texts([request.get("prompt")], model=model)
