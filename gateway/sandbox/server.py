"""Serves the sandbox under uvicorn, with the means to fail that ASGI lacks."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.sandbox.app import Sandbox
from gateway.sandbox.connection import EXTENSION, Wire
from gateway.sandbox.journal import Journal

# Longer than a client keeps an idle connection, so that none is closed just as it is used again.
KEEP_ALIVE_SECONDS: Final = 300
STOP_SECONDS_MAX: Final = 1
PORT_MAX: Final = 65_535


class Protocol(HttpToolsProtocol):
    """Uvicorn's own, which tells each request how to cut its connection and when it is lost."""

    wire: Wire

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.wire = Wire(transport, asyncio.Event())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.wire.lost.set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"wire": self.wire}}


class Server(uvicorn.Server):
    """Calls ``ready`` with its port once it listens, and ends every request before it stops."""

    def __init__(self, config: uvicorn.Config, *, ready: Callable[[int], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # Uvicorn raises its signal again right after this, so tasks that it has just cancelled
        # would never write their last line.
        if tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=STOP_SECONDS_MAX)


def port_number(text: str) -> int:
    """
    Return the port that ``text`` names.

    :raises ValueError: if it names none; the event loop would take it modulo 65,536
    """
    port = int(text)
    if not 0 <= port <= PORT_MAX:
        raise ValueError(text)
    return port


def serve(*, host: str, port: int, log: Path | None, ready: Callable[[int], None]) -> None:
    """
    Serve until the process is told to stop; port 0 takes a free one.

    :raises OSError: if the log cannot be opened
    :raises SystemExit: if the port is taken
    """
    config = uvicorn.Config(
        Sandbox(Journal(log)),
        host=host,
        port=port,
        http=Protocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS_MAX,
    )
    with contextlib.suppress(KeyboardInterrupt):
        Server(config, ready=ready).run()
