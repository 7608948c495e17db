"""
The load: requests rendered beforehand, sent over kept connections, every answer looked at.

A closed loop keeps a fixed number of connections busy and finds what a gateway can do. An open
loop sends at a fixed rate whatever comes back, and finds what a gateway adds to the time of an
answer. Both run on uvloop, whose timers tick in milliseconds: so the time of an answer counts from
when its request was written, and how late that was is kept beside it.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, cast

from bench.upstream_server import CHUNKS

HOST: Final = "127.0.0.1"
IN_FLIGHT_MAX: Final = 512
IDLE_SECONDS_MAX: Final = 2.0
"""Servers close connections that have rested for longer, at the earliest after five seconds."""
ANSWER_SECONDS_MAX: Final = 60.0
ANSWER_BYTES_MAX: Final = 2**20
SHOWN_BYTES_MAX: Final = 300
_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_EVENT: Final = b"data: "
_DONE: Final = b"data: [DONE]"


class BadAnswer(Exception):
    """An answer that no figure may rest on: another status, broken off, or not what was asked."""


@dataclass(frozen=True)
class Target:
    """Where to send, and what: whole requests as they go over the wire."""

    port: int
    unary: bytes
    stream: bytes


@dataclass
class Sent:
    """What came of one run; times are in milliseconds."""

    answers: int = 0
    seconds: float = 0.0
    own_cpu_seconds: float = 0.0
    answer_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    """To the first event of a stream."""
    late_ms: list[float] = field(default_factory=list)
    """By how much requests of an open loop were sent behind their time."""
    was_overrun: bool = False
    """Whether an open loop ended early, since too many requests waited for their answers."""


def target(*, port: int, secret: str, model: str, path: str = "/v1/chat/completions") -> Target:
    """Return requests of about 0.6 KB."""
    text = "Say in a few words what a budget is. " * 13
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 400,
    }
    streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
    return Target(port, _request(path, secret, body), _request(path, secret, streamed))


def _request(path: str, secret: str, body: dict[str, Any]) -> bytes:
    told = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {secret}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(told)}\r\n\r\n"
    )
    return head.encode() + told


class Caller(asyncio.Protocol):
    """One connection, with one request at a time."""

    _transport: asyncio.Transport

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._received = b""
        self._length: int | None = None
        """Of the whole answer with its head; None before the head, 0 for one in chunks."""
        self.sent_at = 0.0
        self.first_at = 0.0
        self.rests_since = 0.0
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class that asyncio knows.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        if self.sent_at:
            self._run.fail(BadAnswer(f"the connection was closed before the answer: {error}"))

    def send(self) -> None:
        self._received, self._length, self.first_at = b"", None, 0.0
        self.sent_at = time.perf_counter()
        self._transport.write(self._run.request)

    def close(self) -> None:
        self.sent_at = 0.0
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            whole = self._is_whole()
        except (BadAnswer, ValueError) as error:
            self._run.fail(error)
            return
        if not self.first_at and self._run.is_stream and _EVENT in self._received:
            self.first_at = time.perf_counter()
        if whole:
            self._run.answered(self)
        elif len(self._received) > ANSWER_BYTES_MAX:
            self._run.fail(BadAnswer("the answer has no end"))

    def _is_whole(self) -> bool:
        if self._length is None:
            end = self._received.find(_HEAD_END)
            if end < 0:
                return False
            self._length = self._length_by(self._received[:end].lower(), end + len(_HEAD_END))
        if self._length:
            whole = len(self._received) >= self._length
        else:
            whole = self._received.endswith(_LAST_CHUNK)
        if whole:
            check(self._received, is_stream=self._run.is_stream)
        return whole

    def _length_by(self, head: bytes, head_length: int) -> int:
        if b"\r\ntransfer-encoding: chunked" in head:
            return 0
        _, found, rest = head.partition(b"\r\ncontent-length:")
        if not found:
            raise BadAnswer(f"neither length nor chunks: {shown(head)}")
        return head_length + int(rest.partition(b"\r\n")[0])


def check(answer: bytes, *, is_stream: bool) -> None:
    """
    Look at a whole answer.

    :raises BadAnswer: if its status is not 2xx, or it is not what was asked for
    """
    if not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")):
        raise BadAnswer(shown(answer))
    if is_stream:
        # Gateways may drop the chunk that tells only the role, or add one.
        if _DONE not in answer or answer.count(_EVENT) < CHUNKS:
            raise BadAnswer(f"{answer.count(_EVENT)} events of {CHUNKS + 1}: {shown(answer)}")
    elif b'"total_tokens"' not in answer:
        raise BadAnswer(f"no usage: {shown(answer)}")


def shown(answer: bytes) -> str:
    head, _, body = answer.partition(_HEAD_END)
    return (head.partition(b"\r\n")[0] + b" " + body)[:SHOWN_BYTES_MAX].decode(errors="replace")


class Run:
    """One run of either loop: what is sent, what has come, and the first thing that went wrong."""

    def __init__(self, where: Target, *, is_stream: bool) -> None:
        self.request = where.stream if is_stream else where.unary
        self.is_stream = is_stream
        self.sent = Sent()
        self._port = where.port
        self._callers: list[Caller] = []
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._and_then: Callable[[Caller], None] = lambda _: None

    async def closed(self, *, connections: int, go_on: Callable[[int], bool]) -> None:
        """Send on every connection as soon as it was answered, while ``go_on(answers)``."""
        at_work = connections

        def again(caller: Caller) -> None:
            nonlocal at_work
            if go_on(self.sent.answers):
                caller.send()
                return
            at_work -= 1
            if not at_work:
                self.end()

        self._and_then = again
        callers = [await self._connect() for _ in range(connections)]
        for caller in callers:
            caller.send()
        await self._until_over()

    async def open(self, *, rate: float, seconds: float) -> None:
        """Send at a fixed rate, on an idle connection or a new one; stop when there is none."""
        idle: list[Caller] = []
        count = max(1, round(rate * seconds))

        def rest(caller: Caller) -> None:
            idle.append(caller)
            if self.sent.answers == count:
                self.end()

        self._and_then = rest
        begin = time.perf_counter()
        for number in range(count):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self.sent.was_overrun = number - self.sent.answers >= IN_FLIGHT_MAX
            if self.sent.was_overrun or self._over.done():
                count = number
                break
            caller = _rested(idle) or await self._connect()
            self.sent.late_ms.append((time.perf_counter() - due) * 1e3)
            caller.send()
        await self._until_over()

    def answered(self, caller: Caller) -> None:
        now = time.perf_counter()
        self.sent.answers += 1
        self.sent.answer_ms.append((now - caller.sent_at) * 1e3)
        if self.is_stream:
            self.sent.first_ms.append((caller.first_at - caller.sent_at) * 1e3)
        caller.sent_at, caller.rests_since = 0.0, now
        self._and_then(caller)

    def fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    def end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def measured(self, work: Coroutine[Any, Any, None]) -> Sent:
        """Do the work of either loop; return what came of it."""
        cpu, began = time.process_time(), time.perf_counter()
        try:
            await work
        finally:
            for caller in self._callers:
                caller.close()
        self.sent.seconds = time.perf_counter() - began
        self.sent.own_cpu_seconds = time.process_time() - cpu
        return self.sent

    async def _connect(self) -> Caller:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(lambda: Caller(self), HOST, self._port)
        self._callers.append(caller)
        return caller

    async def _until_over(self) -> None:
        """Wait for the last answer; for each there is a limit, for all together there is none."""
        answers = -1
        while not self._over.done() and answers != self.sent.answers:
            answers = self.sent.answers
            await asyncio.wait([self._over], timeout=ANSWER_SECONDS_MAX)
        if not self._over.done():
            raise BadAnswer(f"no answer within {ANSWER_SECONDS_MAX:g} s")
        self._over.result()


def _rested(idle: list[Caller]) -> Caller | None:
    """Take the connection that was used last; close those that a server might close meanwhile."""
    while idle:
        caller = idle.pop()
        if not caller.is_closed and time.perf_counter() - caller.rests_since < IDLE_SECONDS_MAX:
            return caller
        caller.close()
    return None


async def closed(
    where: Target, *, connections: int, seconds: float, is_stream: bool = False
) -> Sent:
    """
    Keep ``connections`` busy for so long, and wait for the last answers.

    :raises BadAnswer: at the first one
    """
    run = Run(where, is_stream=is_stream)
    until = time.perf_counter() + seconds
    return await run.measured(
        run.closed(connections=connections, go_on=lambda _: time.perf_counter() < until)
    )


async def counted(
    where: Target, *, connections: int, requests: int, is_stream: bool = False
) -> Sent:
    """
    Send exactly so many requests over ``connections``.

    :raises BadAnswer: at the first one
    """
    run = Run(where, is_stream=is_stream)
    connections = min(connections, requests)
    # What is under way when the last but those was answered is the rest.
    return await run.measured(
        run.closed(
            connections=connections,
            go_on=lambda answers: answers + connections <= requests,
        )
    )


async def open_loop(where: Target, *, rate: float, seconds: float, is_stream: bool = False) -> Sent:
    """
    Send ``rate`` requests a second for so long, or until too many wait; wait for the last answers.

    :raises BadAnswer: at the first one
    """
    run = Run(where, is_stream=is_stream)
    return await run.measured(run.open(rate=rate, seconds=seconds))
