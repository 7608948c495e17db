"""
Times of the week at which a rate holds, written like ``Mo-Fr 16:30-00:30; Sa,Su 00:00-24:00``.

Hours are UTC. Days are those of UTC, or of the zone that is named behind them:
``Mo-Fr@Asia/Shanghai 00:00-06:00``. No days means every day. A span that ends before it begins
runs past midnight; one that ends where it begins is the whole day.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LENGTH_MAX: Final = 255
DAYS: Final = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
EVERY_DAY: Final = frozenset(range(7))
HOUR_MINUTES: Final = 60
DAY_MINUTES: Final = 24 * HOUR_MINUTES
WEEK_MINUTES: Final = 7 * DAY_MINUTES
QUARTER_MINUTES: Final = 15
"""By no less do zones differ from UTC, so that days of theirs begin at a quarter of an hour."""
WEEKS: Final = (
    datetime(2026, 1, 12, tzinfo=UTC), datetime(2026, 3, 16, tzinfo=UTC),
    datetime(2026, 7, 13, tzinfo=UTC), datetime(2026, 10, 12, tzinfo=UTC),
)  # fmt: skip
"""Mondays of winter, spring, summer and autumn: in each of them other zones have summer time."""
_EVERY_MIDNIGHT: Final = sum(1 << (day * DAY_MINUTES) for day in range(7 * len(WEEKS)))
_PART: Final = re.compile(
    r"(?:(?P<days>(?:Mo|Tu|We|Th|Fr|Sa|Su)(?:[-,](?:Mo|Tu|We|Th|Fr|Sa|Su))*)"
    r"(?:@(?P<zone>[A-Za-z0-9_+/-]+))? )?"
    r"(?P<spans>[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}(?:,[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2})*)",
    re.ASCII,
)


class InvalidWindow(ValueError):
    """The text is no window."""


@dataclass(frozen=True, slots=True)
class Span:
    days: frozenset[int]
    zone: tzinfo
    start_minute: int
    end_minute: int

    def holds(self, at: datetime) -> bool:
        if at.astimezone(self.zone).weekday() not in self.days:
            return False
        utc = at.astimezone(UTC)
        minute = utc.hour * HOUR_MINUTES + utc.minute
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute


@lru_cache(maxsize=1_024)
def parse(text: str) -> tuple[Span, ...]:
    """
    :raises InvalidWindow: if ``text`` is not written like the ones above
    """
    if len(text) > LENGTH_MAX:
        raise InvalidWindow(f"is longer than {LENGTH_MAX} characters")
    return tuple(span for part in text.split("; ") for span in _spans(part))


def holds(text: str, at: datetime) -> bool:
    """Return whether ``at`` is in the window; no window always holds."""
    return not text or any(span.holds(at) for span in parse(text))


def find_overlap(texts: Iterable[str]) -> str | None:
    """Return the first window that holds while one before it does, or None if there is none."""
    taken = 0
    for text in texts:
        minutes = _minutes(text)
        if taken & minutes:
            return text
        taken |= minutes
    return None


def written(days: Iterable[int], spans: Iterable[str], *, zone: str = "") -> str:
    """Write one part of a window: days as 0 (Monday) to 6, spans as ``HH:MM-HH:MM``."""
    numbers = sorted(set(days))
    hours = ",".join(spans)
    if len(numbers) == len(DAYS):
        return hours
    named = ",".join(DAYS[number] for number in numbers)
    return f"{named}@{zone} {hours}" if zone else f"{named} {hours}"


@lru_cache(maxsize=1_024)
def _minutes(text: str) -> int:
    """Return the minutes of :data:`WEEKS` in a window, a bit for each."""
    minutes = 0
    for span in parse(text):
        weekdays = _weekdays(span.zone)
        days = sum(weekdays[day] for day in span.days)
        minutes |= days & _hours(span.start_minute, span.end_minute)
    return minutes


def _hours(start: int, end: int) -> int:
    """Return the minutes of every day from ``start`` to ``end``, which may be past midnight."""
    day = (1 << DAY_MINUTES) - 1
    between = ((1 << abs(end - start)) - 1) << min(start, end)
    return _EVERY_MIDNIGHT * (between if start <= end else day ^ between)


@lru_cache(maxsize=1_024)
def _weekdays(zone: tzinfo) -> tuple[int, ...]:
    """Return the minutes that are a Monday in a zone, those that are a Tuesday, and so on."""
    quarter = (1 << QUARTER_MINUTES) - 1
    found = [0] * len(DAYS)
    for week, monday in enumerate(WEEKS):
        for minute in range(0, WEEK_MINUTES, QUARTER_MINUTES):
            at = (monday + timedelta(minutes=minute)).astimezone(zone)
            found[at.weekday()] |= quarter << (week * WEEK_MINUTES + minute)
    return tuple(found)


def _spans(part: str) -> Iterable[Span]:
    match = _PART.fullmatch(part)
    if match is None:
        raise InvalidWindow("is not written like 'Mo-Fr 16:30-00:30; Sa,Su 00:00-24:00'")
    days = _days(match["days"]) if match["days"] else EVERY_DAY
    zone = _zone(match["zone"]) if match["zone"] else UTC
    for span in match["spans"].split(","):
        start, end = (_minute(text) for text in span.split("-"))
        yield Span(days, zone, start % DAY_MINUTES, end)


def _days(text: str) -> frozenset[int]:
    numbers: Mapping[str, int] = {name: index for index, name in enumerate(DAYS)}
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = numbers[first], numbers.get(last, numbers[first])
        found |= {day % 7 for day in range(start, end + (8 if end < start else 1))}
    return frozenset(found)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidWindow(f"{name} is no time zone") from error


def _minute(text: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if hours * HOUR_MINUTES + minutes > DAY_MINUTES or minutes >= HOUR_MINUTES:
        raise InvalidWindow(f"{text} is no time of day")
    return hours * HOUR_MINUTES + minutes
