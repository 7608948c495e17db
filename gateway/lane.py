"""The first door: the hot routes, before Django and without it, at the server's own connection."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway import pipeline, process
from gateway.pipeline import Inbound
from gateway.reply import Reply, Streamed
from gateway.routes import Found, find


class Caller(Protocol):
    """Who has sent a whole request, and is answered once: at once, or by a stream."""

    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def when_gone(self, call: Callable[[], object] | None) -> None:
        """Have this called when the client goes, or has gone; None calls nobody any more."""

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None: ...

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of a stream."""

    async def pass_on(self, piece: bytes) -> None:
        """Send a piece of it, as soon as the client takes more."""

    def end(self) -> None: ...


def takes(method: bytes, path: str) -> Found | None:
    """Return the route of a request that comes through the lane, None for all others."""
    return find(path) if method == b"POST" else None


async def serve(caller: Caller, found: Found) -> None:
    """Serve one request; when its client goes away, stop serving it and let it be settled."""
    serving = asyncio.current_task()
    assert serving is not None, "a server runs each request in a task"
    has_gone = False

    def leave() -> None:
        nonlocal has_gone
        has_gone = serving.cancel()

    caller.when_gone(leave)
    try:
        await _answer(
            caller, await pipeline.serve(_inbound(caller, found), process=process.current())
        )
    except asyncio.CancelledError:
        if not has_gone:
            raise  # the server ends what has run for too long
    finally:
        caller.when_gone(None)


async def _answer(caller: Caller, reply: Reply) -> None:
    if reply.stream is None:
        caller.answer(reply.status, reply.headers, reply.body)
    else:
        await _stream(caller, reply, reply.stream)


async def _stream(caller: Caller, reply: Reply, stream: Streamed) -> None:
    """Send a stream, and close it wherever it ends."""
    try:
        caller.begin(reply.status, reply.headers)
        async for piece in stream:
            await caller.pass_on(piece)
        caller.end()
    finally:
        await stream.aclose()


def _inbound(caller: Caller, found: Found) -> Inbound:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in caller.headers}
    return Inbound(found.route, headers, caller.body, found.model)
