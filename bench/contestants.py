"""What is compared: how a gateway is started on its core, and how it is known to be ready."""

import http.client
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import machine
from bench.load import HOST, Target
from bench.machine import Cores
from costplatform import ports, processes
from costplatform.processes import Process

READY_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.1
MODEL: Final = "gpt-4o-mini"
"""As callers ask for it, and as its price is found by."""


class Unavailable(Exception):
    """This contestant cannot be measured here; the message says why, and what would help."""


class Wrong(Exception):
    """What was measured is not what should have been: no figure may rest on it."""


def no_books(asked: int) -> None:
    """Check nothing: this contestant keeps no books."""


@dataclass(frozen=True)
class Contestant:
    """A running gateway, and where its process tree begins."""

    name: str
    title: str
    version: str
    target: Target
    pid: int
    check_books: Callable[[int], None] = no_books
    """Called after each run with how many answers it has given; raises :class:`Wrong`."""
    store_pid: int | None = None
    """Where it counts what was spent, on the other core."""
    runs_on: Mapping[str, str] = field(default_factory=dict)
    """Versions of what it needs beside itself."""


@dataclass(frozen=True)
class Place:
    """Where contestants run: on which cores, before which upstream, and with which files."""

    cores: Cores
    upstream_port: int
    folder: Path

    @property
    def upstream(self) -> str:
        return f"http://{HOST}:{self.upstream_port}"

    @contextmanager
    def gateway(self, process: Process) -> Iterator[int]:
        """Run a process on the gateway's core; yield its id."""
        with self._started(process, core=self.cores.gateway) as pid:
            yield pid

    @contextmanager
    def beside(self, process: Process) -> Iterator[int]:
        """Run a process on the other core; yield its id."""
        with self._started(process, core=self.cores.beside) as pid:
            yield pid

    @contextmanager
    def _started(self, process: Process, *, core: int) -> Iterator[int]:
        with ExitStack() as stack:
            with machine.pinned(core):
                child = stack.enter_context(processes.running(process, logs=self.folder))
            yield child.pid

    def log_tail(self, process: Process) -> str:
        return processes.log_tail(process, logs=self.folder)


def upstream_process(port: int) -> Process:
    return python("upstream", "-m", "bench.upstream_server", "--port", str(port))


def python(name: str, *arguments: str) -> Process:
    return Process(name=name, argv=(sys.executable, *arguments), env=plain_environment())


def plain_environment(**added: str) -> dict[str, str]:
    """Return an environment that no setting of this shell reaches."""
    kept = ("PATH", "HOME", "SSL_CERT_FILE", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ} | added


def free_port() -> int:
    """Return a port that nobody listens on, and that no other run is likely to try for now."""
    return ports.free_from(random.randrange(20_000, 30_000))  # noqa: S311


def wait_until_answered(port: int, path: str, *, place: Place, process: Process, pid: int) -> None:
    """
    Return as soon as ``GET path`` is answered 200.

    :raises Unavailable: with the end of the process's log, if it ends or takes too long
    """
    until = time.monotonic() + READY_SECONDS_MAX
    while status_of(port, path) != http.client.OK:
        has_ended = machine.is_gone(pid)
        if has_ended or time.monotonic() > until:
            problem = "ended at its start" if has_ended else f"not ready in {READY_SECONDS_MAX:g} s"
            raise Unavailable(f"{process.name} {problem}; its log ends:{place.log_tail(process)}")
        time.sleep(POLL_SECONDS)


def status_of(port: int, path: str) -> int | None:
    """Return the status of a GET, or None where nobody answers."""
    try:
        return ask("GET", port, path)[0]
    except (OSError, http.client.HTTPException):
        return None


def ask(
    method: str,
    port: int,
    path: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Send one request on a connection of its own; return status and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
