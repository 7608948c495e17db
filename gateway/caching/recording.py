"""Takes an answer down while it passes, to keep it once it was whole and is settled."""

import time
from collections.abc import Mapping
from typing import Final

import orjson

from gateway import metrics, sse
from gateway.caching.entries import BYTES_MAX, Entry
from gateway.caching.slots import Slot
from gateway.catalogue import Target
from spend import events
from spend.events import Outcome

STATUS_KEPT: Final = 200
NOT_KEPT: Final = frozenset(
    {
        events.ESTIMATED, events.USAGE_CLAMPED, events.OVER_CEILING, events.UPSTREAM_ERROR,
        events.CLIENT_CLOSED,
    }
)  # fmt: skip
"""What is flagged so may not be the whole answer, or what it used is not known."""
_ERROR: Final = b'"error"'


class Room:
    """What all answers that are taken down at a time may hold of a process's memory."""

    def __init__(self, *, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, size: int) -> bool:
        """Return whether there is room for so many bytes; they are held then."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class Recording:
    """The bytes of one answer, as long as they are few enough and tell of no error."""

    def __init__(self, slot: Slot, room: Room) -> None:
        self.slot = slot
        self._room = room
        self._held = 0
        self._pieces: list[bytes] = []
        self._usage_only: list[tuple[int, int]] = []
        self._size = 0
        self._is_fit = True

    def add_body(self, body: bytes) -> None:
        """Take a whole answer."""
        self._add(body, data=body)

    def add_sound(self, piece: bytes) -> None:
        """Take a piece of an answer that nobody looks into."""
        self._add(piece, data=b"")

    def add_event(self, event: bytes, *, only_usage: bool) -> None:
        """Take an event of a stream."""
        if only_usage:
            self._usage_only.append((self._size, self._size + len(event)))
        self._add(event, data=sse.data_of(event) if _ERROR in event else b"")

    def entry(
        self, target: Target, outcome: Outcome, *, is_stream: bool, content_type: str
    ) -> Entry | None:
        """Return what is to be kept, once: None where it is not fit for that."""
        is_whole = outcome.status == STATUS_KEPT and NOT_KEPT.isdisjoint(outcome.flags)
        if not (self._is_fit and is_whole):
            return None
        body = b"".join(self._pieces)
        self._forget()
        return Entry(
            organization_id=self.slot.organization_id,
            deployment=target.public_id,
            provider=target.provider,
            upstream_model=target.upstream_model,
            made_at_ms=time.time_ns() // 1_000_000,
            is_stream=is_stream,
            content_type=content_type,
            usage=outcome.usage,
            conditions=outcome.conditions,
            body=body,
            usage_only=tuple(self._usage_only),
        )

    def _add(self, piece: bytes, *, data: bytes) -> None:
        if not self._is_fit:
            return
        self._size += len(piece)
        if self._size > BYTES_MAX:
            metrics.cache_kept(metrics.TOO_LARGE)
            self._forget()
        elif _tells_error(data):
            self._forget()
        elif not self._room.take(len(piece)):
            metrics.cache_kept(metrics.NOT_KEPT)
            self._forget()
        else:
            self._held += len(piece)
            self._pieces.append(piece)

    def _forget(self) -> None:
        self._is_fit = False
        self._pieces.clear()
        self._room.give_back(self._held)
        self._held = 0

    def __del__(self) -> None:
        # Of an answer that failed, or whose caller left, nobody asks for the entry.
        self._room.give_back(self._held)


def _tells_error(data: bytes) -> bool:
    """Some providers tell of an error with status 200, and of what it used."""
    if _ERROR not in data:
        return False
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError:
        return True
    if not isinstance(told, Mapping):
        return False
    inner = told.get("response")
    within = inner.get("error") if isinstance(inner, Mapping) else None
    return told.get("error") is not None or within is not None
