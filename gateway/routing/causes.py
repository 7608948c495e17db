"""
Why a request was refused by a provider in a way that another model may cure: it was too long, or
its content was not allowed.

Providers say so in codes, and where they have none, in words of the message; what is here are
those of their documentation and of answers that were seen.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

import orjson

BODY_BYTES_MAX: Final = 64 * 2**10
MESSAGE_LENGTH_MAX: Final = 4_096
STATUSES: Final = frozenset({400, 403, 413, 422})


class Cause(StrEnum):
    """Why another model is tried."""

    DEFAULT = "default"
    """No deployment of the model gave an answer, or none had room."""
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"
    BUDGET = "budget"
    """A budget for the model, or of whoever asks, leaves no room for it."""


_CODES: Final[Mapping[str, Cause]] = {
    # OpenAI, Azure OpenAI, Groq, OpenRouter; in `code`.
    "context_length_exceeded": Cause.CONTEXT_WINDOW,
    # OpenRouter's error types beside it.
    "token_limit_exceeded": Cause.CONTEXT_WINDOW,
    # llama.cpp's server; in `type`.
    "exceed_context_size_error": Cause.CONTEXT_WINDOW,
    # OpenAI: images, and since 2025 their edits; reasoning models that flag a prompt have words.
    "content_policy_violation": Cause.CONTENT_POLICY,
    "moderation_blocked": Cause.CONTENT_POLICY,
    # Azure OpenAI: `code`, and the inner error's.
    "content_filter": Cause.CONTENT_POLICY,
    "responsibleaipolicyviolation": Cause.CONTENT_POLICY,
}
_PHRASES: Final[tuple[tuple[str, Cause], ...]] = (
    # OpenAI, Azure, vLLM, DeepSeek, Together: "This model's maximum context length is 8192 …".
    ("maximum context length", Cause.CONTEXT_WINDOW),
    # OpenAI says "Input tokens exceed the configured limit of 272000 tokens".
    ("input tokens exceed the configured limit", Cause.CONTEXT_WINDOW),
    # Anthropic, and its models at Bedrock: "prompt is too long: 210543 tokens > 200000 maximum".
    ("prompt is too long", Cause.CONTEXT_WINDOW),
    # Anthropic: "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000".
    ("exceed context limit", Cause.CONTEXT_WINDOW),
    # Gemini: "The input token count (1200000) exceeds the maximum number of tokens allowed …".
    ("exceeds the maximum number of tokens allowed", Cause.CONTEXT_WINDOW),
    # Mistral: "Prompt contains 40000 tokens …, too large for model with 32768 maximum context".
    ("too large for model with", Cause.CONTEXT_WINDOW),
    # Bedrock: "Input is too long for requested model.", "Too many input tokens".
    ("input is too long", Cause.CONTEXT_WINDOW),
    ("too many input tokens", Cause.CONTEXT_WINDOW),
    # vLLM says "The decoder prompt (length 9000) is longer than the maximum model length of 8192".
    ("longer than the maximum model length", Cause.CONTEXT_WINDOW),
    # xAI: "This model's maximum prompt length is 131072 but the request contains …".
    ("maximum prompt length", Cause.CONTEXT_WINDOW),
    # llama.cpp: "the request exceeds the available context size".
    ("exceeds the available context size", Cause.CONTEXT_WINDOW),
    # Azure OpenAI, where a proxy before it has dropped the code.
    ("content management policy", Cause.CONTENT_POLICY),
    # OpenAI says "Your request was rejected as a result of our safety system".
    ("result of our safety system", Cause.CONTENT_POLICY),
    # OpenAI's reasoning models: "… flagged as potentially violating our usage policy."
    ("violating our usage policy", Cause.CONTENT_POLICY),
    # Anthropic: "Output blocked by content filtering policy".
    ("content filtering policy", Cause.CONTENT_POLICY),
    # Bedrock's Titan: "… has been blocked by our content filters."
    ("blocked by our content filters", Cause.CONTENT_POLICY),
    # Gemini, Vertex: "… violate Google's Responsible AI practices".
    ("responsible ai practices", Cause.CONTENT_POLICY),
    # OpenRouter, with 403: "… requires moderation … Your input was flagged for …".
    ("input was flagged", Cause.CONTENT_POLICY),
)


def cause_of_error(status: int, body: bytes) -> Cause | None:
    """
    Return why a provider has refused a request, if another model may take it; None: for another
    reason, or nobody can tell. Bodies beyond 64 KiB are not read.
    """
    if status not in STATUSES or len(body) > BODY_BYTES_MAX:
        return None
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = _error(told)
    return next(filter(None, map(_CODES.get, _codes(error))), None) or _by_words(error)


def _error(told: Any) -> Mapping[str, Any]:
    """Return the error itself: some wrap it in a list, some in ``error``, some in nothing."""
    if isinstance(told, list) and told:
        told = told[0]
    inner = told.get("error", told) if isinstance(told, dict) else told
    if isinstance(inner, str):
        return {"message": inner}
    return inner if isinstance(inner, dict) else {}


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    inner = error.get("innererror")
    for part in (error, inner if isinstance(inner, dict) else {}):
        for name in ("code", "type"):
            if isinstance(code := part.get(name), str):
                yield code.lower()


def _by_words(error: Mapping[str, Any]) -> Cause | None:
    message = error.get("message")
    if not isinstance(message, str):
        return None
    words = message[:MESSAGE_LENGTH_MAX].lower()
    return next((cause for phrase, cause in _PHRASES if phrase in words), None)
