"""
One connection: it writes a request, reads the answer, and says whether it may serve another.

The parser is llhttp at its strictest. A connection whose answer was not taken whole, or that
said anything beyond it, is closed and never used again.
"""

import asyncio
import select
from typing import Final, Protocol, cast

import httptools

from gateway.upstream.answer import HEAD_BYTES_MAX, Answer, Garbled
from gateway.upstream.errors import UpstreamNotReached
from gateway.upstream.interface import KEEPALIVE_SECONDS, UNREAD_BYTES_MAX
from gateway.upstream.targets import Origin

SEND_BYTES: Final = 64 * 1_024
ERROR_STATUS_MIN: Final = 400
_LATE: Final = "it did not answer in time"


class Owner(Protocol):
    """Whom a connection tells what becomes of it."""

    def give_back(self, connection: "Connection") -> None:
        """It may serve another request."""

    def forget(self, connection: "Connection") -> None:
        """It never will again; told once."""


class Connection(asyncio.Protocol):
    """
    One at a time, requests are asked of it.

    All deadlines share one timer, which is set again only when it rings too early: a request
    that is answered soon costs none.
    """

    def __init__(self, origin: Origin, *, idle_seconds: float, owner: Owner) -> None:
        self.origin = origin
        self.is_shut = False
        self.idle_since = 0.0
        self._idle_seconds = idle_seconds
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._poll = select.poll()
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._unsent: memoryview | None = None
        self._is_choked = self._is_paused = False
        self._barren_bytes = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = self._heard_at = self._ends_at = self._kept_until = 0.0

    # --- What the pool and the client ask of it ------------------------------------------------

    def is_fresh(self) -> bool:
        """
        Return whether it may serve a request.

        The system is asked, too: an upstream may have closed it, or said something that nobody
        asked for, and the event loop does not know yet. Nothing was sent then.
        """
        if self.is_shut or self._transport is None or self._transport.is_closing():
            return False
        return not self._poll.poll(0)

    def ask(self, head: bytes, body: bytes, *, method: str, ends_at: float) -> Answer:
        """
        Write a request; its answer comes in the object that is returned.

        :raises UpstreamNotReached: if the connection has been closed meanwhile
        """
        if self.is_shut or self._transport is None:
            raise UpstreamNotReached("the connection was closed")
        assert self._answer is None, "one request at a time"
        self._answer = answer = Answer(self, method=method, loop=self._loop)
        answer.parser = httptools.HttpResponseParser(answer)
        self._barren_bytes = 0
        self._heard_at, self._ends_at = self._loop.time(), ends_at
        if len(body) <= SEND_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._send_more()
        self._set_alarm()
        return answer

    def resume(self) -> None:
        """Read on, after what had come was taken."""
        if self._is_paused and not self.is_shut and self._transport is not None:
            self._is_paused = False
            self._heard_at = self._loop.time()
            self._set_alarm()
            self._transport.resume_reading()

    def release(self, answer: Answer) -> None:
        """End an exchange whose answer was taken whole: others may ask, or it is closed."""
        if answer is not self._answer or self._transport is None:
            return
        kept = min(KEEPALIVE_SECONDS, answer.keepalive_seconds())
        is_sent = not self._unsent and not self._transport.get_write_buffer_size()
        if not (answer.is_kept_alive and is_sent and kept > 0):
            self.shut("it was closed")
            return
        self._answer = answer.parser = None
        self.idle_since = self._loop.time()
        self._kept_until = self.idle_since + kept
        self._set_alarm()
        self._owner.give_back(self)

    def leave(self, answer: Answer) -> None:
        """End an exchange whose answer nobody wants: what still comes must reach no other."""
        if answer is self._answer:
            self.shut("it was left")

    def shut(self, why: str, *, timed_out: bool = False) -> None:
        """Close at once, whatever is under way: an answer that is not whole breaks off."""
        if self.is_shut:
            return
        self.is_shut = True
        if self._alarm is not None:
            self._alarm.cancel()
        answer, self._answer, self._unsent = self._answer, None, None
        if answer is not None:
            answer.parser = None
            if answer.is_complete:
                answer.wake()
            else:
                answer.fail(why, timed_out=timed_out)
        if self._transport is not None:
            self._transport.abort()
        self._owner.forget(self)

    # --- What the event loop tells -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.parser is None:
            self.shut("it spoke unasked")
            return
        self._heard_at = self._loop.time()
        read_before = answer.body_bytes
        try:
            answer.refuse_surplus()
            answer.parser.feed_data(data)
            self._bound_barren(0 if answer.body_bytes > read_before else len(data))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, Garbled) as error:
            self._end_garbled(answer, error)
            return
        answer.wake()
        if answer.unread_bytes > UNREAD_BYTES_MAX:
            self._pause()

    def eof_received(self) -> None:
        """A body without a length ends so; any other breaks off, as the loop tells next."""
        if self._answer is None:
            self.shut("it was closed")
        elif self._answer.ends_with_connection:
            self._answer.complete(is_kept_alive=False)
            self._answer.wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.shut("it broke off")
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._is_choked = True

    def resume_writing(self) -> None:
        self._is_choked = False
        self._heard_at = self._loop.time()
        self._send_more()

    # --- Sending and reading -------------------------------------------------------------------

    def _send_more(self) -> None:
        """Write until the system takes no more; not to one that has refused already."""
        answer = self._answer
        while self._unsent and not self._is_choked and self._transport is not None:
            if answer is None or answer.status >= ERROR_STATUS_MIN:
                return
            part, self._unsent = self._unsent[:SEND_BYTES], self._unsent[SEND_BYTES:]
            self._transport.write(part)

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None and not self.is_shut:
            self._is_paused = True
            self._transport.pause_reading()

    def _bound_barren(self, data_bytes: int) -> None:
        """Refuse what goes on without a byte of a body: heads, interim answers, trailers."""
        self._barren_bytes = self._barren_bytes + data_bytes if data_bytes else 0
        if self._barren_bytes > HEAD_BYTES_MAX:
            raise Garbled("its head is too large")

    def _end_garbled(self, answer: Answer, error: Exception) -> None:
        """Close; what was complete stays so, unless its length turns out to have been wrong."""
        cause = error.__context__ if isinstance(error.__context__, Garbled) else error
        why = str(cause) if isinstance(cause, Garbled) else "its answer is not HTTP"
        if not answer.is_complete or answer.has_length:
            answer.fail(why)
        self.shut(why)

    # --- Deadlines -----------------------------------------------------------------------------

    def _due_at(self) -> float:
        if self._answer is None:
            return self._kept_until
        if self._is_paused or self._answer.is_complete:
            return self._ends_at
        return min(self._heard_at + self._idle_seconds, self._ends_at)

    def _set_alarm(self) -> None:
        due_at = self._due_at()
        if self._alarm is not None:
            if self._rings_at <= due_at:
                return
            self._alarm.cancel()
        self._rings_at = due_at
        self._alarm = self._loop.call_at(due_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._loop.time() < self._due_at():
            self._set_alarm()
        else:
            self.shut(_LATE, timed_out=True)
