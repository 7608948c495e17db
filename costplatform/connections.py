"""
One client's connection: how long each step may take, how large it may be, and strict HTTP.

Uvicorn's protocol on httptools, which knows no deadline but that of an idle connection. What is
refused here never reaches the application, through neither door; see ``docs/reference/limits.md``.
"""

import asyncio
import time
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from costplatform import heads
from costplatform.crowd import Crowd
from costplatform.exchange import Exchange
from gateway import metrics
from gateway.errors import (
    BodyTooLarge,
    BodyTooSlow,
    GatewayError,
    HeadTooLarge,
    HeadTooSlow,
    InvalidHttp,
    Unavailable,
)
from gateway.ids import new_request_id

BODY_GRACE_SECONDS: Final = 5.0
"""From then on the least rate of a body counts."""
FRAMING_BYTES_MAX: Final = 4 * heads.BYTES_MAX
FRAMING_PER_BYTE_MAX: Final = 8
"""What chunks may cost beside their content: six bytes for one are legal, kilobytes are not."""
LINGER_SECONDS: Final = 2.0
"""A refused client may still send, and is not listened to: closed at once it might miss why."""
DELIVERY_SECONDS_MAX: Final = 600.0
"""How long a client may take for the rest of an answer that is complete."""


LANE: Final = "costplatform.lane"
"""Under this name the application leaves a :class:`Lane` in its state, if it has one."""


class Lane(Protocol):
    """What serves hot requests without ASGI."""

    def takes(self, method: bytes, path: str) -> object | None:
        """Return what it knows such a request as, None if it is none of its own."""

    async def serve(self, caller: Exchange, found: Any) -> None:
        """Serve one."""


class Stage(Enum):
    """What the connection waits for."""

    NEW = auto()
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    IDLE = auto()
    LINGER = auto()


_ANSWERED: Final = frozenset({Stage.IDLE, Stage.LINGER})
_WAITING: Final = frozenset({Stage.NEW, Stage.HEAD, Stage.IDLE})


