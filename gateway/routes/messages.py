"""Messages, as Anthropic's clients send them; and what they would count."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.routes import fields as read
from gateway.routes.answers import (
    CONTENT,
    ENDS,
    GOES_ON,
    SAYS_NOTHING,
    Answers,
    Json,
    StreamUsage,
    Told,
)
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers
from gateway.routes.texts import count_texts
from gateway.written import Written
from spend.counting.prompt_tokens import TOKENS_OF_REPLY_START, TOKENS_PER_MESSAGE
from spend.usage import Reading, anthropic_messages

_TEXT_BLOCKS: Final = frozenset({"text", "tool_use", "tool_result", "thinking"})
_CLIENT_TOOLS: Final = frozenset({"custom"})
# What the provider reads or runs beside the request.
_UNBOUNDED_FIELDS: Final = ("mcp_servers", "container", "context_management")
TOOLS_PROMPT_TOKENS_MAX: Final = 1_000
"""What the provider says to its model about tools, if there are any: 346 tokens and less
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview)."""
_PIECES: Final = ("text", "thinking", "partial_json")


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    read.filled_list(fields, "messages")
    tools = read.typed(fields, "tools", list) or []
    runs_tools = not all(isinstance(t, dict) and _is_clients(t) for t in tools)
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        stream=read.typed(fields, "stream", bool) or False,
        output_tokens_asked=read.tokens(fields, "max_tokens"),
        service_tier=read.service_tier(fields),
        bytes_bound_input=not runs_tools and _bytes_bound(fields),
        input_tokens_beyond=TOOLS_PROMPT_TOKENS_MAX if tools else 0,
        may_search=runs_tools,
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def parse_count(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request to count the tokens of a prompt.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    read.filled_list(fields, "messages")
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        output_tokens_asked=0,
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def _is_clients(tool: Mapping[str, Any]) -> bool:
    """A tool with a type of the provider's own brings a text that we do not see, or runs there."""
    return tool.get("type") is None or read.is_of(tool.get("type"), _CLIENT_TOOLS)


def _bytes_bound(fields: Mapping[str, Any]) -> bool:
    if any(fields.get(name) is not None for name in _UNBOUNDED_FIELDS):
        return False
    contents = [fields.get("system")]
    contents += [m.get("content") if isinstance(m, dict) else {} for m in fields["messages"]]
    return all(_is_text(content) for content in contents)


def _is_text(content: object) -> bool:
    if content is None or isinstance(content, str):
        return True
    return isinstance(content, list) and all(_is_text_block(block) for block in content)


def _is_text_block(block: object) -> bool:
    if not isinstance(block, dict) or not read.is_of(block.get("type"), _TEXT_BLOCKS):
        return False
    return block.get("citations") is None and _is_text(block.get("content"))


class MessageAnswers(Answers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return anthropic_messages.read(reply, request=request)

    def stream(self, request: Json) -> StreamUsage:
        return anthropic_messages.Stream(request=request)

    def note(self, reply: Json, written: Written) -> None:
        blocks = reply.get("content")
        for index, block in enumerate(blocks if isinstance(blocks, list) else []):
            for text in _texts(block):
                written.add_text((index, ""), text)

    def is_content(self, data: bytes) -> bool:
        return b'"content_block_delta"' in data and b'"usage"' not in data

    def note_event(self, event: Json, written: Written) -> Told:
        match event.get("type"):
            case "message_stop":
                return ENDS
            case "message_delta":
                # It tells what all of the message has used.
                return Told(is_whole=True)
            case "content_block_start":
                self._note_block(event, event.get("content_block"), written)
                return GOES_ON
            case "content_block_delta":
                self._note_block(event, event.get("delta"), written)
                return CONTENT
        return SAYS_NOTHING

    def count_prompt(self, request: Json, *, model: str) -> int:
        parts = [request.get("system"), request.get("tools")]
        messages = request.get("messages")
        listed = messages if isinstance(messages, list) else []
        parts += [m.get("content") if isinstance(m, dict) else m for m in listed]
        framing = TOKENS_OF_REPLY_START + TOKENS_PER_MESSAGE * len(listed)
        return framing + count_texts(parts, model=model)

    def _note_block(self, event: Json, block: object, written: Written) -> None:
        index = event.get("index")
        for text in _texts(block):
            written.add_text((index if isinstance(index, int) else 0, ""), text)


def _texts(block: object) -> Iterator[str]:
    if not isinstance(block, dict):
        return
    for name in (*_PIECES, "name"):
        if isinstance(text := block.get(name), str):
            yield text
    if isinstance(arguments := block.get("input"), dict) and arguments:
        yield str(arguments)


class CountAnswers(Answers):
    """The answer to a count costs nothing, whatever it says."""

    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return Reading(usage={}, was_clamped=False)

    def count_prompt(self, request: Json, *, model: str) -> int:
        return 0
