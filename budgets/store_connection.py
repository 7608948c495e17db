"""
One pipelined connection to the live store per event loop: many commands in flight, one write
per turn of the loop. (redis-py costs ten times the CPU here; it serves everywhere else.)
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import unquote, urlsplit

import hiredis

from budgets.errors import OutcomeUnknown
from budgets.scripts import ALL, Script
from budgets.store_interface import Argument, ReplyError, Store

IN_FLIGHT_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    username: str
    password: str
    database: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> "Address":
        """Return the parts of a ``redis://`` or ``rediss://`` URL."""
        parts = urlsplit(url)
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 6379,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=int(parts.path.strip("/") or 0),
            tls=parts.scheme == "rediss",
        )


class _Wire(asyncio.Protocol):
    """The socket's side: packs, writes once per loop turn, hands replies out in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = hiredis.Reader(replyError=ReplyError)
        self._waiting: deque[tuple[asyncio.Future[object], float]] = deque()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            future, _ = self._waiting.popleft()
            if future.done():
                continue
            if isinstance(reply, ReplyError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(OutcomeUnknown("the connection to the live store broke"))

    def send(self, command: Sequence[Argument]) -> "asyncio.Future[object]":
        if not self.is_open or len(self._waiting) >= IN_FLIGHT_MAX:
            raise OutcomeUnknown("the live store cannot be reached")
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        packed = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # its stub takes one word
        self._outgoing.append(packed)
        future: asyncio.Future[object] = self._loop.create_future()
        self._waiting.append((future, self._loop.time()))
        return future

    def waiting_since(self) -> float | None:
        return self._waiting[0][1] if self._waiting else None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None:
            self._transport.write(b"".join(outgoing))


class StoreConnection(Store):
    """
    Runs commands and scripts; reconnects by itself at the next use.

    A reply that takes longer than ``timeout_ms`` breaks the connection: all that was under way on
    it then has an unknown outcome, and a late packet is the scripts' affair (``not_after``).
    """

    def __init__(self, *, url: str, timeout_ms: int, scripts: Sequence[Script] = ALL) -> None:
        self._address = Address.of(url)
        self._timeout_seconds = timeout_ms / 1_000
        self._scripts = scripts
        self._wire: _Wire | None = None
        self._connecting: asyncio.Future[_Wire] | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def command(self, *words: Argument) -> object:
        return await (await self._open_wire()).send(words)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._wire is not None:
            self._wire.close()

    async def _open_wire(self) -> _Wire:
        """Return the open connection; all who wait for one wait for the same."""
        if self._wire is not None and self._wire.is_open:
            return self._wire
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.ensure_future(self._connect())
        self._wire = await asyncio.shield(self._connecting)
        return self._wire

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if self._address.tls else None
        wire = _Wire(loop)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await loop.create_connection(
                    lambda: wire, self._address.host, self._address.port, ssl=context
                )
                await self._greet(wire)
        except (OSError, TimeoutError, ReplyError, OutcomeUnknown) as error:
            wire.close()
            raise OutcomeUnknown("the live store cannot be reached") from error
        except asyncio.CancelledError:
            wire.close()
            raise
        self._watch_over(wire)
        return wire

    async def _greet(self, wire: _Wire) -> None:
        if self._address.password:
            user = [self._address.username] if self._address.username else []
            await wire.send(["AUTH", *user, self._address.password])
        if self._address.database:
            await wire.send(["SELECT", str(self._address.database)])
        for script in self._scripts:
            await wire.send(["SCRIPT", "LOAD", script.text])

    def _watch_over(self, wire: _Wire) -> None:
        """Break the connection when its oldest command has waited too long."""
        loop = asyncio.get_running_loop()
        since = wire.waiting_since()
        if since is not None and loop.time() - since > self._timeout_seconds:
            wire.close()
        if wire.is_open:
            self._watch = loop.call_later(self._timeout_seconds / 4, self._watch_over, wire)
