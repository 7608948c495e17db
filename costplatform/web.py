"""One web process: serves the application on a listening socket that the supervisor opened."""

import signal
import socket
import sys
import time
from types import FrameType
from typing import Final

import uvicorn

from costplatform import limits, ports
from costplatform.connections import Connection
from costplatform.crowd import Crowd
from costplatform.limits import Limits

APPLICATION: Final = "costplatform.asgi:application"
GRACEFUL_SHUTDOWN_SECONDS: Final = 25
SETTLE_SECONDS: Final = 20
"""What a process may take beyond that: answers are read to their usage, events confirmed."""

UNSENT_BYTES_MAX: Final = 128 * 1_024
"""What the kernel keeps of an answer for a client that does not take it."""
TCP_NOTSENT_LOWAT: Final = 25
"""Of Linux; Python has no name for it."""


class Server(uvicorn.Server):
    """
    Told to stop, it first says that it is not ready, for as long as a load balancer needs to
    notice; then it accepts nothing more, and lets requests in flight end.
    """

    _drain_until: float | None = None

    def __init__(self, config: uvicorn.Config, *, limits: Limits) -> None:
        super().__init__(config)
        self.server_state: Crowd = Crowd(limits)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.server_state.watch()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Imported by the application, which sets up Django first; until then nothing drains.
        if (process := sys.modules.get("gateway.process")) is not None:
            process.begin_drain()
        delay = ports.drain_seconds()
        if self._drain_until is not None or not delay or sig == signal.SIGINT:
            super().handle_exit(sig, frame)
        else:
            self._drain_until = time.monotonic() + delay

    async def on_tick(self, counter: int) -> bool:
        if self._drain_until is not None and time.monotonic() >= self._drain_until:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(listener: socket.socket, *, application: str = APPLICATION) -> None:
    """Serve until told to stop; then requests in flight may take their time, up to a limit."""
    within = limits.within_open_files(limits.from_environment())
    # Accepted sockets inherit it. What a client does not read would fill the kernel instead.
    listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=Connection,
        ws="websockets-sansio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # the application looks at them where they matter
        backlog=2_048,
        timeout_keep_alive=within.idle_seconds,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )
    Server(config, limits=within).run(sockets=[listener])


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
