"""The stream of one attempt, as a door reads it."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from django.conf import settings

from budgets import failpoints
from gateway import sse
from gateway.process import GatewayProcess
from gateway.upstream import Response, UpstreamBroke
from spend import events
from spend.events import Outcome

if TYPE_CHECKING:
    from gateway.attempt import Attempt

UNREAD_SECONDS_MAX = 120.0
"""A client that has not taken the next piece for so long counts as gone."""


class Relay:
    """
    The events of a stream, untouched, metered as they pass; at most one chunk is kept in memory.

    The spend is settled before the last event goes out, so that whoever has read the whole
    stream finds it settled.
    """

    def __init__(self, attempt: "Attempt", response: Response, process: GatewayProcess) -> None:
        self._attempt = attempt
        self._meter = attempt.meter
        self._response = response
        self._hides_usage = attempt.hides_usage
        self._is_opaque = not response.is_stream
        self._bytes_left = settings.GATEWAY_REPLY_BYTES_MAX
        self._process = process
        self._chunks = response.chunks()
        self._splitter = sse.EventSplitter()
        self._out: deque[bytes] = deque()
        self._has_begun = False
        self._has_ended = False
        self._is_settled = False
        self._succeeded_with: Outcome | None = None
        self._is_closed = False
        self.when_settled: Callable[[Collection[str]], None] = lambda _: None
        self._loop = asyncio.get_running_loop()
        self._touched_at = self._loop.time()
        self._watching: asyncio.TimerHandle | None = None
        self._watch()

    def __aiter__(self) -> "Relay":
        return self

    async def __anext__(self) -> bytes:
        self._touched_at = self._loop.time()
        while not self._out:
            if self._has_ended:
                raise StopAsyncIteration
            await self._pull()
        if len(self._out) == 1:
            return self._out.popleft()
        piece = b"".join(self._out)
        self._out.clear()
        return piece

    async def aclose(self) -> None:
        """End the stream wherever it is; what was not read is drained for a while and settled."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._is_settled:
            self._meter.flags.add(events.CLIENT_CLOSED)
            self._process.spawn(self._drain())
        else:
            self._keep()
            self._response.close()

    def let_go(self) -> None:
        """Close it soon: its caller has gone, and the door may never have begun to read."""
        if not self._is_closed:
            self._process.spawn(self.aclose())

    def _watch(self) -> None:
        """Close a stream that nobody reads any more: a door may be dropped without a word."""
        if self._is_settled:
            return
        if self._loop.time() - self._touched_at > UNREAD_SECONDS_MAX:
            self._process.spawn(self.aclose())
            return
        self._watching = self._loop.call_later(UNREAD_SECONDS_MAX / 4, self._watch)

    async def _pull(self) -> None:
        chunk: bytes | None
        try:
            chunk = await self._chunks.__anext__()
            self._count(chunk)
            if not self._has_begun:
                self._has_begun = True
                self._attempt.began_to_answer()
            failpoints.hit(failpoints.MID_STREAM)
            self._touched_at = self._loop.time()
        except StopAsyncIteration:
            chunk = None
        except UpstreamBroke as error:
            self._meter.flags.add(events.UPSTREAM_ERROR)
            self._attempt.broke(error)
            self._out.append(self._attempt.error_event(error))
            chunk = None
        if chunk is None:
            await self._end()
        else:
            await self._take(chunk)

    def _count(self, chunk: bytes) -> None:
        self._bytes_left -= len(chunk)
        if self._bytes_left < 0:
            self._response.close()
            raise UpstreamBroke("the answer is too large")

    async def _take(self, chunk: bytes) -> None:
        recording = self._attempt.recording
        if self._is_opaque:
            self._out.append(chunk)
            if recording is not None:
                recording.add_sound(chunk)
            return
        for event in self._splitter.feed(chunk):
            only_usage = self._read(event)
            if recording is not None:
                recording.add_event(event, only_usage=only_usage)
            if self._meter.is_done:
                await self._settle()
            if not (only_usage and self._hides_usage):
                self._out.append(event)

    async def _end(self) -> None:
        if rest := self._splitter.rest():
            only_usage = self._read(rest)
            self._out.appendleft(rest)
            if self._attempt.recording is not None:
                self._attempt.recording.add_event(rest, only_usage=only_usage)
        self._has_ended = True
        if self._is_opaque and events.UPSTREAM_ERROR not in self._meter.flags:
            self._meter.end_opaque()
        failpoints.hit(failpoints.AFTER_LAST_CHUNK)
        await self._settle()
        self._keep()
        self._response.close()

    def _read(self, event: bytes) -> bool:
        data = sse.data_of(event)
        return self._meter.read_event(data) if data else False

    async def _settle(self) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        if self._watching is not None:
            self._watching.cancel()
        self.when_settled(self._meter.flags)
        outcome = await self._attempt.settle_metered()
        if self._meter.flags.isdisjoint({events.UPSTREAM_ERROR, events.CLIENT_CLOSED}):
            self._attempt.succeeded(outcome)
            self._succeeded_with = outcome

    def _keep(self) -> None:
        """Keep a stream that has come to its end, whether or not the last bytes were read."""
        outcome = self._succeeded_with
        if outcome is not None and events.UPSTREAM_ERROR not in self._meter.flags:
            self._attempt.keep(outcome, self._response.headers, is_stream=True)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._attempt.drain_seconds):
                async for chunk in self._response.chunks():
                    self._count(chunk)
                    await self._take(chunk)
                    self._out.clear()
        except TimeoutError:
            # What was seen until now is what is billed, flagged as an estimate.
            await self._take(await self._response.arrived())
        except UpstreamBroke:
            pass
        finally:
            self._response.close()
            await self._settle()
