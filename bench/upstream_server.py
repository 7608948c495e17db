"""
The upstream of all gateways that are compared: bytes rendered beforehand, and a count.

``python -m bench.upstream_server --port N`` serves ``POST …/chat/completions``, streamed where
the body asks for it, and to the bench itself ``GET /served`` and ``PUT /gap/MILLISECONDS``.
"""

import argparse
import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any, Final, cast

import uvloop

CHUNKS: Final = 50
"""Of a streamed answer: one with the role, those with text, and one with the usage."""
PROMPT_TOKENS, COMPLETION_TOKENS = 120, 160
GAP_MS_MAX: Final = 1_000
BODY_BYTES_MAX: Final = 2**20
MODEL: Final = "gpt-4o-mini-2024-07-18"
DONE: Final = b"data: [DONE]\n\n"
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_STREAMED: Final = (b'"stream":true', b'"stream": true')
_TEXT: Final = (
    "A budget is what may be spent in a period and a limit is where the spending ends whatever"
    " comes so a gateway asks before it sends and counts after it has heard what was used"
)
_WORDS: Final = tuple(_TEXT.split())


class Counts:
    """What was served, for the bench to compare with what it asked for."""

    def __init__(self) -> None:
        self.unary = 0
        self.streams = 0
        self.gap_seconds = 0.0


class Connection(asyncio.Protocol):
    """One connection: one request at a time, as clients with keep-alive send them."""

    _transport: asyncio.Transport

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._received = b""
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class that asyncio knows.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0:
            return
        head = self._received[:head_end]
        body_begin = head_end + len(_HEAD_END)
        length = _body_length(head)
        if length is None:
            self._refuse(411)
        elif length > BODY_BYTES_MAX:
            self._refuse(413)
        elif len(self._received) >= body_begin + length:
            body = self._received[body_begin : body_begin + length]
            self._received = self._received[body_begin + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        line = head.partition(b"\r\n")[0]
        if b"/chat/completions " in line:
            self._complete(is_streamed=any(word in body for word in _STREAMED))
        elif line.startswith(b"GET /served "):
            served = {"unary": self._counts.unary, "streams": self._counts.streams}
            self._transport.write(rendered(json.dumps(served).encode()))
        elif line.startswith(b"PUT /gap/") and (ms := _gap_ms(line)) is not None:
            self._counts.gap_seconds = ms / 1_000
            self._transport.write(rendered(b"{}"))
        else:
            self._refuse(404)

    def _complete(self, *, is_streamed: bool) -> None:
        if not is_streamed:
            self._counts.unary += 1
            self._transport.write(UNARY)
            return
        self._counts.streams += 1
        if self._counts.gap_seconds:
            self._transport.write(STREAM_HEAD)
            self._send_chunk(0)
        else:
            self._transport.write(STREAM_HEAD + b"".join(STREAM_CHUNKS) + STREAM_END)

    def _send_chunk(self, number: int) -> None:
        if number == CHUNKS:
            self._transport.write(STREAM_END)
            return
        self._transport.write(STREAM_CHUNKS[number])
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(self._counts.gap_seconds, self._send_chunk, number + 1)

    def _refuse(self, status: int) -> None:
        self._transport.write(
            b"HTTP/1.1 %d Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status
        )
        self._transport.close()


def rendered(body: bytes) -> bytes:
    """Return an answer of JSON as it goes over the wire."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def completion() -> bytes:
    """Return an answer of about 1.2 KB with its usage."""
    words = itertools.islice(itertools.cycle(_WORDS), 140)
    message = {"role": "assistant", "content": " ".join(words), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json(_answer_of("chat.completion", [choice]) | {"usage": _usage()})


def chunks() -> list[bytes]:
    """Return the events of a streamed answer, without the last, ``[DONE]``."""
    words = itertools.islice(itertools.cycle(_WORDS), CHUNKS - 2)
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f"{word} "} for word in words]
    told = [
        _answer_of("chat.completion.chunk", [_choice(delta, last=number == CHUNKS - 2)])
        | {"usage": None}
        for number, delta in enumerate(deltas)
    ]
    told.append(_answer_of("chat.completion.chunk", []) | {"usage": _usage()})
    return [b"data: " + _json(each) + b"\n\n" for each in told]


def _choice(delta: dict[str, str], *, last: bool) -> dict[str, Any]:
    reason = "stop" if last else None
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _answer_of(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-bench", "object": kind, "created": 1_760_000_000, "model": MODEL,
        "choices": choices, "service_tier": "default", "system_fingerprint": "fp_bench",
    }  # fmt: skip


def _usage() -> Mapping[str, Any]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": COMPLETION_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _body_length(head: bytes) -> int | None:
    """Return how long the body is, or None where the head does not say it in bytes."""
    head = head.lower()
    _, found, rest = head.partition(_LENGTH)
    if found:
        word = rest.partition(b"\r\n")[0].strip()
        return int(word) if word.isdigit() else None
    return 0 if head.startswith((b"get ", b"put ")) else None


def _gap_ms(line: bytes) -> int | None:
    word = line.removeprefix(b"PUT /gap/").partition(b" ")[0]
    return int(word) if word.isdigit() and int(word) <= GAP_MS_MAX else None


UNARY: Final = rendered(completion())
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
STREAM_CHUNKS: Final = [_framed(each) for each in chunks()]
STREAM_END: Final = _framed(DONE) + b"0\r\n\r\n"


async def serve(port: int) -> None:
    """Serve on loopback until cancelled."""
    counts = Counts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counts), "127.0.0.1", port, backlog=1_024)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
