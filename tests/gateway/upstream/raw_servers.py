"""Upstreams that do to a connection whatever a test wants, byte by byte, and clients for them."""

import asyncio
import os
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from gateway import upstream
from gateway.addresses import Allowed
from gateway.upstream import Response, Upstream

LOCAL = (Allowed.of("127.0.0.0/8"),)


@dataclass
class Call:
    """One request as it came, and the connection that it came on."""

    head: bytes
    body: bytes
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def header(self, name: str) -> str | None:
        for line in self.head.decode().split("\r\n")[1:]:
            found, _, value = line.partition(": ")
            if found.lower() == name:
                return value
        return None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_bytewise(self, data: bytes) -> None:
        for at in range(len(data)):
            await self.send(data[at : at + 1])
            await asyncio.sleep(0)

    def close(self) -> None:
        self.writer.close()

    def has_next(self) -> bool:
        """Return whether another request has come, or is about to."""
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self.reader._buffer or poll.poll(0))  # type: ignore[attr-defined]  # private

    def end(self) -> None:
        """Have the client's system told at once that nothing more comes; its loop is not."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Have the client's system told that the connection is void."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Call], Awaitable[None]]


@dataclass
class RawServer:
    """Runs ``script`` for each request; connections stay open unless the script ends them."""

    script: Script
    reads_bodies: bool = True
    begins_with: bytes = b""
    """Said before anything was asked."""
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    port: int = 0
    scheme: str = "http"
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self, *, tls: ssl.SSLContext | None = None) -> AsyncIterator["RawServer"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        self.scheme = "https" if tls else "http"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                writer.write(self.begins_with)
                while not writer.is_closing():
                    call = await self._read(reader, writer, number)
                    self.calls.append(call)
                    await self.script(call)
        finally:
            self.open -= 1
            writer.transport.abort()
            self._tasks.discard(task)

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> Call:
        head = await reader.readuntil(b"\r\n\r\n")
        call = Call(head, b"", number, reader, writer)
        if self.reads_bodies and (length := call.header("content-length")):
            call.body = await reader.readexactly(int(length))
        return call


def answer(body: bytes = b"ok", *headers: str, status: str = "200 OK") -> bytes:
    """Return an answer with its length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def always(data: bytes, *, closes: bool = False, bytewise: bool = False) -> Script:
    async def script(call: Call) -> None:
        await (call.send_bytewise(data) if bytewise else call.send(data))
        if closes:
            call.close()

    return script


@asynccontextmanager
async def client(**changes: object) -> AsyncIterator[Upstream]:
    """Make the client that the settings name; without ``changes`` it is patient."""
    terms: dict[str, object] = {
        "total_seconds": 20, "connect_seconds": 10, "idle_seconds": 15, "connections_max": 100,
        "allowed": LOCAL,
    }  # fmt: skip
    made = upstream.make(**(terms | changes))  # type: ignore[arg-type]  # as given
    try:
        yield made
    finally:
        await made.close()


async def ask(upstream: Upstream, url: str, body: bytes = b"{}", **headers: str) -> Response:
    return await upstream.request("POST", url, body=body, headers=headers)


async def whole(upstream: Upstream, url: str, body: bytes = b"{}", **headers: str) -> bytes:
    """Ask, and return the body of the answer."""
    response = await ask(upstream, url, body, **headers)
    try:
        return await response.read(bytes_max=2**26)
    finally:
        response.close()


async def until(is_so: Callable[[], bool]) -> None:
    """Return as soon as it is so; the loop runs meanwhile."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110  # it is others who make it so
            await asyncio.sleep(0.005)
