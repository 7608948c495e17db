"""Figures of the comparison: what they are called, and how rounds are summed up."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Series = Mapping[str, Sequence[float]]
"""Of one contestant: each figure by its key, a value a round."""
SHOWN: Final = (50, 95, 99)


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A figure as it is shown; ``more_is_better`` is None where there is no better."""

    key: str
    title: str
    digits: int = 1
    more_is_better: bool | None = False

    @property
    def is_time(self) -> bool:
        """Whether it is the time of an answer, which depends on who else used the core."""
        return "added_p" in self.key


@dataclass(frozen=True)
class Group:
    title: str
    rows: tuple[Row, ...]


def percentile(values: Sequence[float], share: float) -> float:
    """
    Return the smallest value that ``share`` percent of all are not above (nearest rank).

    :raises ValueError: if there are no values, or ``share`` is not above 0 and 100 at most
    """
    if not values or not 0 < share <= 100:  # noqa: PLR2004
        raise ValueError(f"no percentile {share} of {len(values)} values")
    return sorted(values)[math.ceil(share / 100 * len(values)) - 1]


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def times_better(ours: Sequence[float], theirs: Sequence[float], row: Row) -> float | None:
    """
    Return by how many times ours is better, as the median of rounds; below 1 it is worse.

    None where it says nothing: a value that is not above 0, as small differences may be.
    """
    if row.more_is_better is None or not ours or not theirs:
        return None
    pairs = list(zip(ours, theirs, strict=False))
    if any(value <= 0 for pair in pairs for value in pair):
        return None
    if row.more_is_better:
        return statistics.median(our / their for our, their in pairs)
    return statistics.median(their / our for our, their in pairs)


def groups(*, rates: Sequence[int], connections: int, stream_rate: int) -> list[Group]:
    """Return all that is shown of a comparison, in order."""
    return [
        Group(f"Requests, {connections} connections at work", _work("closed", "request")),
        *(Group(f"Requests, {rate} a second", _latency(rate)) for rate in rates),
        Group(
            f"Streams of 50 chunks 2 ms apart, {connections} connections at work",
            _work("stream", "stream"),
        ),
        Group(
            f"Streams of 50 chunks at once, {connections} connections at work",
            _work("burst", "stream"),
        ),
        Group(f"Streams of 50 chunks 2 ms apart, {stream_rate} a second", _first_event()),
        Group("Process tree", _memory()),
    ]


def _work(key: str, what: str) -> tuple[Row, ...]:
    return (
        Row(f"{key}.per_second", f"{what}s a second", 0, more_is_better=True),
        Row(f"{key}.cpu_ms", f"CPU ms a {what}", 3),
        Row(f"{key}.store_cpu_ms", "CPU ms of the store, on the other core", 3),
        Row(f"{key}.core_share", "share of its core that it used", 2, more_is_better=None),
        Row(f"{key}.beside_busy", "how busy the other core was", 2, more_is_better=None),
        Row(f"{key}.sender_share", "share of that for sending", 2, more_is_better=None),
    )


def _latency(rate: int) -> tuple[Row, ...]:
    key = f"rate_{rate}"
    return (
        *(Row(f"{key}.added_p{each}_ms", f"added, p{each}, ms", 2) for each in SHOWN),
        Row(f"{key}.cpu_ms", "CPU ms a request", 3),
    )


def _first_event() -> tuple[Row, ...]:
    return (
        *(
            Row(f"stream_rate.first_added_p{each}_ms", f"to the first event, added, p{each}, ms", 2)
            for each in SHOWN
        ),
        Row("stream_rate.cpu_ms", "CPU ms a stream", 3),
    )


def _memory() -> tuple[Row, ...]:
    return (
        Row("memory.start_mb", "memory when ready, MB", 0),
        Row("memory.warm_mb", "memory when warmed up, MB", 0),
        Row("memory.end_mb", "memory at the end, MB", 0),
        Row("memory.answers", "answers given by then", 0, more_is_better=None),
        Row("idle.cpu_ms", "CPU ms a second with nothing to do", 2),
    )
