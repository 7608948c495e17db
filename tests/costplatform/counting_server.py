"""
A web process of the project around an application that remembers what it was asked.

``python -m tests.costplatform.counting_server FD`` serves it on a socket that is inherited.
"""

import asyncio
import json
import socket
import sys
from typing import Any, Final
from urllib.parse import parse_qs

from costplatform import web

PIECE: Final = b"x" * 16_384
_seen: list[dict[str, Any]] = []
_ended: list[str] = []


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Note a request once its body is whole, and what became of it; ``/seen`` tells."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["path"] == "/seen":
        await _answer(send, json.dumps({"seen": _seen, "ended": _ended}).encode())
    else:
        await _serve(scope, receive, send)


async def _serve(scope: Any, receive: Any, send: Any) -> None:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            _ended.append("no body")
            return
        body += message["body"]
        more = message["more_body"]
    names = [name.decode("latin-1") for name, _ in scope["headers"]]
    _seen.append(
        {"path": scope["path"], "method": scope["method"], "names": names, "bytes": len(body)}
    )
    asked = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    await asyncio.sleep(float(asked.get("wait", 0)))
    if pieces := int(asked.get("pieces", 0)):
        await _stream(pieces, receive, send)
    else:
        await _answer(send, scope["path"].encode() * int(asked.get("times", 1)))


async def _stream(pieces: int, receive: Any, send: Any) -> None:
    leaving = asyncio.ensure_future(receive())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(pieces):
        await asyncio.sleep(0)  # once nobody is there, to send is nothing that waits
        if leaving.done():
            _ended.append(f"left after {number}")
            return
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    leaving.cancel()
    await send({"type": "http.response.body"})
    _ended.append("streamed")


async def _answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def _live(receive: Any, send: Any) -> None:
    for moment in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{moment}.complete"})


if __name__ == "__main__":
    web.serve(
        socket.socket(fileno=int(sys.argv[1])),
        application="tests.costplatform.counting_server:application",
    )
