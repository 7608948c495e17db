"""
A TCP relay between our processes and a server, with a thread of its own and faults on demand.

What it can do is what networks do: delay, stall, cut, refuse, and lead to another host. It never
drops or changes bytes of a connection that lives: TCP does not do that either.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final

import uvloop

from costplatform import ports
from tests.launch import somewhere_free

PIECE_BYTES: Final = 65_536
HELD_PIECES_MAX: Final = 1_000
"""What one direction may hold back while it is delayed or stalled; then the sender must wait."""
CONTROL_SECONDS_MAX: Final = 10.0

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """``with Proxy(port) as proxy``: whoever connects to ``proxy.port`` is led to ``port``."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._delay_seconds = (0.0, 0.0)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._passes = asyncio.Event()
        self._passes.set()
        self.port = 0
        self.accepted = 0

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.port = somewhere_free()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break every connection now; new ones are welcome."""
        self._do(self._cut())

    def refuse(self) -> None:
        """Break every connection and refuse new ones, as a host does on which nothing listens."""
        self._do(self._refuse())

    def accept(self) -> None:
        """Let clients connect again."""
        self._do(self._listen())

    def stall(self) -> None:
        """Accept connections and bytes, and pass nothing on until :meth:`flow`."""
        self._do(self._pass(False))

    def flow(self) -> None:
        """Pass on what was held back, and all that comes."""
        self._do(self._pass(True))

    def delay(self, *, to_server_ms: float = 0, to_client_ms: float = 0) -> None:
        """Keep each byte that comes from now on for so long."""
        self._delay_seconds = (to_server_ms / 1_000, to_client_ms / 1_000)

    def retarget(self, port: int) -> None:
        """Lead new connections to another port, and break those that there are."""
        self._target_port = port
        self.cut()

    def _do(self, control: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(control, self._loop).result(CONTROL_SECONDS_MAX)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._welcome, ports.LOOPBACK, self.port, backlog=1_024
            )

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in [*self._writers]:
            writer.transport.abort()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close(self) -> None:
        await self._refuse()

    async def _pass(self, passes: bool) -> None:
        if passes:
            self._passes.set()
        else:
            self._passes.clear()

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = self._loop.create_task(self._relay((reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, client: _Streams) -> None:
        self._writers.add(client[1])
        try:
            await self._passes.wait()
            server = await asyncio.open_connection(ports.LOOPBACK, self._target_port)
        except OSError:
            client[1].transport.abort()
            self._writers.discard(client[1])
            return
        except asyncio.CancelledError:
            self._writers.discard(client[1])
            raise
        await self._relay_between(client, server)

    async def _relay_between(self, client: _Streams, server: _Streams) -> None:
        self._writers.add(server[1])
        try:
            # Either side's end is the other's: neither protocol here knows half a connection.
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(client[0], server[1], direction=0))
                group.create_task(self._carry(server[0], client[1], direction=1))
        except* (OSError, EOFError):
            pass
        finally:
            for writer in (client[1], server[1]):
                self._writers.discard(writer)
                writer.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, direction: int
    ) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_PIECES_MAX)
        delivering = asyncio.create_task(self._deliver(held, writer))
        try:
            while True:
                piece = await reader.read(PIECE_BYTES)
                await held.put((self._loop.time() + self._delay_seconds[direction], piece))
                if not piece:
                    await delivering
                    raise EOFError
        finally:
            delivering.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await delivering

    async def _deliver(
        self, held: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, piece = await held.get()
            if (seconds := due - self._loop.time()) > 0:
                await asyncio.sleep(seconds)
            await self._passes.wait()
            if not piece:
                writer.close()
                await writer.wait_closed()
                return
            writer.write(piece)
            await writer.drain()
