"""What the sandbox answers: pure functions of the request, its id and the time."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from gateway.sandbox.requests import Chat
from gateway.sandbox.script import COUNTED

TOKEN_CHARACTERS: Final = 4
ECHO_CHARACTERS_MAX: Final = 80
DONE: Final = b"data: [DONE]\n\n"

Json = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer; ``parts`` are its text as it is streamed, the same for each choice."""

    id: str
    created: int
    chat: Chat
    parts: list[str]
    finish_reason: str
    usage: object

    @property
    def completion_tokens(self) -> int:
        return tokens("".join(self.parts)) * self.chat.choices


@dataclass(frozen=True, kw_only=True)
class Step:
    """
    A piece of a stream; ``completion_tokens`` have been produced once it is sent, and of each
    choice so many ``characters``.
    """

    data: bytes
    completion_tokens: int
    characters: int = 0
    delay_ms: int = 0
    usage: object = None


def compose(*, chat: Chat, reply_id: str, created: int) -> Reply:
    """Return the reply to ``chat``: the scripted one as it is, else an echo within its limit."""
    reply = chat.script.reply
    text = "".join(reply) if reply is not None else _default_text(chat)
    kept = text if reply is not None else text[: chat.output_tokens_max * TOKEN_CHARACTERS]
    return Reply(
        id=reply_id,
        created=created,
        chat=chat,
        parts=reply if isinstance(reply, list) else _parts(kept, count=chat.script.chunks),
        finish_reason=chat.script.finish_reason or ("stop" if kept == text else "length"),
        usage=_usage(chat, text=kept) if chat.script.usage is COUNTED else chat.script.usage,
    )


def tokens(text: str) -> int:
    """Return the sandbox's own count: a token is four characters, or what is left of them."""
    return -(-len(text) // TOKEN_CHARACTERS)


def completion(reply: Reply) -> Json:
    """Return the body of an answer that is not streamed."""
    message: Json = {
        "role": "assistant",
        "content": "".join(reply.parts),
        "refusal": None,
        "annotations": [],
    }
    choices = [
        {
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": reply.finish_reason,
        }
        for index in range(reply.chat.choices)
    ]
    usage = {} if reply.usage is None else {"usage": reply.usage}
    return _envelope(reply, kind="chat.completion") | {"choices": choices} | usage


def steps(reply: Reply) -> Iterator[Step]:
    """Yield the events of a streamed answer in order, but for the closing ``DONE``."""
    script = reply.chat.script
    opening: Json = {"role": "assistant", "content": "", "refusal": None}
    yield Step(data=_deltas(reply, opening), completion_tokens=0, delay_ms=script.first_delay_ms)
    characters = 0
    for number, part in enumerate(reply.parts):
        characters += len(part)
        yield Step(
            data=_deltas(reply, {"content": part}),
            completion_tokens=-(-characters // TOKEN_CHARACTERS) * reply.chat.choices,
            characters=characters,
            delay_ms=script.chunk_delay_ms if number else 0,
        )
    produced = reply.completion_tokens
    ending = _deltas(reply, {}, finish_reason=reply.finish_reason)
    yield Step(data=ending, completion_tokens=produced, characters=characters)
    if reply.chat.include_usage and reply.usage is not None:
        last = _chunk(reply, choices=[]) | {"usage": reply.usage}
        yield Step(
            data=_event(last),
            completion_tokens=produced,
            characters=characters,
            usage=reply.usage,
        )


def encode(value: object) -> bytes:
    """Return ``value`` as JSON in UTF-8; half a surrogate pair becomes ``?``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _default_text(chat: Chat) -> str:
    # The echo comes first, so that a test that looks for another's words finds them even if
    # the answer is cut short.
    echo = chat.last_user_text[:ECHO_CHARACTERS_MAX]
    text = f"You said: {echo}\nThis is the sandbox answering: no model was asked, all is well."
    missing = (chat.script.chunks or 0) * TOKEN_CHARACTERS - len(text)
    again = f" {text}"
    return text + again * -(-max(missing, 0) // len(again))


def _parts(text: str, *, count: int | None) -> list[str]:
    """Return ``text`` in ``count`` parts of nearly equal length, else one part per token."""
    length = len(text)
    if count is None:
        return [text[at : at + TOKEN_CHARACTERS] for at in range(0, length, TOKEN_CHARACTERS)]
    bounds = [number * length // count for number in range(count + 1)]
    return [text[start:end] for start, end in pairwise(bounds)]


def _usage(chat: Chat, *, text: str) -> Json:
    prompt = max(1, -(-chat.prompt_characters // TOKEN_CHARACTERS))
    completion = tokens(text) * chat.choices
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _envelope(reply: Reply, *, kind: str) -> Json:
    return {
        "id": reply.id,
        "object": kind,
        "created": reply.created,
        "model": reply.chat.model,
        "service_tier": reply.chat.script.service_tier or reply.chat.service_tier,
        "system_fingerprint": "fp_sandbox",
    }


def _deltas(reply: Reply, delta: Json, *, finish_reason: str | None = None) -> bytes:
    """Return one event per choice, each with the same ``delta``."""
    choice: Json = {"delta": delta, "logprobs": None, "finish_reason": finish_reason}
    events = (
        _event(_chunk(reply, choices=[{"index": index} | choice]))
        for index in range(reply.chat.choices)
    )
    return b"".join(events)


def _chunk(reply: Reply, *, choices: list[Json]) -> Json:
    chunk = _envelope(reply, kind="chat.completion.chunk") | {"choices": choices}
    return chunk | {"usage": None} if reply.chat.include_usage else chunk


def _event(value: Json) -> bytes:
    return b"data: " + encode(value) + b"\n\n"
