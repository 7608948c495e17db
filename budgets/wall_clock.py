"""
What a local clock shows, and when: pure functions of a zone's rules.

A clock that is put forward never shows some times, one that is put back shows some twice. Here a
time is reached at the first instant from which the clock shows it or a later one.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
HOUR_SECONDS = 3_600


def reached(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant, in UTC, at which it is that naive local time or later."""
    instant = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == local:
        return instant
    # The clock jumped over it. Its offset before the jump gives an instant behind the jump.
    return jump_in(local.replace(tzinfo=zone, fold=1).astimezone(UTC), instant, zone)


def jump_in(first: datetime, last: datetime, zone: tzinfo) -> datetime:
    """Return the instant in (first, last] from which the offset is that of ``last``."""
    offset = last.astimezone(zone).utcoffset()
    low, high = first, last
    while high - low > SECOND:
        middle = low + (high - low) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            high = middle
        else:
            low = middle
    # Offsets change at whole seconds only.
    return high.replace(microsecond=0)


def slot_at(seconds: int, zone: ZoneInfo, at: datetime) -> tuple[datetime, datetime]:
    """
    Return the bounds of the slot that holds ``at``, where local days are cut into slots of so
    many seconds (a divisor of a day's), in UTC.

    A slot of up to an hour that the clock shows twice is two; a longer one is as long as the
    clock takes to reach the next.
    """
    if seconds > HOUR_SECONDS and _offset(at - DAY, zone) != _offset(at + DAY, zone):
        return _of_whole_days(timedelta(seconds=seconds), zone, at)
    local = at.astimezone(zone)
    since_midnight = timedelta(
        hours=local.hour, minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    length = timedelta(seconds=seconds)
    start = at.astimezone(UTC) - since_midnight % length
    end = start + length
    if _offset(start, zone) == _offset(end, zone) == local.utcoffset():
        return start, end
    return _around_a_jump(length, zone, at)


def _of_whole_days(length: timedelta, zone: ZoneInfo, at: datetime) -> tuple[datetime, datetime]:
    """Return the bounds around ``at`` among all of its local day and of those beside it."""
    day = at.astimezone(zone).date()
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001  # local, as a clock shows it
    slots = DAY // length
    times = (midnight + n * length for n in range(-slots, 2 * slots + 1))
    bounds = sorted({reached(local, zone) for local in times})
    return next((start, end) for start, end in pairwise(bounds) if start <= at < end)


def _around_a_jump(length: timedelta, zone: ZoneInfo, at: datetime) -> tuple[datetime, datetime]:
    """Return the bounds around ``at``, which is less than two slots from a change of the offset."""
    first, last = at.astimezone(UTC) - 2 * length, at.astimezone(UTC) + 2 * length
    jump = jump_in(first, last, zone)
    before, after = _offset(first, zone), _offset(last, zone)
    old, new = jump.replace(tzinfo=None) + before, jump.replace(tzinfo=None) + after
    shown_last = _floor(old - timedelta.resolution, length)
    shown_next = _floor(new - timedelta.resolution, length) + length
    bounds = [(shown_last + n * length - before).replace(tzinfo=UTC) for n in (-2, -1, 0)]
    if new > old and _floor(new, length) >= old:
        bounds.append(jump)  # a bound was jumped over, or is just reached
    following = [(shown_next + n * length - after).replace(tzinfo=UTC) for n in range(4)]
    bounds += [bound for bound in following if bound > bounds[-1]]
    return next((start, end) for start, end in pairwise(bounds) if start <= at < end)


def _floor(local: datetime, length: timedelta) -> datetime:
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (local - midnight) // length * length


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None, "an aware time has one"
    return offset
