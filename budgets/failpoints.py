"""
Named points at which tests kill or hang a process; without orders ``hit`` does nothing at all.

``COSTPLATFORM_FAILPOINTS`` holds the orders, commas between: ``after_reserve=kill@0.002`` dies at
a hit with that probability, ``before_settle=kill#17`` at the 17th, ``mid_stream=pause:250`` hangs
at each for 250 ms; ``seed=7`` makes the dice repeatable. The settings arm them, before any app is
loaded, and refuse them outside of tests. Call it as ``failpoints.hit(failpoints.AFTER_AUTH)``.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

AFTER_AUTH: Final = "after_auth"
"""The key is known, nothing is reserved."""
AFTER_RESERVE: Final = "after_reserve"
"""The store has reserved, the gateway has heard of it."""
BEFORE_SEND: Final = "before_send"
"""Nothing of the request has gone to the upstream."""
AFTER_HEADERS: Final = "after_headers"
"""The upstream has answered with its status, nothing is read of the body."""
MID_STREAM: Final = "mid_stream"
"""A chunk of a stream was read from the upstream and not yet handed on."""
AFTER_LAST_CHUNK: Final = "after_last_chunk"
"""The answer is read to its end and not yet priced."""
BEFORE_SETTLE: Final = "before_settle"
"""The event is in the gateway's memory only."""
AFTER_SETTLE: Final = "after_settle"
"""The store has settled, the client has not been told."""
BATCH_READ: Final = "batch_read"
"""The output of a batch that has ended is read, and its cost is nowhere yet."""
RECORDER_BEFORE_COMMIT: Final = "recorder_before_commit"
"""A batch is written in a transaction that is still open."""
RECORDER_AFTER_COMMIT: Final = "recorder_after_commit"
"""The batch is in the ledger, the store does not know."""
RECORDER_BEFORE_TRIM: Final = "recorder_before_trim"
"""The reloads that are due are known, and the stream still holds what is recorded."""
CLOSING_BEFORE_COMMIT: Final = "closing_before_commit"
"""A batch of ended periods is closed in a transaction that is still open."""

NAMES: Final = frozenset(
    {
        AFTER_AUTH, AFTER_RESERVE, BEFORE_SEND, AFTER_HEADERS, MID_STREAM, AFTER_LAST_CHUNK,
        BEFORE_SETTLE, AFTER_SETTLE, RECORDER_BEFORE_COMMIT, RECORDER_AFTER_COMMIT,
        RECORDER_BEFORE_TRIM, BATCH_READ, CLOSING_BEFORE_COMMIT,
    }
)  # fmt: skip
PAUSE_MS_MAX: Final = 600_000
HITS_MAX: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """Kill, or pause if ``pause_ms`` is given: at every hit, at one of them, or by the dice."""

    pause_ms: int | None = None
    at_hit: int | None = None
    probability: float | None = None

    def carry_out(self) -> None:
        if self.pause_ms is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            # Blocking on purpose, also in a coroutine: a process that hangs is what is wanted.
            time.sleep(self.pause_ms / 1_000)


class Orders:
    """What to do at which point; hits are counted for each point apart."""

    def __init__(self, orders: dict[str, Order], *, seed: int | None = None) -> None:
        self.by_name = orders
        self._hits = dict.fromkeys(orders, 0)
        self._dice = random.Random(seed)  # noqa: S311 – it decides when a test fails, not who enters

    def hit(self, name: str) -> None:
        order = self.by_name.get(name)
        if order is None:
            return
        self._hits[name] += 1
        if self._is_due(order, self._hits[name]):
            order.carry_out()

    def _is_due(self, order: Order, hits: int) -> bool:
        if order.at_hit is not None:
            return hits == order.at_hit
        return order.probability is None or self._dice.random() < order.probability


def parse(text: str) -> Orders:
    """
    Return the orders that ``text`` holds.

    :raises ValueError: if a name is unknown or an order is none
    """
    orders: dict[str, Order] = {}
    seed: int | None = None
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, is_there, order = part.partition("=")
        if name == "seed":
            seed = _whole(order, high=HITS_MAX)
        elif name not in NAMES:
            raise ValueError(f"knows no point {name!r}; there are {', '.join(sorted(NAMES))}")
        elif not is_there or name in orders:
            raise ValueError(f"needs one order for {name}, such as {name}=kill#1")
        else:
            orders[name] = _order(order)
    return Orders(orders, seed=seed)


def arm(text: str) -> None:
    """
    Carry out these orders from now on in this process; an empty text ends all.

    :raises ValueError: as :func:`parse`
    """
    global hit  # so that a call costs nothing but itself when it is off
    orders = parse(text)
    hit = orders.hit if orders.by_name else _nothing


def _nothing(name: str) -> None:
    pass


hit: Callable[[str], None] = _nothing


def _order(text: str) -> Order:
    text, has_number, number = text.partition("#")
    text, has_chance, chance = text.partition("@")
    action, has_ms, ms = text.partition(":")
    if (action, bool(has_ms)) not in {("kill", False), ("pause", True)}:
        raise ValueError("must order kill or pause:MS, then perhaps @PROBABILITY or #HIT")
    return Order(
        pause_ms=_whole(ms, high=PAUSE_MS_MAX) if has_ms else None,
        at_hit=_whole(number, high=HITS_MAX) if has_number else None,
        probability=_probability(chance) if has_chance else None,
    )


def _whole(text: str, *, high: int) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= high):
        raise ValueError(f"must count from 1 to {high}")
    return int(text)


def _probability(text: str) -> float:
    try:
        probability = float(text)
    except ValueError:
        probability = -1.0
    if not 0 < probability <= 1:
        raise ValueError("must have a probability above 0 and not above 1")
    return probability
