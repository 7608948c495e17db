"""
What one connection may take, and all of a web process together: from the environment, checked.

Read by the settings and, before Django may be loaded, by the web process.
"""

import logging
import resource
from dataclasses import dataclass, replace
from typing import Final

from costplatform import env

log = logging.getLogger(__name__)

OPEN_FILES_KEPT: Final = 256
"""Of a process's open files, those that are neither clients nor upstreams."""


@dataclass(frozen=True, slots=True)
class Limits:
    connections: int
    head_seconds: int
    idle_seconds: int
    unread_seconds: int
    body_seconds: int
    body_bytes: int
    body_bytes_per_second: int
    bodies_bytes: int


def from_environment() -> Limits:
    """Return the limits; a variable that does not fit ends the process with its name."""
    return Limits(
        connections=env.integer("WEB_CONNECTIONS_MAX", 10_000, low=10, high=100_000),
        head_seconds=env.integer("WEB_HEAD_SECONDS_MAX", 10, low=1, high=120),
        # Longer than proxies keep theirs: who closes first must be the one who asks.
        idle_seconds=env.integer("WEB_IDLE_SECONDS_MAX", 75, low=1, high=3_600),
        unread_seconds=env.integer("WEB_UNREAD_SECONDS_MAX", 60, low=1, high=3_600),
        body_seconds=body_seconds(),
        body_bytes=body_bytes(),
        body_bytes_per_second=env.integer(
            "GATEWAY_BODY_BYTES_PER_SECOND_MIN", 500, low=0, high=1_000_000
        ),
        bodies_bytes=_bodies_bytes(),
    )


def body_bytes() -> int:
    return env.integer("GATEWAY_BODY_BYTES_MAX", 32 * 2**20, low=1_024, high=256 * 2**20)


def body_seconds() -> int:
    return env.integer("GATEWAY_BODY_SECONDS_MAX", 60, low=1, high=600)


def upstream_connections() -> int:
    return env.integer("GATEWAY_UPSTREAM_CONNECTIONS_MAX", 1_000, low=1, high=100_000)


def within_open_files(limits: Limits) -> Limits:
    """
    Have this process open as many files as its limits need, or return limits that fit.

    Where the system allows fewer, half of them are for clients: a client at work needs an
    upstream, too. That is logged.
    """
    wanted = limits.connections + upstream_connections() + OPEN_FILES_KEPT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted and soft != hard:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return limits
    fitting = max((soft - OPEN_FILES_KEPT) // 2, 1)
    log.warning("open_files_limited", extra={"connections": fitting, "wanted": wanted})
    return replace(limits, connections=min(limits.connections, fitting))


def _bodies_bytes() -> int:
    held = env.integer("GATEWAY_BODIES_BYTES_MAX", 512 * 2**20, low=2**20, high=64 * 2**30)
    if held < body_bytes():
        raise env.SettingError(
            "GATEWAY_BODIES_BYTES_MAX", "must be GATEWAY_BODY_BYTES_MAX at least"
        )
    return held
