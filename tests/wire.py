"""A client's side of a connection, on which it may do what no HTTP library does."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

RECEIVE_BYTES: Final = 65_536
GOODBYE_SECONDS_MAX: Final = 10.0


class Cut(StrEnum):
    FIN = "fin"
    """Says that it will send no more, and takes no notice of what still comes."""
    RST = "rst"
    """Breaks the connection, as a crashed host's would be."""
    VANISH = "vanish"
    """Reads no more, keeps the connection for a while, then breaks it."""


class Closed(Exception):
    """The other side ended the connection before its answer was whole."""


@dataclass
class Heard:
    """What has come of one answer so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False


class Wire:
    """``heard`` is the answer to the last question, as far as it has come."""

    def __init__(self, open_socket: socket.socket) -> None:
        self._socket = open_socket
        self._unread = bytearray()
        self._loop = asyncio.get_running_loop()
        self.heard = Heard()

    @classmethod
    async def open(cls, url: str, *, receive_buffer: int | None = None) -> "Wire":
        """Connect; a small ``receive_buffer`` makes the sender feel soon that nobody reads."""
        parts = urlsplit(url)
        made = socket.socket()
        made.setblocking(False)
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(made, (parts.hostname or "", parts.port or 80))
        return cls(made)

    async def ask(self, secret: str, body: dict[str, Any]) -> None:
        """Send a chat completion request."""
        self.heard = Heard()
        data = json.dumps(body).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            f"authorization: Bearer {secret}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\n\r\n"
        )
        await self._loop.sock_sendall(self._socket, head.encode() + data)

    async def pieces(self) -> AsyncIterator[bytes]:
        """
        Yield the answer's body as it comes, and put it into ``heard``.

        :raises Closed: if it does not come to its end
        """
        await self._read_head()
        length = self.heard.headers.get("content-length")
        sized = self._chunks() if length is None else self._sized(int(length))
        async for piece in sized:
            self.heard.body += piece
            yield piece
        self.heard.is_whole = True

    def spare(self) -> bytes:
        """Return what has come beyond the answer, without waiting."""
        with contextlib.suppress(BlockingIOError):
            self._unread += self._socket.recv(RECEIVE_BYTES)
        return bytes(self._unread)

    async def cut(self, way: Cut, *, after_seconds: float = 0.0) -> None:
        """Leave; one that vanishes keeps the connection for ``after_seconds``."""
        if way is Cut.FIN:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
                await self._listen_no_more()
        elif way is Cut.VANISH:
            await asyncio.sleep(after_seconds)
        else:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    async def _listen_no_more(self) -> None:
        # A close with bytes unread would send RST.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS_MAX):
                while await self._loop.sock_recv(self._socket, RECEIVE_BYTES):
                    pass

    async def _read_head(self) -> None:
        lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.heard.status = int(lines[0].split(" ")[1])
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.heard.headers[name.lower()] = value.strip()

    async def _sized(self, length: int) -> AsyncIterator[bytes]:
        while length:
            if not self._unread:
                await self._receive()
            yield (piece := self._take(length))
            length -= len(piece)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while length := int(await self._until(b"\r\n"), 16):
            async for piece in self._sized(length):
                yield piece
            await self._until(b"\r\n")
        await self._until(b"\r\n")

    async def _until(self, end: bytes) -> bytes:
        while (at := self._unread.find(end)) < 0:
            await self._receive()
        return self._take(at + len(end)).removesuffix(end)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._unread[:length])
        del self._unread[:length]
        return taken

    async def _receive(self) -> None:
        try:
            got = await self._loop.sock_recv(self._socket, RECEIVE_BYTES)
        except OSError as error:
            raise Closed from error
        if not got:
            raise Closed
        self._unread += got
