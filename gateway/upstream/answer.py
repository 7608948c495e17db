"""What has come so far of the answer to one request."""

import asyncio
import re
from typing import TYPE_CHECKING, Final

import httptools

from gateway.upstream.errors import UpstreamBroke

if TYPE_CHECKING:
    from gateway.upstream.wire import Connection

HEAD_BYTES_MAX: Final = 64 * 1_024
HEADERS_MAX: Final = 100
STATUS_MIN, FINAL_STATUS_MIN, SWITCHING_PROTOCOLS = 100, 200, 101
_KEEPALIVE: Final = re.compile(rb"(?:^|[,; ])timeout=(\d{1,9})")


class Garbled(Exception):
    """What has come is no answer, or not to our request."""


class Answer:
    """
    Each request has its own, and its own parser: whoever holds on to an old one never sees a
    byte of another. The methods named ``on_…`` are the parser's.
    """

    __slots__ = (
        "_connection", "_error", "_head_bytes", "_is_head_only", "_loop", "_pieces", "_waiter",
        "body_bytes", "ends_with_connection", "has_head", "has_length", "headers", "is_complete",
        "is_kept_alive", "parser", "status", "unread_bytes",
    )  # fmt: skip

    def __init__(
        self, connection: "Connection", *, method: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = self.has_length = self.is_complete = self.is_kept_alive = False
        self.ends_with_connection = False
        """Its body has no length, and is whole when the upstream ends the connection in order."""
        self.body_bytes = self.unread_bytes = 0
        self.parser: httptools.HttpResponseParser | None = None
        self._connection = connection
        self._error: UpstreamBroke | None = None
        self._head_bytes = 0
        self._is_head_only = method == "HEAD"
        self._loop = loop
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None

    # --- What its reader asks of it ------------------------------------------------------------

    async def head(self) -> None:
        """
        Return when status and headers are there.

        :raises UpstreamBroke: if they did not come
        """
        while not self.has_head:
            if self._error is not None:
                raise _again(self._error)
            await self._wait()

    def __aiter__(self) -> "Answer":
        return self

    async def __anext__(self) -> bytes:
        """
        Return the next piece of the body; at its end the connection is given back.

        No generator, which the event loop would have to watch; and whoever is cancelled in it
        may go on with the next call.

        :raises UpstreamBroke: if the body ends before its end; what has come is returned first
        """
        while not self._pieces:
            if self._error is not None:
                raise _again(self._error)
            if self.is_complete:
                self._connection.release(self)
                raise StopAsyncIteration
            await self._wait()
        return self._take()

    def waiting(self) -> bytes:
        """Return what has come of the body and nobody has taken."""
        return self._take() if self._pieces else b""

    def close(self) -> None:
        """Give the connection back if all was taken, else close it."""
        if self.is_complete and not self._pieces and self._error is None:
            self._connection.release(self)
        else:
            self._connection.leave(self)

    def keepalive_seconds(self) -> float:
        """Return how long the upstream keeps the connection, if it says so, less a second."""
        for name, value in self.headers:
            if name == b"keep-alive" and (found := _KEEPALIVE.search(value)):
                return int(found[1]) - 1
        return float("inf")

    # --- What the connection tells -------------------------------------------------------------

    def complete(self, *, is_kept_alive: bool) -> None:
        self.is_complete = True
        self.is_kept_alive = is_kept_alive

    def fail(self, why: str, *, timed_out: bool = False) -> None:
        """Have its reader told, after what has come; the first reason counts."""
        if self._error is None:
            self._error = UpstreamBroke(why, timed_out=timed_out)
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def refuse_surplus(self) -> None:
        """
        Return if more may come.

        :raises Garbled: if it is complete
        """
        if self.is_complete:
            raise Garbled("its answer is longer than it said")

    # --- What the parser tells -----------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.refuse_surplus()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX or len(self.headers) >= HEADERS_MAX:
            raise Garbled("its head is too large")
        if not self.has_head:  # trailers are of no use to anyone
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        status = self.parser.get_status_code()
        if status < STATUS_MIN or status == SWITCHING_PROTOCOLS:
            raise Garbled("its answer is not HTTP")
        if status < FINAL_STATUS_MIN:
            self.headers.clear()
            return
        self.status, self.has_head = status, True
        self._look_for_length()
        if self._is_head_only:
            self.complete(is_kept_alive=self.parser.should_keep_alive())

    def on_body(self, piece: bytes) -> None:
        self.refuse_surplus()
        self._pieces.append(piece)
        self.body_bytes += len(piece)
        self.unread_bytes += len(piece)

    def on_message_complete(self) -> None:
        if self.has_head and not self.is_complete:
            assert self.parser is not None
            self.complete(is_kept_alive=self.parser.should_keep_alive())

    def _look_for_length(self) -> None:
        is_chunked = False
        for name, value in self.headers:
            if name == b"content-length":
                self.has_length = True
            elif name == b"transfer-encoding":
                is_chunked = value.lower().rstrip(b" \t").endswith(b"chunked")
        self.ends_with_connection = not self.has_length and not is_chunked

    # --- Waiting -------------------------------------------------------------------------------

    def _take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        self.unread_bytes = 0
        self._connection.resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _wait(self) -> None:
        assert self._waiter is None, "one reader at a time"
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def _again(error: UpstreamBroke) -> UpstreamBroke:
    """Return a copy: one that is raised twice would keep the frames of both."""
    return UpstreamBroke(str(error), timed_out=error.timed_out)