class Connection(HttpToolsProtocol):
    """``since`` is when its stage began; ``body_bytes`` is what its request's body has so far."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: Crowd,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # What follows a request that says it is the last is no request.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self._crowd = server_state
        self._limits = server_state.limits
        self._stage = Stage.NEW
        self.since = time.monotonic()
        self.body_bytes = 0
        self._wire_bytes = 0
        self._is_heard = True
        self._unread_bytes = 0
        self._unread_since = 0.0
        self._lane = cast("Lane | None", app_state.get(LANE))
        self._found: object | None = None
        """What the lane knows the request as; None if it goes through the application."""

    # --- What the crowd asks ---------------------------------------------------------------

    def is_waiting(self) -> bool:
        """Return whether nothing is asked for, and nothing under way to the client."""
        return self._stage in _WAITING and not self.transport.get_write_buffer_size()

    def is_sending(self) -> bool:
        """Return whether a body is on its way."""
        return self._stage is Stage.BODY

    def cut(self, *, reason: str) -> None:
        """End the connection without a word; a request that runs is settled as one left alone."""
        metrics.connection_cut(reason)
        self._forget()
        self.transport.abort()

    def look(self, now: float) -> None:
        """Do what is due: refuse what takes too long, cut who does not read."""
        waiting = self.transport.get_write_buffer_size()
        if (waiting or self._unread_bytes) and self._is_unread(waiting, now):
            self.cut(reason=metrics.UNREAD)
        elif self._stage is Stage.BODY:
            self._look_at_body(now - self.since)
        elif self._stage is not Stage.ANSWER:
            self._look_at_wait(now - self.since)

    def _look_at_wait(self, seconds: float) -> None:
        limits, stage = self._limits, self._stage
        if stage is Stage.HEAD and seconds > limits.head_seconds:
            self._refuse(HeadTooSlow(f"The head did not come within {limits.head_seconds} s."))
        elif stage is Stage.NEW and seconds > limits.head_seconds:
            self.cut(reason=metrics.SILENT)
        elif stage in _ANSWERED:
            self._look_at_rest(seconds)

    def _look_at_rest(self, seconds: float) -> None:
        if self.transport.get_write_buffer_size():
            if seconds > DELIVERY_SECONDS_MAX:
                self.cut(reason=metrics.UNREAD)
        elif self._stage is Stage.LINGER and seconds > LINGER_SECONDS:
            self.transport.abort()
        elif self._stage is Stage.IDLE and seconds > self._limits.idle_seconds:
            self._end_idle()

    def _end_idle(self) -> None:
        if self._wire_bytes:  # blank lines, for ever
            self.cut(reason=metrics.SILENT)
        else:
            self.transport.close()

    def _look_at_body(self, seconds: float) -> None:
        if self.flow.read_paused:
            return  # it is we who do not read
        due = self._limits.body_bytes_per_second * (seconds - BODY_GRACE_SECONDS)
        if seconds > self._limits.body_seconds or self.body_bytes < due:
            self._refuse(BodyTooSlow("The body came too slowly."))

    def _is_unread(self, waiting: int, now: float) -> bool:
        """
        Return whether the client has taken nothing of the bytes that wait for it, for too long.

        Growth is no progress: only what shrinks is read, or what may be written again.
        """
        if waiting < self._unread_bytes or not self._unread_bytes:
            self._unread_since = now
        self._unread_bytes = waiting
        return waiting > 0 and now - self._unread_since > self._limits.unread_seconds

    # --- What the event loop tells -----------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._crowd.guests.add(self)
        if self._crowd.is_overrun():
            self.cut(reason=metrics.CROWDED)
        elif not self._crowd.has_room(self):
            message = "This server has as many connections as it may have."
            self._refuse(Unavailable(message, code="too_many_connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()
        if isinstance(self.cycle, Exchange):
            self.cycle.gone()

    def data_received(self, data: bytes) -> None:
        if not self._is_heard:
            return
        self._unset_keepalive_if_required()
        self._wire_bytes += len(data)
        try:
            self.parser.feed_data(data)
            self._check_framing()
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError as error:
            self._fail(_told(error))
        except GatewayError as error:
            self._fail(error)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_bytes = 0

    def handle_websocket_upgrade(self) -> None:
        self._forget()
        super().handle_websocket_upgrade()

    # --- What the parser tells ---------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._stage is Stage.ANSWER:
            raise InvalidHttp("Wait for the answer before you send the next request.")
        self._enter(Stage.HEAD)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._check_head_size()
        announced = heads.check(
            method=self.parser.get_method(), version=self.parser.get_http_version(),
            target=self.url, headers=self.headers,
        )  # fmt: skip
        if announced > self._limits.body_bytes:
            raise self._too_large()
        if self.parser.should_upgrade():
            self._check_upgrade(announced)
        self._enter(Stage.BODY)
        self._found = self._in_lane()
        if self._found is None:
            super().on_headers_complete()
        else:
            self._begin_exchange()
        # Trailers are told as headers are, and must not become any: a proxy has not seen them.
        self.headers = [*self.headers] if self.parser.should_upgrade() else []

    def _in_lane(self) -> object | None:
        """Return what the lane knows the request as, None if it goes through the application."""
        if self._lane is None or self.parser.should_upgrade():
            return None
        path = self.url if self.url.startswith(b"/") else httptools.parse_url(self.url).path
        text = path.partition(b"?")[0].decode("latin-1")
        return self._lane.takes(self.parser.get_method(), unquote(text) if "%" in text else text)

    def _begin_exchange(self) -> None:
        version = self.parser.get_http_version()
        self.cycle = Exchange(self, headers=self.headers, version=version)
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        self._crowd.hold(len(body))
        if self.body_bytes > self._limits.body_bytes:
            raise self._too_large()
        if (largest := self._crowd.largest_body()) is not None:
            error = Unavailable("Too many bodies of requests are held.", code="too_many_bodies")
            if largest is self:
                raise error
            largest._refuse(error)  # noqa: SLF001  # of the same class
        if self._found is None:
            super().on_body(body)
        else:
            cast("Exchange", self.cycle).received += body

    def on_message_complete(self) -> None:
        self._stage = Stage.ANSWER
        if self._found is None or self._lane is None:
            super().on_message_complete()
            return
        exchange = cast("Exchange", self.cycle)
        task = self.loop.create_task(exchange.run(partial(self._lane.serve, found=self._found)))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        was_whole = self._stage is Stage.ANSWER
        if self._stage is not Stage.LINGER:
            self._enter(Stage.IDLE)
        self._release()
        self._wire_bytes = 0
        # As uvicorn's, without a timer for each request and without pipelining: we look at both.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
        if not was_whole:
            self._linger()

    def defaults(self) -> bytes:
        """Return the headers that every answer has, each with its line break."""
        return b"".join(b"%b: %b\r\n" % each for each in self.server_state.default_headers)

    # --- Ends --------------------------------------------------------------------------------

    def _check_framing(self) -> None:
        if self._stage in _WAITING:
            if self._wire_bytes > heads.BYTES_MAX:
                raise _head_too_large()
        elif self._stage is Stage.BODY:
            allowed = FRAMING_BYTES_MAX + (1 + FRAMING_PER_BYTE_MAX) * self.body_bytes
            if self._wire_bytes > allowed:
                raise InvalidHttp("The body's chunks carry more beside the body than in it.")

    def _check_upgrade(self, announced: int) -> None:
        is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        if self._should_upgrade() and (announced or is_chunked):
            raise InvalidHttp("Ask for a websocket without a body.")

    def _check_head_size(self) -> None:
        if len(self.headers) > heads.HEADERS_MAX:
            raise HeadTooLarge(f"A request may have {heads.HEADERS_MAX} headers at most.")
        if self._wire_bytes <= heads.BYTES_MAX:
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > heads.BYTES_MAX:
            raise _head_too_large()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body may have {self._limits.body_bytes} bytes at most.")

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        else:
            self._fail(InvalidHttp("Of other protocols only websockets are known."))

    def _fail(self, error: GatewayError) -> None:
        """Refuse what has come; what comes behind a whole request only ends the connection."""
        if self._stage is Stage.ANSWER:
            self._is_heard = False
            self.cycle.keep_alive = False
        else:
            self._refuse(error)

    def _refuse(self, error: GatewayError) -> None:
        """Answer in the application's place, and end the connection."""
        metrics.refused(error)
        running = self._running()
        if running is None or not running.response_started:
            self.transport.write(answer_to(error, self.server_state.default_headers))
        if running is not None:
            # Whoever waits for the rest of the body learns that there is none.
            running.disconnected = True
            running.message_event.set()
        self._release()
        self._linger()

    def _running(self) -> RequestResponseCycle | None:
        latest = cast("RequestResponseCycle | None", self.cycle)
        return None if latest is None or latest.response_complete else latest

    def _linger(self) -> None:
        """Say that nothing more follows, and throw away what still comes, for a moment."""
        self._unset_keepalive_if_required()
        self._enter(Stage.LINGER)
        self._is_heard = False
        self.flow.resume_reading()
        if not self.transport.is_closing():
            self.transport.write_eof()

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        # Not the event loop's: all that come in one turn of it would be of the same age.
        self.since = time.monotonic()

    def _forget(self) -> None:
        self._crowd.guests.discard(self)
        self._crowd.connections.discard(self)
        self._release()

    def _release(self) -> None:
        self._crowd.hold(-self.body_bytes)
        self.body_bytes = 0


def answer_to(error: GatewayError, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return a whole answer that ends the connection, in the shape of all refusals."""
    request_id = new_request_id()
    body = error.body(request_id=request_id)
    status = HTTPStatus(error.http_status)
    headers = error.headers() | {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": request_id,
        "connection": "close",
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name.decode()}: {value.decode()}" for name, value in default_headers]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _told(error: httptools.HttpParserError) -> GatewayError:
    """Return why the parser stopped: by what one of our callbacks raised, or by itself."""
    cause = error.__context__
    if isinstance(cause, GatewayError):
        return cause
    return InvalidHttp("This is not HTTP as it should be.")


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The head of a request may have {heads.BYTES_MAX} bytes at most.")
