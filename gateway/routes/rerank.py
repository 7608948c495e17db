"""Reranking: which of these documents answer the query?"""

from typing import Any, Final

import orjson

from gateway.errors import InvalidRequest
from gateway.routes import fields as read
from gateway.routes.answers import Answers, Json
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers
from gateway.routes.texts import count_texts
from spend.components import Component
from spend.usage import Reading, rerank

DOCUMENTS_MAX: Final = 10_000
DOCUMENTS_A_SEARCH: Final = 100
TOKENS_A_DOCUMENT: Final = 500
"""Cohere bills one search for so many documents, and longer ones as several
(https://docs.cohere.com/docs/how-does-cohere-pricing-work)."""


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    query, documents = read.text(fields, "query"), read.filled_list(fields, "documents")
    if len(documents) > DOCUMENTS_MAX:
        raise InvalidRequest(f"At most {DOCUMENTS_MAX} documents.", param="documents")
    chunks = len(documents) + len(body) // TOKENS_A_DOCUMENT
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        output_tokens_asked=0,
        bytes_bound_input=all(_is_text(each) for each in documents),
        # Some bill the query once for each document.
        input_tokens_beyond=len(query.encode(errors="replace")) * (len(documents) - 1),
        others_max={Component.QUERY: -(-chunks // DOCUMENTS_A_SEARCH)},
        assumed={Component.QUERY: -(-len(documents) // DOCUMENTS_A_SEARCH)},
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def _is_text(document: Any) -> bool:
    if isinstance(document, dict):
        return all(isinstance(value, str) for value in document.values())
    return isinstance(document, str)


class RerankAnswers(Answers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return rerank.read(reply, request=request)

    def count_prompt(self, request: Json, *, model: str) -> int:
        documents = request.get("documents")
        listed = documents if isinstance(documents, list) else []
        texts = [orjson.dumps(d).decode() if isinstance(d, dict) else d for d in listed]
        return count_texts([request.get("query"), texts], model=model)
