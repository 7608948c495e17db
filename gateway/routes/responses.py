"""Responses: items in, items out, with tools that the provider may run itself."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.routes import fields as read
from gateway.routes.answers import ENDS, GOES_ON, SAYS_NOTHING, Answers, Json, StreamUsage, Told
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers
from gateway.routes.texts import count_texts
from gateway.written import Written
from spend.usage import Reading, openai_responses

_CLIENT_TOOLS: Final = frozenset({"function", "custom"})
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "refusal", "text", "summary_text"})
_TEXT_ITEMS: Final = frozenset(
    {
        "message", "function_call", "function_call_output", "custom_tool_call",
        "custom_tool_call_output", "reasoning",
    }
)  # fmt: skip
# With these the provider reads what it has kept itself.
_UNBOUNDED_FIELDS: Final = ("previous_response_id", "conversation", "prompt")
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_DELTA: Final = ".delta"
_COUNTED: Final = ("instructions", "input", "tools", "text")


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    tools = read.typed(fields, "tools", list) or []
    runs_tools = not all(isinstance(t, dict) and _is_clients(t) for t in tools)
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        stream=read.typed(fields, "stream", bool) or False,
        output_tokens_asked=read.tokens(fields, "max_output_tokens"),
        service_tier=read.service_tier(fields),
        bytes_bound_input=not runs_tools and _bytes_bound(fields),
        may_search=runs_tools,
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def _is_clients(tool: Mapping[str, Any]) -> bool:
    return read.is_of(tool.get("type"), _CLIENT_TOOLS)


def _bytes_bound(fields: Mapping[str, Any]) -> bool:
    if any(fields.get(name) is not None for name in _UNBOUNDED_FIELDS):
        return False
    given = fields.get("input")
    if isinstance(given, str):
        return True
    if not isinstance(given, list):
        raise InvalidRequest("input must be text or a list.", param="input")
    return all(_is_text(item) for item in given)


def _is_text(item: object) -> bool:
    """Whether an item brings no more tokens than bytes; what is encrypted or a file may."""
    if not isinstance(item, dict) or not read.is_of(item.get("type", "message"), _TEXT_ITEMS):
        return False
    if item.get("encrypted_content") is not None:
        return False
    parts = [item.get("content"), item.get("output")]
    listed = [part for each in parts if isinstance(each, list) for part in each]
    return all(isinstance(p, dict) and read.is_of(p.get("type"), _TEXT_PARTS) for p in listed)


class ResponseAnswers(Answers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return openai_responses.read(reply, request=request)

    def stream(self, request: Json) -> StreamUsage:
        return openai_responses.Stream(request=request)

    def note(self, reply: Json, written: Written) -> None:
        for place, text in enumerate(_texts(reply.get("output"))):
            written.add_text((place, ""), text)

    def is_content(self, data: bytes) -> bool:
        return b'.delta"' in data and b'"usage"' not in data and b'"response":' not in data

    def note_event(self, event: Json, written: Written) -> Told:
        kind = event.get("type")
        if not isinstance(kind, str):
            return SAYS_NOTHING
        if kind in _ENDS:
            return ENDS
        if kind.endswith(_DELTA) and isinstance(text := event.get("delta"), str):
            index = event.get("output_index")
            written.add_text((index if isinstance(index, int) else 0, kind), text)
        return GOES_ON

    def count_prompt(self, request: Json, *, model: str) -> int:
        return count_texts([request.get(name) for name in _COUNTED], model=model)


def _texts(output: object) -> Iterator[str]:
    for item in output if isinstance(output, list) else []:
        if not isinstance(item, dict):
            continue
        for name in ("name", "arguments", "input"):
            if isinstance(text := item.get(name), str):
                yield text
        for parts in (item.get("content"), item.get("summary")):
            for part in parts if isinstance(parts, list) else []:
                if isinstance(part, dict) and isinstance(text := part.get("text"), str):
                    yield text
