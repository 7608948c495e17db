"""One web process: serves the application on a listening socket that the supervisor opened."""

import socket
import sys
from typing import Final

import uvicorn

APPLICATION: Final = "costplatform.asgi:application"
GRACEFUL_SHUTDOWN_SECONDS: Final = 30


def serve(listener: socket.socket, *, application: str = APPLICATION) -> None:
    """Serve until told to stop; then calls in flight may take their time, up to a limit."""
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=2_048,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
