"""
Batches, as OpenAI's and compatible APIs answer: the whole batch, or a line of its output.

A line has the answer of its request in ``response.body``, read as the object that it is. Its tier
is ``batch``, whatever it says (https://platform.openai.com/docs/api-reference/batch/object).
"""

from collections.abc import Mapping
from dataclasses import replace

from spend.usage import openai_chat, openai_embeddings, openai_responses
from spend.usage.counts import NOTHING, inner
from spend.usage.reading import Reading

BATCH = "batch"


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a batch or a line of one used, None if it tells nothing usable."""
    body = inner(answer, "response", "body") or inner(answer)
    told = (
        openai_responses.read(body, request=request)
        or openai_chat.read(body, request=request)
        or openai_embeddings.read(body, request=request)
    )
    return replace(told, service_tier=BATCH) if told else None
