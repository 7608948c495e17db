"""How much waits in the live store, and for how long: for those who watch it."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.conf import settings

from budgets import storekeeper
from budgets.scripts import TAG
from budgets.storekeeper import STREAM


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """Ages are by the store's clock, and 0 where nothing waits."""

    unrecorded_events: int
    oldest_event_ms: int
    open_reservations: int
    oldest_reservation_ms: int


def read_status(*, position: str) -> StoreStatus:
    """Return how the live store stands; ``position`` is up to where its stream is recorded."""
    pipeline = storekeeper.store().pipeline(transaction=True)
    pipeline.time()
    pipeline.xlen(STREAM)
    pipeline.xrange(STREAM, min=f"({position}", count=1)
    pipeline.zcard(f"{TAG}open")
    pipeline.zrange(f"{TAG}open", 0, 0)
    (seconds, microseconds), events, first, reservations, oldest = pipeline.execute()
    now_ms = seconds * 1_000 + microseconds // 1_000
    return StoreStatus(
        # What is recorded stays in the stream until it is trimmed, a moment later.
        unrecorded_events=events if first else 0,
        oldest_event_ms=max(now_ms - _milliseconds(first[0][0]), 0) if first else 0,
        open_reservations=reservations,
        oldest_reservation_ms=_reserved_for_ms(oldest[0], now_ms) if oldest else 0,
    )


def _reserved_for_ms(id: bytes, now_ms: int) -> int:
    admitted = storekeeper.store().hget(f"{TAG}r:{id.decode()}", "admitted")
    # It may have been settled since.
    return max(now_ms - int(admitted), 0) if admitted else 0


def _milliseconds(position: bytes) -> int:
    return int(position.partition(b"-")[0])


WINDOW_SECONDS: Final = 60
"""How far back limits of requests and tokens a minute look, as in the scripts."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Requests and tokens of an account in the last minute, and its requests under way."""

    requests: int | None
    tokens: int | None
    in_flight: int | None
    """None: unknown; no limit on requests at once has asked for it yet, so nobody counts them."""


def pace_of(account: UUID) -> Pace:
    """Return how busy an account is by the live store; only what is limited is counted there."""
    pipeline = storekeeper.store().pipeline(transaction=True)
    pipeline.time()
    pipeline.hgetall(f"{TAG}w:{account.hex}")
    pipeline.hget(f"{TAG}c:{account.hex}", "p")
    (seconds, microseconds), window, in_flight = pipeline.execute()
    now_ms = seconds * 1_000 + microseconds // 1_000 + settings.STORE_CLOCK_OFFSET_MS
    first = now_ms // 1_000 - WINDOW_SECONDS
    counted = {b"q": 0, b"t": 0}
    for field, number in window.items():
        if field[:1] in counted and int(field[1:]) >= first:
            counted[field[:1]] += int(number)
    return Pace(counted[b"q"], counted[b"t"], None if in_flight is None else int(in_flight))
