"""An upstream that answers what a test tells it to, and remembers what it was sent."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson


@dataclass(frozen=True)
class Canned:
    """One answer; several pieces are sent as chunks."""

    pieces: tuple[bytes, ...]
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: object, *, status: int = 200, **headers: str) -> "Canned":
        return cls((orjson.dumps(value),), status, headers=headers)

    @classmethod
    def events(cls, events: list[Any], *, named: bool = False) -> "Canned":
        """Return a stream of these objects, each named by its type as Anthropic does."""
        pieces = []
        for event in events:
            name = f"event: {event['type']}\n".encode() if named else b""
            pieces.append(name + b"data: " + orjson.dumps(event) + b"\n\n")
        if not named:
            pieces.append(b"data: [DONE]\n\n")
        return cls(tuple(pieces), content_type="text/event-stream")

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


@dataclass(frozen=True)
class Sent:
    """What the upstream got; names of headers are lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Upstream:
    """Gives its answers in turn; the last one for ever."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.seen: list[Sent] = []
        self._answers: deque[Canned] = deque()
        self._lock = threading.Lock()

    def answers(self, *canned: Canned) -> None:
        with self._lock:
            self._answers = deque(canned)
            self.seen.clear()

    def next_for(self, sent: Sent) -> Canned:
        with self._lock:
            self.seen.append(sent)
            return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]


@contextmanager
def running(port: int) -> Iterator[Upstream]:
    upstream = Upstream(port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            canned = upstream.next_for(Sent(self.path, headers, body))
            self.send_response(canned.status)
            self.send_header("content-type", canned.content_type)
            for name, value in canned.headers.items():
                self.send_header(name.replace("_", "-"), value)
            if len(canned.pieces) == 1:
                self.send_header("content-length", str(len(canned.body)))
                self.end_headers()
                self.wfile.write(canned.body)
                return
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in (*canned.pieces, b""):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            """A gateway may go away; that is what some tests are about."""

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
