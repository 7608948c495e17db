"""Moderations: is this text, or this picture, allowed?"""

from gateway.routes import embeddings
from gateway.routes import fields as read
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers

DEFAULT_MODEL = "omni-moderation-latest"
"""OpenAI's SDK may leave the model out."""


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = {"model": DEFAULT_MODEL} | read.of_body(body)
    given = embeddings.input_of(fields)
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        output_tokens_asked=0,
        bytes_bound_input=embeddings.is_text(given),
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )
