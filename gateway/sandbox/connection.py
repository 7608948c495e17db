"""One request's side of the wire: reading with a limit, answering, and failing on purpose."""

import asyncio
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from gateway.sandbox.errors import ClientGone, RequestRefused

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
REQUEST_ID_CHARACTERS_MAX: Final = 256
DRAIN_SECONDS_MAX: Final = 5.0
DRAIN_POLL_SECONDS: Final = 0.002
UNASKED_SECONDS: Final = 0.05

EXTENSION: Final = "costplatform.sandbox"
"""Under this name ``server.Protocol`` adds the ``Wire`` to the extensions of a scope."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class Wire:
    """What ASGI does not offer: the transport, to cut it, and word of its loss."""

    transport: asyncio.Transport
    lost: asyncio.Event


class Connection:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._headers: dict[bytes, str] = {
            name: value.decode("latin-1") for name, value in scope["headers"]
        }
        self._wire: Wire = scope["extensions"][EXTENSION]["wire"]
        self._receive = receive
        self._send = send
        given = self.header("x-request-id")[:REQUEST_ID_CHARACTERS_MAX]
        self.request_id = given or f"req_{secrets.token_hex(16)}"

    def header(self, name: str) -> str:
        return self._headers.get(name.encode(), "")

    async def body(self) -> bytes:
        """
        Return the whole body.

        :raises RequestRefused: if it is larger than ``BODY_BYTES_MAX``
        :raises ClientGone: if it did not come to its end
        """
        told = self.header("content-length")
        if told.isdecimal() and int(told) > BODY_BYTES_MAX:
            raise _too_large()
        body = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > BODY_BYTES_MAX:
                raise _too_large()
            more = message.get("more_body", False)
        return bytes(body)

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        every = {**headers, "x-request-id": self.request_id}
        lines = [(name.encode(), value.encode("latin-1")) for name, value in every.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    async def write(self, data: bytes) -> None:
        """
        Send a piece of the body.

        :raises ClientGone: if nobody is there to read it
        """
        # Without this, a stream without delays would never let the loop notice a client leave.
        await asyncio.sleep(0)
        if self._wire.lost.is_set():
            raise ClientGone
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def answer(
        self, data: bytes, *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send ``data`` as a whole response of JSON."""
        await self.start(status, {**json_headers(len(data)), **(headers or {})})
        await self.finish(data)

    async def answer_unasked(self, data: bytes) -> None:
        """Send another whole response of JSON, a moment after the one that was asked for."""
        await self.pause(UNASKED_SECONDS)
        head = "".join(f"{name}: {value}\r\n" for name, value in json_headers(len(data)).items())
        self._wire.transport.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + data)

    async def pause(self, seconds: float) -> None:
        """
        Return after ``seconds``.

        :raises ClientGone: as soon as the client leaves
        """
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wire.lost.wait()
        except TimeoutError:
            return
        raise ClientGone

    async def reset(self) -> None:
        """Send what is written, then cut the connection as a crashed host's would be."""
        await self._drain()
        _linger_zero(self._wire.transport)
        self._wire.transport.abort()
        await self._wire.lost.wait()

    async def close(self) -> None:
        """Send what is written, then close the connection in good order but too early."""
        await self._drain()
        self._wire.transport.close()
        await self._wire.lost.wait()

    async def _drain(self) -> None:
        for _ in range(int(DRAIN_SECONDS_MAX / DRAIN_POLL_SECONDS)):
            if not self._wire.transport.get_write_buffer_size():
                return
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        self._wire.transport.abort()


def json_headers(length: int) -> dict[str, str]:
    return {"content-type": "application/json", "content-length": str(length)}


def _linger_zero(transport: asyncio.Transport) -> None:
    """Make the close that follows send RST; on a duplicate, as event loops hide the socket."""
    own = transport.get_extra_info("socket")
    if own is None or own.fileno() < 0:
        return
    with socket.fromfd(own.fileno(), own.family, own.type) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _too_large() -> RequestRefused:
    return RequestRefused(
        f"The body of the request is larger than {BODY_BYTES_MAX} bytes.",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        code="request_too_large",
    )
