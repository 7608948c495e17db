"""
When a budget's period begins and ends: a pure function of duration, time zone and instant.

A bound is the first instant whose local date is reached. ``datetime(y, m, d, tzinfo=zone)`` with
``fold=0`` is that instant on every day of every zone, also where midnight is skipped, comes
twice, or the whole date is missing; adding 24 hours is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DECEMBER: Final = 12


@dataclass(frozen=True, slots=True)
class Period:
    """The half-open interval [start, end), both aware and in UTC."""

    start: datetime
    end: datetime

    def __contains__(self, at: datetime) -> bool:
        return self.start <= at < self.end

    @property
    def start_ms(self) -> int:
        return milliseconds(self.start)

    @property
    def end_ms(self) -> int:
        return milliseconds(self.end)


FOREVER: Final = Period(datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC))
"""The period of a budget without a duration: the account's whole life."""


class UnknownDuration(ValueError):
    """The text is no duration that a budget can have."""


class UnknownZone(ValueError):
    """The text names no time zone of the IANA database."""


def milliseconds(at: datetime) -> int:
    """Return the whole milliseconds since 1970, rounded down."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def from_milliseconds(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


_CANONICAL: Final = {
    "1d": "1d", "daily": "1d",
    "7d": "1w", "1w": "1w", "weekly": "1w",
    "1mo": "1mo", "monthly": "1mo",
    "1y": "1y", "yearly": "1y",
}  # fmt: skip
DURATIONS: Final = tuple(_CANONICAL)


def canonical_duration(text: str) -> str:
    """
    Return the one spelling under which a duration is stored: ``1d``, ``1w``, ``1mo`` or ``1y``.

    :raises UnknownDuration: for any other text
    """
    try:
        return _CANONICAL[text]
    except KeyError:
        raise UnknownDuration(f"must be one of {', '.join(DURATIONS)}") from None


@lru_cache(maxsize=1_024)
def zone_of(name: str) -> ZoneInfo:
    """
    Return the time zone of that IANA name.

    :raises UnknownZone: if there is none
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownZone(f"{name[:64]!r} is no time zone of the IANA database") from None


def period_at(*, duration: str, zone: ZoneInfo, at: datetime) -> Period:
    """
    Return the period that holds ``at``; an empty duration gives the account's whole life.

    :raises UnknownDuration: if ``duration`` is not in its canonical spelling
    """
    if not duration:
        return FOREVER
    try:
        first, following = _CALENDAR[duration]
    except KeyError:
        raise UnknownDuration(f"{duration!r} is not canonical") from None
    begins = first(at.astimezone(zone).date())
    return Period(_first_instant(begins, zone), _first_instant(following(begins), zone))


def _first_instant(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone, fold=0).astimezone(UTC)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _next_month(day: date) -> date:
    if day.month == DECEMBER:
        return date(day.year + 1, 1, 1)
    return date(day.year, day.month + 1, 1)


_CALENDAR: Final[dict[str, tuple[Callable[[date], date], Callable[[date], date]]]] = {
    "1d": (lambda day: day, lambda day: day + timedelta(days=1)),
    "1w": (_monday, lambda day: day + timedelta(weeks=1)),
    "1mo": (lambda day: day.replace(day=1), _next_month),
    "1y": (lambda day: date(day.year, 1, 1), lambda day: date(day.year + 1, 1, 1)),
}
