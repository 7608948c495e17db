"""Clients that speak to a web process by plain sockets, as well or as badly as a test wants."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from costplatform import ports
from tests.launch import somewhere_free, start_bound
from tests.stack import wait_until

PATIENCE_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Server:
    """A running web process with the application of ``counting_server``."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def told(self) -> dict[str, list[Any]]:
        with urllib.request.urlopen(f"{self.url}/seen", timeout=PATIENCE_SECONDS) as reply:
            return dict(json.loads(reply.read()))

    def paths(self) -> list[str]:
        return [each["path"] for each in self.told()["seen"]]

    def is_up(self) -> bool:
        try:
            return bool(self.told())
        except OSError:
            return False

    def resident_bytes(self) -> int:
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def counting_server(folder: Path, **env: str) -> Iterator[Server]:
    """Start one with the limits that ``env`` sets, and end it."""
    listener = ports.listening(host="127.0.0.1", port=somewhere_free())
    number = listener.fileno()
    argv = [sys.executable, "-m", "tests.costplatform.counting_server", str(number)]
    with listener, (folder / "server.out").open("ab") as out:
        process = start_bound(argv, env={**os.environ, **env}, out=out, pass_fds=[number])
        try:
            server = Server(listener.getsockname()[1], process)
            wait_until(server.is_up, seconds=PATIENCE_SECONDS)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def connect(url: str, *, receive_bytes: int | None = None) -> socket.socket:
    """Return a connection; with ``receive_bytes`` its own kernel takes hardly more than that."""
    parts = urlsplit(url)
    made = socket.socket()
    if receive_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.settimeout(PATIENCE_SECONDS)
    made.connect((parts.hostname or "", parts.port or 0))
    return made


@contextmanager
def connected(
    url: str, count: int, *, receive_bytes: int | None = None
) -> Iterator[list[socket.socket]]:
    """Yield so many connections at once."""
    with ExitStack() as open_ones:
        yield [
            open_ones.enter_context(connect(url, receive_bytes=receive_bytes)) for _ in range(count)
        ]


def said_until_closed(connection: socket.socket) -> bytes:
    """Return all that the server says before it closes; it must, or the test times out."""
    said = bytearray()
    try:
        while part := connection.recv(65_536):
            said += part
    except ConnectionResetError:
        pass
    return bytes(said)


def exchange(url: str, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send the parts with pauses between; return what is said until the server closes."""
    with connect(url) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        return said_until_closed(connection)


def answer_to(url: str, *lines: str, body: bytes = b"") -> bytes:
    """Send one request in one piece and say that it is the last; return the answer."""
    host = urlsplit(url).netloc
    head = "\r\n".join([lines[0], f"Host: {host}", "Connection: close", *lines[1:], "", ""])
    return exchange(url, head.encode("latin-1") + body)


def status_of(said: bytes) -> int:
    """Return the status of the first answer, 0 if there is none."""
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else 0


def code_of(said: bytes) -> str:
    """Return the code of a refusal."""
    return str(json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"])
