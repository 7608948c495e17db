"""
When requests come: by day more than by night, on weekdays more than at the weekend, more and more
over the months, and on one day far too many of one key.

Pure; the weights are relative, so the number of requests is exactly what was asked for.
"""

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import Final
from zoneinfo import ZoneInfo

HOUR: Final = timedelta(hours=1)
OFFICE_HOURS: Final = (
    1, 1, 1, 1, 1, 2, 4, 12, 45, 80, 95, 100, 75, 70, 90, 95, 85, 60, 30, 15, 10, 7, 4, 2,
)  # fmt: skip
"""How busy each local hour of a weekday is."""
ROUND_THE_CLOCK: Final = (40, 30, 25, 25, 30, 35, 45, 55, *[70] * 10, 65, 65, 60, 60, 55, 45)
WEEKEND_SHARE: Final = 0.25
WEEKEND_SHARE_ROUND_THE_CLOCK: Final = 0.8
SATURDAY: Final = 5
GROWTH: Final = 1.4
"""How much of the first day's traffic is added until the last."""
SPIKE_DAYS_AGO: Final = 9
SPIKE_FACTOR: Final = 25
LEAST_AGE: Final = timedelta(minutes=5)
"""So old is the newest request: its answer is complete."""
MONTHS_A_YEAR: Final = 12
LAST_DAY_OF_EVERY_MONTH: Final = 28
LOCAL_TIMES_KEPT: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How much of the requests are one key's, and when it has them."""

    share: int
    by_night_too: bool = False
    ended_days_ago: int = 0
    has_the_spike: bool = False


def months_before(at: datetime, *, months: int) -> datetime:
    """Return the midnight (UTC) so many months ago, on the 28th at the latest."""
    years, month = divmod(at.year * MONTHS_A_YEAR + at.month - 1 - months, MONTHS_A_YEAR)
    day = min(at.day, LAST_DAY_OF_EVERY_MONTH)
    return datetime(years, month + 1, day, tzinfo=at.tzinfo)


def arrivals(
    *,
    plans: Sequence[tuple[Traffic, ZoneInfo]],
    span: tuple[datetime, datetime],
    count: int,
    random: random.Random,
) -> list[tuple[int, datetime]]:
    """Return (index of the plan, time) of so many requests, in the order of time."""
    start, end = span[0], span[1] - LEAST_AGE
    hours = [start + n * HOUR for n in range(-(-(end - start) // HOUR))]
    weights = list(
        accumulate(
            _weight(plan, zone, at, span) for plan, zone in plans for at in hours
        )
    )  # fmt: skip
    drawn = []
    for _ in range(count):
        index, hour = divmod(bisect(weights, random.random() * weights[-1]), len(hours))
        length = min(HOUR, end - hours[hour])
        milliseconds = random.randrange(max(1, length // timedelta(milliseconds=1)))
        drawn.append((index, hours[hour] + timedelta(milliseconds=milliseconds)))
    return sorted(drawn, key=lambda each: (each[1], each[0]))


def _weight(plan: Traffic, zone: ZoneInfo, at: datetime, span: tuple[datetime, datetime]) -> float:
    start, end = span
    if at > end - timedelta(days=plan.ended_days_ago):
        return 0
    growth = 1 + GROWTH * ((at - start) / (end - start))
    day, hour = _local(at, zone)
    spikes = plan.has_the_spike and day == (end - timedelta(days=SPIKE_DAYS_AGO)).date()
    return plan.share * growth * _busyness(plan, day, hour) * (SPIKE_FACTOR if spikes else 1)


def _busyness(plan: Traffic, day: date, hour: int) -> float:
    if plan.by_night_too:
        share, hours = WEEKEND_SHARE_ROUND_THE_CLOCK, ROUND_THE_CLOCK
    else:
        share, hours = WEEKEND_SHARE, OFFICE_HOURS
    return hours[hour] / sum(hours) * (share if day.weekday() >= SATURDAY else 1)


@lru_cache(maxsize=LOCAL_TIMES_KEPT)
def _local(at: datetime, zone: ZoneInfo) -> tuple[date, int]:
    local = at.astimezone(zone)
    return local.date(), local.hour
