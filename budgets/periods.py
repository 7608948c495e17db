"""
When a budget's period begins and ends: a pure function of its duration, its layout and an instant.

A bound is the first instant at which its local date and time are reached: right also where
midnight is skipped, comes twice, or the whole date is missing; adding 24 hours is not. Whether a
period lies by the calendar, by an anchor or by when its budget began: see
docs/explanation/periods.md.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from budgets import durations, wall_clock
from budgets.durations import DAYS_A_WEEK, MONTHS_A_YEAR, Duration, UnknownDuration

__all__ = [
    "CALENDAR", "FOREVER", "WEEKDAYS", "Layout", "Period", "UnknownDuration", "UnknownZone",
    "from_milliseconds",
    "layout_of", "milliseconds", "period_at", "zone_of",
]  # fmt: skip


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


EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER: Final = Period(EPOCH, datetime(3000, 1, 1, tzinfo=UTC))
"""The period of a budget without a duration: the account's whole life."""


WEEKDAYS: Final = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """Where periods begin, beyond their duration and zone."""

    anchor: datetime | None = None
    """A bound; all others lie whole durations from it, on the same day of a month and time."""
    begun: datetime = EPOCH
    """What a duration that no calendar knows, such as three days, is counted from."""
    reset_time: time = time()
    """The local time at which days, and all that is made of them, begin."""
    week_start: int = 0
    """An index of ``WEEKDAYS``."""
    year_start: int = 1
    """The month in which years begin, and quarters of them."""


CALENDAR: Final = Layout()
LATEST_MAX: Final = 4_096


def layout_of(
    duration: str, *, anchor: datetime | None, begun: datetime, reset_time: time, week_start: int,
    year_start: int,
) -> Layout:  # fmt: skip
    """Return what of this matters to a canonical duration: budgets that lie alike share one."""
    if not duration:
        return CALENDAR
    length = durations.parsed(duration)
    if anchor is not None:
        return Layout(anchor=anchor)
    if length.unit == "second":
        return CALENDAR if length.is_aligned else Layout(begun=begun)
    return Layout(
        begun=EPOCH if length.is_aligned else begun,
        reset_time=reset_time,
        week_start=week_start if duration == "1w" else 0,
        year_start=year_start if duration in {"1y", durations.QUARTERLY} else 1,
    )


class UnknownZone(ValueError):
    """The text names no time zone of the IANA database."""


def milliseconds(at: datetime) -> int:
    """Return the whole milliseconds since 1970, rounded down."""
    return (at - EPOCH) // timedelta(milliseconds=1)


def from_milliseconds(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


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


def period_at(*, duration: str, zone: ZoneInfo, at: datetime, layout: Layout = CALENDAR) -> Period:
    """
    Return the period that holds ``at``; an empty duration gives the account's whole life.

    :raises UnknownDuration: if ``duration`` is none
    """
    if not duration:
        return FOREVER
    key = (duration, zone, layout)
    period = _latest.get(key)
    if period is None or at not in period:
        if len(_latest) >= LATEST_MAX:
            _latest.clear()
        period = _latest[key] = _made(durations.parsed(duration), zone, at, layout)
    return period


_latest: dict[tuple[str, ZoneInfo, Layout], Period] = {}
"""The last period asked for of each kind: most questions are about the one that runs."""


def _made(length: Duration, zone: ZoneInfo, at: datetime, layout: Layout) -> Period:
    if length.unit == "second":
        return _of_seconds(length, zone, at, layout)
    return _of_dates(_Dates(length, zone, layout), zone, at)


def _of_seconds(length: Duration, zone: ZoneInfo, at: datetime, layout: Layout) -> Period:
    if length.is_aligned and layout.anchor is None:
        return Period(*wall_clock.slot_at(length.count, zone, at))
    origin = (layout.anchor or layout.begun).astimezone(UTC)
    step = timedelta(seconds=length.count)
    start = origin + (at - origin) // step * step
    return Period(start, start + step)


def _of_dates(dates: "_Dates", zone: ZoneInfo, at: datetime) -> Period:
    def begin(day: date) -> datetime:
        return wall_clock.reached(datetime.combine(day, dates.time), zone)

    first = dates.last_until(at.astimezone(zone).date())
    if begin(first) > at:
        first = dates.last_until(first - timedelta(days=1))
    return Period(begin(first), begin(dates.following(first)))


class _Dates:
    """The local dates on which periods begin, and the local time at which they do."""

    def __init__(self, length: Duration, zone: ZoneInfo, layout: Layout) -> None:
        anchor = layout.anchor and layout.anchor.astimezone(zone)
        begun = layout.begun.astimezone(zone)
        self._count, self._is_months = length.count, length.unit == "month"
        self.time = layout.reset_time if anchor is None else anchor.time()
        self._skips_first = False
        if anchor is not None:
            self._origin = anchor.date()
        elif length.is_aligned:
            self._origin = _aligned(length, layout)
        elif self._is_months:
            self._origin = begun.date().replace(day=1)
        else:
            self._origin = begun.date()
            # It begins now, not later today: the first period is longer by that day's rest.
            self._skips_first = begun.time() < self.time

    def last_until(self, day: date) -> date:
        """Return the last of them that is not after ``day``."""
        if self._is_months:
            number = self._months_from_origin(day) // self._count
            found = self._month(number)
            return found if found <= day else self._month(number - 1)
        origin = self._origin
        if self._skips_first and day < origin + timedelta(days=self._count):
            origin -= timedelta(days=1)
            if day >= origin:
                return origin
        return day - timedelta(days=(day - origin).days % self._count)

    def following(self, day: date) -> date:
        """Return the next of them."""
        if self._is_months:
            return self._month(self._months_from_origin(day) // self._count + 1)
        is_first = self._skips_first and day == self._origin - timedelta(days=1)
        return day + timedelta(days=self._count + is_first)

    def _months_from_origin(self, day: date) -> int:
        origin = self._origin
        return (day.year - origin.year) * MONTHS_A_YEAR + day.month - origin.month

    def _month(self, number: int) -> date:
        """Return the day of the origin so many periods later, or the last of a shorter month."""
        index = self._origin.year * MONTHS_A_YEAR + self._origin.month - 1 + number * self._count
        year, month = index // MONTHS_A_YEAR, index % MONTHS_A_YEAR + 1
        return date(year, month, min(self._origin.day, monthrange(year, month)[1]))


def _aligned(length: Duration, layout: Layout) -> date:
    """Return a date on which the calendar's own days, weeks, months, quarters or years begin."""
    if length.unit == "month":
        return date(EPOCH.year, 1 if length.count == 1 else layout.year_start, 1)
    monday = date(EPOCH.year, 1, 5)
    return monday + timedelta(days=layout.week_start if length.count == DAYS_A_WEEK else 0)
