"""Images: made of a text, or of a text and other images."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.routes import fields as read
from gateway.routes import forms
from gateway.routes.answers import SAYS_NOTHING, Answers, Json, StreamUsage, Told
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers
from gateway.routes.texts import count_texts
from gateway.written import Written
from spend.components import Component
from spend.usage import Reading, openai_images

IMAGES_MAX: Final = 10
TOKENS_AN_IMAGE_MAX: Final = 16_384
"""More than the dearest size and quality takes, with what is shown of it before it is done
(https://platform.openai.com/docs/guides/image-generation#cost-and-latency)."""
_COMPLETED: Final = ".completed"


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request to make images of a text.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    read.text(fields, "prompt")
    number = read.whole(fields, "n", at_least=1, at_most=IMAGES_MAX) or 1
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        stream=read.typed(fields, "stream", bool) or False,
        **_bounds(number),
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def parse_edit(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a form to change images.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    form = forms.read(body, content_type=headers.get("content-type", ""))
    fields = form.fields()
    read.check_refused(fields)
    read.text(fields, "prompt")
    if not form.files:
        raise InvalidRequest("image must be a file.", param="image")
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        stream=fields.get("stream") == "true",
        **_bounds(_number(fields)),
        bytes_bound_input=False,
        text_bytes=sum(len(value) for _, value in form.texts),
        form=form,
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def _number(fields: Mapping[str, Any]) -> int:
    text = fields.get("n") or "1"
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:3]) <= IMAGES_MAX):
        raise InvalidRequest(f"n must be a whole number from 1 to {IMAGES_MAX}.", param="n")
    return int(text)


def _bounds(number: int) -> dict[str, Any]:
    return {
        "choices": number,
        "output_tokens_asked": TOKENS_AN_IMAGE_MAX,
        "others_max": {Component.IMAGES: number},
        "assumed": {Component.IMAGES: number},
    }


class ImageAnswers(Answers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return openai_images.read(reply, request=request)

    def stream(self, request: Json) -> StreamUsage:
        return openai_images.Stream(request=request)

    def note_event(self, event: Json, written: Written) -> Told:
        kind = event.get("type")
        is_done = isinstance(kind, str) and kind.endswith(_COMPLETED)
        return Told(is_whole=True) if is_done else SAYS_NOTHING

    def count_prompt(self, request: Json, *, model: str) -> int:
        return count_texts([request.get("prompt")], model=model)
