"""
Connections that wait for the next request, and requests that wait for a connection.

There are at most so many connections, whoever they lead to. The one that was used last is used
next, so that a crowd's surplus goes idle and is closed. Who waits is served in order: nobody
overtakes, and while anybody waits no connection is idle.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.upstream.errors import UpstreamNotReached
from gateway.upstream.targets import Origin, Target
from gateway.upstream.wire import Connection, Owner

CLOSE_SECONDS_MAX: Final = 2.0

Connect = Callable[[Target, Owner], Awaitable[Connection]]


@dataclass(slots=True, eq=False)
class Waiter:
    """Gets a connection to its origin, or None: the place of one that is to be made."""

    origin: Origin
    turn: asyncio.Future[Connection | None]


class Pool:
    def __init__(self, *, connections_max: int, connect: Connect) -> None:
        self._connections_max = connections_max
        self._connect = connect
        self._places_taken = 0
        """Connections that there are or that are being made."""
        self._open: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._waiting: deque[Waiter] = deque()
        self._is_closed = False

    def take_idle(self, origin: Origin) -> Connection | None:
        """Return the connection to an origin that was used last, if one is still good."""
        while connections := self._idle.get(origin):
            connection = connections.pop()
            if not connections:
                del self._idle[origin]
            if connection.is_fresh():
                return connection
            connection.shut("it was closed")
        return None

    async def take(self, target: Target) -> Connection:
        """
        Return a connection, a new one or one that was waited for.

        :raises UpstreamNotReached: if none can be made
        """
        while True:
            if self._is_closed:
                raise UpstreamNotReached("the client is closed")
            got = await self._place(target.origin)
            if got is None:
                return await self._make(target)
            if got.is_fresh():
                return got
            got.shut("it was closed")

    def give_back(self, connection: Connection) -> None:
        """Hand a connection that is free to the first who waits, or keep it."""
        if waiter := self._next_waiter():
            if waiter.origin == connection.origin:
                waiter.turn.set_result(connection)
            else:
                self._waiting.appendleft(waiter)
                connection.shut("another was needed")
        else:
            self._idle.setdefault(connection.origin, []).append(connection)

    def forget(self, connection: Connection) -> None:
        """Let another be made in the place of one that is closed."""
        if connection not in self._open:
            return
        self._open.remove(connection)
        idle = self._idle.get(connection.origin, [])
        if connection in idle:
            idle.remove(connection)
            if not idle:
                del self._idle[connection.origin]
        self._free_place()

    async def close(self) -> None:
        """Close all connections, and return when they are; whoever waits is told."""
        self._is_closed = True
        while waiter := self._next_waiter():
            waiter.turn.set_exception(UpstreamNotReached("the client is closed"))
        connections = list(self._open)
        for connection in connections:
            connection.shut("the client is closed")
        if connections:
            lost = [connection.lost for connection in connections]
            await asyncio.wait(lost, timeout=CLOSE_SECONDS_MAX)

    async def _place(self, origin: Origin) -> Connection | None:
        if self._places_taken < self._connections_max or self._close_oldest():
            self._places_taken += 1
            return None
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(origin, turn)
        self._waiting.append(waiter)
        try:
            return await turn
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: Waiter) -> None:
        """Pass on what somebody was given who has gone before taking it."""
        if waiter.turn.cancelled():
            with suppress(ValueError):
                self._waiting.remove(waiter)
        elif not waiter.turn.exception():
            got = waiter.turn.result()
            if got is None:
                self._free_place()
            elif not got.is_shut:
                self.give_back(got)

    async def _make(self, target: Target) -> Connection:
        try:
            connection = await self._connect(target, self)
        except BaseException:
            self._free_place()
            raise
        self._open.add(connection)
        if self._is_closed:
            connection.shut("the client is closed")
        if connection.is_shut:
            self.forget(connection)
            raise UpstreamNotReached("the connection was closed at once")
        return connection

    def _close_oldest(self) -> bool:
        """Close the connection that is idle for longest, if there is one."""
        oldest = [connections[0] for connections in self._idle.values()]
        if not oldest:
            return False
        min(oldest, key=lambda connection: connection.idle_since).shut("another was needed")
        return True

    def _free_place(self) -> None:
        if waiter := self._next_waiter():
            waiter.turn.set_result(None)
        else:
            self._places_taken -= 1

    def _next_waiter(self) -> Waiter | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.turn.done():
                return waiter
        return None
