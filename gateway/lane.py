"""The first door: a bare ASGI application for the hot routes, before Django and without it."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway import pipeline, process
from gateway.departure import EXTENSION, Departure
from gateway.pipeline import Inbound
from gateway.reply import Reply
from gateway.routes import find

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


def takes(scope: Message) -> bool:
    """Return whether this request comes through the lane."""
    return scope["type"] == "http" and scope["method"] == "POST" and bool(find(scope["path"]))


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one request; when its client goes away, stop serving it and let it be settled."""
    try:
        body = await _read_body(receive)
    except ClientGone:
        return
    departure: Departure = scope["extensions"][EXTENSION]
    serving = asyncio.current_task()
    assert serving is not None, "a server runs each request in a task"
    has_gone = False

    def leave() -> None:
        nonlocal has_gone
        has_gone = serving.cancel()

    departure.call(leave)
    try:
        await _serve(_inbound(scope, body), send)
    except asyncio.CancelledError:
        if not has_gone:
            raise  # the server ends what has run for too long
    finally:
        departure.call(None)


async def _serve(inbound: Inbound, send: Send) -> None:
    await send_reply(await pipeline.serve(inbound, process=process.current()), send)


async def send_reply(reply: Reply, send: Send) -> None:
    """Send an answer; a stream is closed wherever it ends."""
    headers = [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in reply.headers.items()
    ]
    if reply.stream is None:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    if reply.stream is None:
        await send(start)
        await send({"type": "http.response.body", "body": reply.body})
        return
    try:
        await send(start)
        async for piece in reply.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await reply.stream.aclose()


async def _read_body(receive: Receive) -> bytes:
    """Return the body; the server has seen to its size, and to how long it takes."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _inbound(scope: Message, body: bytes) -> Inbound:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    found = find(scope["path"])
    assert found is not None, "the lane takes no other paths"
    return Inbound(found.route, headers, body, found.model)
