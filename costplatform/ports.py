"""
Where the processes listen, and how many serve the web.

Read by the settings and, before Django may be loaded, by the supervisor.
"""

import socket

from costplatform import env

LOOPBACK = "127.0.0.1"
EPHEMERAL_MIN = 32_768
"""From here on the kernel hands ports to outgoing connections: no server listens there."""


def web_host() -> str:
    return env.text("HOST", LOOPBACK)


def web_port() -> int:
    return env.integer("PORT", 8000, low=1, high=65_535)


def web_processes() -> int:
    return env.integer("WEB_CONCURRENCY", 2, low=1, high=64)


def drain_seconds() -> int:
    """Return for how long a web process that was told to stop serves on while it is not ready."""
    return env.integer("DRAIN_SECONDS", 0, low=0, high=60)


def sandbox_wanted() -> bool:
    return env.flag("COSTPLATFORM_SANDBOX", default=True)


def sandbox_port() -> int:
    return env.integer("COSTPLATFORM_SANDBOX_PORT", 8010, low=1, high=65_535)


def listening(*, host: str, port: int, backlog: int = 2_048) -> socket.socket:
    """
    Return a socket that listens on ``port``; processes started from here may inherit it.

    :raises OSError: if the port is taken, or the host is not ours
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog)


def is_free(port: int) -> bool:
    try:
        listening(host=LOOPBACK, port=port).close()
    except OSError:
        return False
    return True


def free_from(port: int) -> int:
    """
    Return the first free port from ``port`` on.

    :raises OSError: if there is none below the ephemeral range
    """
    for candidate in range(port, EPHEMERAL_MIN):
        if is_free(candidate):
            return candidate
    raise OSError(f"no port from {port} to {EPHEMERAL_MIN - 1} is free")
