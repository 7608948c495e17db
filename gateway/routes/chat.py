"""Chat completions, the shape that nearly all providers speak."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.routes import fields as read
from gateway.routes.answers import CONTENT, GOES_ON, SAYS_NOTHING, Answers, Json, StreamUsage, Told
from gateway.routes.asked import Asked, Body
from gateway.routes.fields import Headers
from gateway.written import Written
from spend.counting import prompt_tokens
from spend.usage import Reading, openai_chat

CHOICES_MAX: Final = 128
_TEXT_PARTS: Final = frozenset({"text", "refusal"})
_SEARCH_FIELDS: Final = ("web_search_options", "plugins", "search_parameters")
# Fields that make the provider read or do more than the bytes of the request say.
_UNBOUNDED_FIELDS: Final = frozenset(
    {*_SEARCH_FIELDS, "previous_response_id", "data_sources", "cached_content", "extra_body"}
)
_CLIENT_TOOLS: Final = frozenset({"function", "custom"})
_USAGE_COMES_LAST: Final = Told(is_whole=True, only_usage=True)


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    read.filled_list(fields, "messages")
    stream = read.typed(fields, "stream", bool) or False
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        stream=stream,
        hides_usage=not wants_usage(fields),
        choices=read.whole(fields, "n", at_least=1, at_most=CHOICES_MAX) or 1,
        output_tokens_asked=read.tokens(fields, "max_completion_tokens", "max_tokens"),
        service_tier=read.service_tier(fields),
        bytes_bound_input=_bytes_bound(fields),
        may_search=_may_search(fields),
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def wants_usage(fields: Mapping[str, Any]) -> bool:
    """Return whether the client asks for the chunk with the usage of a stream."""
    options = read.typed(fields, "stream_options", dict) or {}
    return options.get("include_usage") is True


def send(asked: Asked, upstream_model: str) -> Body:
    """
    Return the body that is sent on: the upstream's model name, usage asked for on streams, and
    without what was meant for us.

    :raises InvalidRequest: if it is nested deeper than JSON can be written here
    """
    fields = read.without_our_own(asked.fields) | {"model": upstream_model}
    if asked.stream:
        options = fields.get("stream_options") or {}
        fields["stream_options"] = {**options, "include_usage": True}
    return Body(read.as_json(fields))


def _bytes_bound(fields: Mapping[str, Any]) -> bool:
    """A token is at least a byte of text; images, audio and files bring tokens without bytes."""
    if not all(map(_is_client_tool, _tools(fields))):
        return False
    if not _UNBOUNDED_FIELDS.isdisjoint(fields) and _is_any(fields, _UNBOUNDED_FIELDS):
        return False
    return all(_is_text(message) for message in fields["messages"])


def _may_search(fields: Mapping[str, Any]) -> bool:
    """Whether the provider may search the web: it is asked to, or has a tool of its own."""
    if _is_any(fields, _SEARCH_FIELDS):
        return True
    return not all(map(_is_client_tool, _tools(fields)))


def _is_any(fields: Mapping[str, Any], names: Iterable[str]) -> bool:
    return any(fields.get(name) is not None for name in names)


def _tools(fields: Mapping[str, Any]) -> list[object]:
    return read.typed(fields, "tools", list) or []


def _is_client_tool(tool: object) -> bool:
    return isinstance(tool, dict) and read.is_of(tool.get("type"), _CLIENT_TOOLS)


def _is_text(message: object) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return all(isinstance(p, dict) and read.is_of(p.get("type"), _TEXT_PARTS) for p in content)
    has_audio = isinstance(message, dict) and message.get("audio") is not None
    return not has_audio


class ChatAnswers(Answers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return openai_chat.read(reply, request=request)

    def stream(self, request: Json) -> StreamUsage:
        return openai_chat.Stream(request=request)

    def note(self, reply: Json, written: Written) -> None:
        written.add_reply(reply, part="message")

    def is_content(self, data: bytes) -> bool:
        told = data.count(b'"usage"')
        is_null = told == 1 and (b'"usage":null' in data or b'"usage": null' in data)
        return (told == 0 or is_null) and b'"x_groq"' not in data

    def note_event(self, event: Json, written: Written) -> Told:
        written.add_reply(event, part="delta")
        choices = event.get("choices")
        if event.get("usage") is not None and choices == []:
            return _USAGE_COMES_LAST
        # What comes after a usage is not in it.
        if choices:
            return GOES_ON if openai_chat.reported_in(event) else CONTENT
        return SAYS_NOTHING

    def count_prompt(self, request: Json, *, model: str) -> int:
        return prompt_tokens.count_request(request=request, model=model).tokens
