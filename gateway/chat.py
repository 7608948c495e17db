"""Reads a chat completion request: what it asks for, what bounds its cost, and what is sent on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from budgets.models import END_USER_BYTES_MAX, TAG_BYTES_MAX, TAGS_PER_REQUEST_MAX
from gateway.errors import InvalidRequest, UnsupportedParameter

CHOICES_MAX: Final = 128
TOKENS_ASKED_MAX: Final = 10**9
MODEL_NAME_MAX: Final = 255
SERVICE_TIER_MAX: Final = 24
_TEXT_PARTS: Final = frozenset({"text", "refusal"})
_SEARCH_FIELDS: Final = ("web_search_options", "plugins", "search_parameters")
# Fields that make the provider read or do more than the bytes of the request say.
_UNBOUNDED_FIELDS: Final = (
    *_SEARCH_FIELDS, "previous_response_id", "data_sources", "cached_content", "extra_body",
)  # fmt: skip
_CLIENT_TOOLS: Final = frozenset({"function", "custom"})
# With these a provider serves another model than the one that was asked for and priced, or
# answers at another time.
_REFUSED_FIELDS: Final = ("models", "route", "fallbacks", "deferred")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request; ``fields`` is what the client sent."""

    fields: Mapping[str, Any]
    model: str
    stream: bool
    wants_usage: bool
    choices: int
    output_tokens_asked: int | None
    service_tier: str | None
    bytes_bound_input: bool
    may_search: bool
    end_user: str
    tags: tuple[str, ...]

    def body_for(self, *, upstream_model: str) -> bytes:
        """
        Return the body that is sent on: the upstream's model name, usage asked for on streams,
        and without what was meant for us.

        :raises InvalidRequest: if it is nested deeper than JSON can be written here
        """
        fields = {**self.fields, "model": upstream_model}
        if self.stream:
            options = fields.get("stream_options") or {}
            fields["stream_options"] = {**options, "include_usage": True}
        if isinstance(metadata := fields.get("metadata"), dict) and "tags" in metadata:
            kept = {name: value for name, value in metadata.items() if name != "tags"}
            fields["metadata"] = kept
            if not kept:
                del fields["metadata"]
        try:
            return orjson.dumps(fields)
        except orjson.JSONEncodeError as error:
            raise InvalidRequest("The body is nested too deeply.") from error


def parse(body: bytes, *, headers: Mapping[str, str]) -> ChatRequest:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = _object(body)
    stream = _typed(fields, "stream", bool) or False
    options = _typed(fields, "stream_options", dict) or {}
    _check_refused(fields)
    return ChatRequest(
        fields=fields,
        model=_model(fields),
        stream=stream,
        wants_usage=options.get("include_usage") is True,
        choices=_count(fields, "n", at_least=1, at_most=CHOICES_MAX) or 1,
        output_tokens_asked=_output_tokens(fields),
        service_tier=_service_tier(fields),
        bytes_bound_input=_bytes_bound(fields),
        may_search=_may_search(fields),
        end_user=_end_user(fields),
        tags=_tags(fields, headers),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not valid JSON.") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if not isinstance(fields.get("messages"), list) or not fields["messages"]:
        raise InvalidRequest("messages must be a list that is not empty.", param="messages")
    return fields


def _model(fields: Mapping[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_NAME_MAX:
        raise InvalidRequest("model must be the name of a model.", param="model")
    return model


def _typed(fields: Mapping[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidRequest(f"{name} has the wrong type.", param=name)
    return value


def _count(fields: Mapping[str, Any], name: str, *, at_least: int, at_most: int) -> int | None:
    value = _typed(fields, name, int)
    if value is None:
        return None
    if isinstance(value, bool) or not at_least <= value <= at_most:
        raise InvalidRequest(
            f"{name} must be a whole number from {at_least} to {at_most}.", param=name
        )
    return int(value)


def _output_tokens(fields: Mapping[str, Any]) -> int | None:
    """Return the larger of both limits: providers differ on which one they obey."""
    asked = [
        _count(fields, name, at_least=1, at_most=TOKENS_ASKED_MAX)
        for name in ("max_completion_tokens", "max_tokens")
    ]
    given = [number for number in asked if number is not None]
    return max(given) if given else None


def _check_refused(fields: Mapping[str, Any]) -> None:
    for name in _REFUSED_FIELDS:
        if fields.get(name) is not None:
            raise UnsupportedParameter(f"{name} is not supported here.", param=name)


def _service_tier(fields: Mapping[str, Any]) -> str | None:
    tier: str | None = _typed(fields, "service_tier", str)
    if tier is not None and len(tier) > SERVICE_TIER_MAX:
        raise InvalidRequest(
            f"service_tier must be text of at most {SERVICE_TIER_MAX} characters.",
            param="service_tier",
        )
    return tier


def _bytes_bound(fields: Mapping[str, Any]) -> bool:
    """A token is at least a byte of text; images, audio and files bring tokens without bytes."""
    if not all(map(_is_client_tool, _tools(fields))):
        return False
    if any(fields.get(name) is not None for name in _UNBOUNDED_FIELDS):
        return False
    return all(_is_text(message) for message in fields["messages"])


def _may_search(fields: Mapping[str, Any]) -> bool:
    """Whether the provider may search the web: it is asked to, or has a tool of its own."""
    if any(fields.get(name) is not None for name in _SEARCH_FIELDS):
        return True
    return not all(map(_is_client_tool, _tools(fields)))


def _tools(fields: Mapping[str, Any]) -> list[object]:
    return _typed(fields, "tools", list) or []


def _is_client_tool(tool: object) -> bool:
    return isinstance(tool, dict) and _is_of(tool.get("type"), _CLIENT_TOOLS)


def _is_of(kind: object, kinds: frozenset[str]) -> bool:
    return isinstance(kind, str) and kind in kinds


def _is_text(message: object) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return all(isinstance(p, dict) and _is_of(p.get("type"), _TEXT_PARTS) for p in content)
    has_audio = isinstance(message, dict) and message.get("audio") is not None
    return not has_audio


def _end_user(fields: Mapping[str, Any]) -> str:
    metadata = _typed(fields, "metadata", dict) or {}
    value = fields.get("user") or metadata.get("user_id") or ""
    if not isinstance(value, str) or not _fits(value, END_USER_BYTES_MAX):
        raise InvalidRequest(
            f"user must be text of at most {END_USER_BYTES_MAX} bytes.", param="user"
        )
    return value


def _tags(fields: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[str, ...]:
    named = (fields.get("metadata") or {}).get("tags") or []
    if not isinstance(named, list) or not all(isinstance(tag, str) for tag in named):
        raise InvalidRequest("metadata.tags must be a list of text.", param="metadata.tags")
    listed = [part.strip() for part in headers.get("x-litellm-tags", "").split(",")]
    tags = tuple(dict.fromkeys([*named, *(tag for tag in listed if tag)]))
    if len(tags) > TAGS_PER_REQUEST_MAX:
        raise InvalidRequest(f"At most {TAGS_PER_REQUEST_MAX} tags.", param="metadata.tags")
    for tag in tags:
        if not tag or not _fits(tag, TAG_BYTES_MAX):
            raise InvalidRequest(
                f"Each tag must be text of at most {TAG_BYTES_MAX} bytes.", param="metadata.tags"
            )
    return tags


def _fits(text: str, bytes_max: int) -> bool:
    # Postgres keeps no NUL, and a lone surrogate has no bytes.
    try:
        return "\x00" not in text and len(text.encode()) <= bytes_max
    except UnicodeEncodeError:
        return False
