"""An upstream that answers what a test tells it to, and remembers what it was sent."""

import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from budgets.changes import change
from gateway.models import Deployment
from gateway.services import create_deployment
from spend.components import RATED, Component
from spend.models import Model, PriceRate, PriceVersion, Provider
from tests.conftest import Cast

RATE = Decimal("0.000001")


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
    method: str = "POST"

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Upstream:
    """Gives its answers in turn; the last one for ever."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.seen: list[Sent] = []
        self.of_model: dict[str, Canned] = {}
        self.serve: Callable[[Sent], Canned | None] = lambda _: None
        """What it does by itself before it looks at its turns; the tests that set it reset it."""
        """What is answered to one model, whatever the turn."""
        self._answers: deque[Canned] = deque()
        self._lock = threading.Lock()

    def answers(self, *canned: Canned) -> None:
        """Forget all, and answer so from now on."""
        with self._lock:
            self._answers = deque(canned)
            self.seen.clear()
            self.of_model.clear()

    def next_for(self, sent: Sent) -> Canned:
        with self._lock:
            self.seen.append(sent)
            if (served := self.serve(sent)) is not None:
                return served
            for model, canned in self.of_model.items():
                if model.encode() in sent.body:
                    return canned
            return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]


@contextmanager
def running(port: int) -> Iterator[Upstream]:
    upstream = Upstream(port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            canned = upstream.next_for(Sent(self.path, headers, body, self.command))
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

        do_GET = do_DELETE = do_POST  # noqa: N815  # as http.server wants them

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


def deployed(
    upstream: Upstream,
    cast: Cast,
    *,
    provider: str | None = None,
    rate: Decimal = RATE,
    **values: Any,
) -> Deployment:
    """Deploy a model of its own on the upstream, every class of usage at one rate."""
    name = f"m-{uuid.uuid4().hex}"
    provider = provider or f"p-{uuid.uuid4().hex[:12]}"
    owner, _ = Provider.objects.get_or_create(slug=provider, defaults={"name": provider})
    listed = Model.objects.create(
        provider=owner, name=name, context_window=10_000, output_tokens_max=1_000
    )
    version = PriceVersion.objects.create(
        model=listed, effective_from=datetime(2020, 1, 1, tzinfo=UTC), source="test"
    )
    rated = [each for each in RATED if each is not Component.STATED_PICO_USD]
    PriceRate.objects.bulk_create(
        PriceRate(version=version, component=each, rate=rate) for each in rated
    )
    with change(scope=0):
        return create_deployment(
            values={
                "model_name": name, "provider": provider, "upstream_model": name,
                "api_base": f"{upstream.base}/v1", "organization": cast.organization,
            } | values,
            api_key="sk-upstream",
        )  # fmt: skip
