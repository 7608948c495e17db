"""All connections of a web process: what they take together, and who goes when that is too much."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from uvicorn.server import ServerState

from costplatform.limits import Limits
from gateway import metrics

if TYPE_CHECKING:
    from costplatform.connections import Connection

LOOK_SECONDS: Final = 0.5
"""How often deadlines are looked at: one timer for all, instead of several for each request."""
ROOM_SHARE: Final = 100
"""A full process lets go of a hundredth of its connections at once, so that it seldom has to."""


class Crowd(ServerState):
    """
    Uvicorn's state of a server, with limits.

    ``guests`` are the connections that speak HTTP; ``connections`` has the websockets, too.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        self.guests: set[Connection] = set()
        self.bodies_bytes = 0

    def watch(self) -> None:
        """Look at the deadlines of all connections, now and as long as the event loop runs."""
        loop = asyncio.get_running_loop()
        loop.call_later(LOOK_SECONDS, self.watch)
        now = time.monotonic()
        for each in tuple(self.guests):
            each.look(now)
        metrics.connections(count=len(self.connections))

    def has_room(self, newcomer: "Connection") -> bool:
        """
        Return whether ``newcomer``, which is one of us already, may stay.

        Where there are too many, those that have waited longest without asking for anything go.
        """
        if len(self.connections) <= self.limits.connections:
            return True
        others = self.guests - {newcomer}
        waiting = sorted(
            (each for each in others if each.is_waiting()), key=lambda each: each.since
        )
        leaving = waiting[: 1 + self.limits.connections // ROOM_SHARE]
        for each in leaving:
            each.cut(reason=metrics.CROWDED)
        return bool(leaving)

    def is_overrun(self) -> bool:
        """Return whether there are so many that a newcomer is not even told."""
        return len(self.connections) > self.limits.connections + self.limits.connections // 10

    def hold(self, count: int) -> None:
        """Take note of ``count`` more bytes of bodies in memory, or fewer."""
        self.bodies_bytes += count

    def largest_body(self) -> "Connection | None":
        """Return whose body must go if too much is held: the largest of those still to come."""
        if self.bodies_bytes <= self.limits.bodies_bytes:
            return None
        unfinished = (each for each in self.guests if each.is_sending())
        return max(unfinished, key=lambda each: each.body_bytes, default=None)
