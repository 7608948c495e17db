"""Embeddings: tokens in, no tokens out."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.routes import fields as read
from gateway.routes.answers import Answers, Json
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers
from gateway.routes.texts import count_texts
from spend.usage import Reading, openai_embeddings

INPUTS_MAX: Final = 10_000


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        output_tokens_asked=0,
        bytes_bound_input=is_text(input_of(fields)),
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def input_of(fields: Mapping[str, Any]) -> str | list[Any]:
    given = fields.get("input")
    if not isinstance(given, str | list) or not given:
        raise InvalidRequest("input must be text, or a list that is not empty.", param="input")
    if len(given) > INPUTS_MAX and isinstance(given, list):
        raise InvalidRequest(f"input may have {INPUTS_MAX} items at most.", param="input")
    return given


def is_text(given: str | list[Any]) -> bool:
    """Whether each token has a byte of its own: text, and tokens by their numbers."""
    return isinstance(given, str) or all(isinstance(each, str | int | list) for each in given)


class EmbeddingAnswers(Answers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return openai_embeddings.read(reply, request=request)

    def count_prompt(self, request: Json, *, model: str) -> int:
        return count_texts([request.get("input")], model=model)
