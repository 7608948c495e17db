"""
A request of the lane and its answer, without ASGI between the connection and the gateway.

Uvicorn's own cycle starts an application at the head of a request, hands it messages, and checks
what it says message by message. This one starts when the request is whole, and writes an answer in
one piece. Uvicorn's connection takes it for one of its own.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from costplatform.connections import Connection

log = logging.getLogger(__name__)

_STATUS_LINES: Final = {each.value: f"HTTP/1.1 {each.value} {each.phrase}" for each in HTTPStatus}
_BROKEN: Final = b"Internal Server Error"


class _Nobody:
    """Whom uvicorn would wake: nobody waits for messages."""

    def set(self) -> None:
        """Wake nobody."""


class Exchange(RequestResponseCycle):
    def __init__(
        self, connection: "Connection", *, headers: Sequence[tuple[bytes, bytes]], version: str
    ) -> None:
        # What uvicorn's connection reads and writes of a cycle; its own constructor makes more.
        self.disconnected = False
        self.response_started = self.response_complete = False
        self.keep_alive = version != "1.0" and connection.parser.should_keep_alive()
        self.message_event = _Nobody()  # type: ignore[assignment]  # all that is asked of an event
        self.headers = headers
        self.received = bytearray()
        self._connection = connection
        self._is_chunked = version != "1.0"
        self._leave: Callable[[], object] | None = None

    @property
    def body(self) -> bytes:  # type: ignore[override]  # nothing of uvicorn's touches it
        return bytes(self.received)

    async def run(self, serve: Callable[["Exchange"], Awaitable[None]]) -> None:
        """Have the request served; whatever goes wrong is at least not answered as a success."""
        try:
            await serve(self)
        except BaseException:
            log.exception("request_broke")
            self._break_off()

    # --- What the connection tells -------------------------------------------------------------

    def gone(self) -> None:
        """Tell whoever serves the request that its client is gone."""
        if self._leave is not None:
            self._leave()

    # --- What the lane asks --------------------------------------------------------------------

    def when_gone(self, call: Callable[[], object] | None) -> None:
        self._leave = call
        if self.disconnected:
            self.gone()

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if self.disconnected:
            return
        head = self._head(status, headers, f"content-length: {len(body)}")
        self._connection.transport.writelines([head, body])
        self._complete()

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        if not self.disconnected:
            framing = "transfer-encoding: chunked" if self._is_chunked else ""
            self._connection.transport.write(self._head(status, headers, framing))

    async def pass_on(self, piece: bytes) -> None:
        connection = self._connection
        if connection.flow.write_paused and not self.disconnected:
            await connection.flow.drain()
        if piece and not self.disconnected:
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece
            connection.transport.write(framed)

    def end(self) -> None:
        if not self.disconnected:
            if self._is_chunked:
                self._connection.transport.write(b"0\r\n\r\n")
            self._complete()

    # -------------------------------------------------------------------------------------------

    def _head(self, status: int, headers: Mapping[str, str], framing: str) -> bytes:
        """
        Return the head of the answer.

        :raises ValueError: if a header would be more than one
        """
        lines = [_STATUS_LINES[status], *(f"{name}: {headers[name]}" for name in headers)]
        if framing:
            lines.append(framing)
        if not self.keep_alive:
            lines.append("connection: close")
        text = "\r\n".join(lines)
        breaks = len(lines) - 1
        if text.count("\r") != breaks or text.count("\n") != breaks or "\0" in text:
            raise ValueError("a header has a line break in it")
        self.response_started = True
        return b"%b\r\n%b\r\n" % (text.encode("latin-1", "replace"), self._connection.defaults())

    def _complete(self) -> None:
        self.response_complete = True
        connection = self._connection
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()

    def _break_off(self) -> None:
        if self.response_started:
            self._connection.transport.close()
        else:
            self.keep_alive = False
            self.answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"content-type": "text/plain"}, _BROKEN)
