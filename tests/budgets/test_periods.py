"""Periods tile time in every zone: each bound is the first instant of its local date."""

import json
import os
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets import contexts, display, durations, periods, wall_clock
from budgets.contexts import PathAccount, Terms
from budgets.durations import UnknownDuration
from budgets.periods import CALENDAR, FOREVER, Layout, Period, UnknownZone, layout_of, period_at

pytestmark = pytest.mark.no_servers

DURATIONS = [
    "1d", "1w", "1mo", "1y", "quarterly", "1s", "90s", "15m", "1h", "2h", "90m", "12h", "7h", "36h",
    "3d", "2w", "3mo", "5mo", "2y",
]  # fmt: skip
IN_FULL = os.environ.get("PERIODS") == "full"
ZONES = sorted(available_timezones())
# One in sixty, and those that do what others do not.
ODD_ZONES = [
    "Africa/Cairo", "Africa/Casablanca", "America/Havana", "America/Nuuk", "America/Santiago",
    "America/Sao_Paulo", "Asia/Beirut", "Asia/Kathmandu", "Asia/Tehran", "Australia/Lord_Howe",
    "Europe/Paris", "Pacific/Apia", "Pacific/Chatham", "Pacific/Kiritimati", "Pacific/Pago_Pago",
]  # fmt: skip
SAMPLED = sorted({*ZONES[::60], *ODD_ZONES})
MILLISECOND = timedelta(milliseconds=1)

instants = st.datetimes(
    min_value=datetime(2020, 1, 1), max_value=datetime(2040, 12, 30)  # noqa: DTZ001  # made UTC below
).map(lambda at: at.replace(tzinfo=UTC))  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOON = utc("2026-03-14T12:00")


def day_of(zone: str, day: str) -> Period:
    """Return the daily period of a local date, found from the noon of that date."""
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone))
    return period_at(duration="1d", zone=ZoneInfo(zone), at=noon)


# --- Days on which the clock changes -----------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "start", "shown", "hours"),
    [
        ("Europe/Paris", "2026-03-29", "2026-03-28T23:00", "00:00+01:00", 23),
        ("Europe/Paris", "2026-10-25", "2026-10-24T22:00", "00:00+02:00", 25),
        ("America/New_York", "2026-03-08", "2026-03-08T05:00", "00:00-05:00", 23),
        ("America/New_York", "2026-11-01", "2026-11-01T04:00", "00:00-04:00", 25),
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00", "01:00+03:00", 23),
        ("Africa/Cairo", "2026-10-29", "2026-10-28T21:00", "00:00+03:00", 25),
        ("America/Havana", "2026-03-08", "2026-03-08T05:00", "01:00-04:00", 23),
        ("America/Havana", "2026-11-01", "2026-11-01T04:00", "00:00-04:00", 25),
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00", "01:00+03:00", 23),
        ("Asia/Beirut", "2026-10-24", "2026-10-23T21:00", "00:00+03:00", 25),
        ("Asia/Beirut", "2026-10-25", "2026-10-24T22:00", "00:00+02:00", 24),
        ("America/Santiago", "2026-09-06", "2026-09-06T04:00", "01:00-03:00", 23),
        ("America/Santiago", "2026-04-04", "2026-04-04T03:00", "00:00-03:00", 25),
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30", "00:00+10:30", 23.5),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00", "00:00+11:00", 24.5),
        ("America/Nuuk", "2026-03-28", "2026-03-28T02:00", "00:00-02:00", 23),
        ("Africa/Casablanca", "2026-02-15", "2026-02-14T23:00", "00:00+01:00", 25),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", "01:00-02:00", 23),
        ("Asia/Kathmandu", "2026-01-01", "2025-12-31T18:15", "00:00+05:45", 24),
        ("Pacific/Kiritimati", "2026-01-01", "2025-12-31T10:00", "00:00+14:00", 24),
        ("Pacific/Pago_Pago", "2026-01-01", "2026-01-01T11:00", "00:00-11:00", 24),
    ],
)
def test_day_starts_at_the_first_instant_of_its_local_date(
    zone: str, day: str, start: str, shown: str, hours: float
) -> None:
    period = day_of(zone, day)

    assert period.start == utc(start)
    assert period.start.astimezone(ZoneInfo(zone)).isoformat()[11:] == shown.replace(
        ":00+", ":00:00+"
    ).replace(":00-", ":00:00-")
    assert period.end - period.start == timedelta(hours=hours)


def test_date_that_does_not_exist_leaves_neither_gap_nor_overlap() -> None:
    apia = ZoneInfo("Pacific/Apia")
    before, after = day_of("Pacific/Apia", "2011-12-29"), day_of("Pacific/Apia", "2011-12-31")

    in_between = period_at(duration="1d", zone=apia, at=utc("2011-12-30T10:00") - MILLISECOND)

    assert after.start == utc("2011-12-30T10:00")
    assert before.end == after.start
    assert in_between == before


# --- Tiling ------------------------------------------------------------------------------


def assert_tiles(duration: str, zone: ZoneInfo, at: datetime, layout: Layout = CALENDAR) -> Period:
    def found(instant: datetime) -> Period:
        periods._latest.clear()  # it would find what was found before
        return period_at(duration=duration, zone=zone, at=instant, layout=layout)

    period = found(at)
    assert at in period
    assert found(period.start) == period
    assert found(period.end - MILLISECOND) == period
    assert found(period.end).start == period.end
    assert found(period.start - MILLISECOND).end == period.start
    return period


layouts = st.builds(
    Layout,
    anchor=st.none() | instants,
    begun=instants,
    reset_time=st.times().map(lambda at: at.replace(microsecond=0)),
    week_start=st.integers(0, 6),
    year_start=st.integers(1, 12),
)


@settings(max_examples=1_500, deadline=None)
@given(
    at=instants, zone=st.sampled_from(ZONES), duration=st.sampled_from(DURATIONS),
    layout=st.just(CALENDAR) | layouts,
)  # fmt: skip
def test_periods_tile_time_in_every_zone(
    at: datetime, zone: str, duration: str, layout: Layout
) -> None:
    assert_tiles(duration, ZoneInfo(zone), at, layout)


@pytest.mark.parametrize("zone", ZONES if IN_FULL else SAMPLED)
def test_periods_tile_time_around_every_change_of_the_clock(zone: str) -> None:
    info = ZoneInfo(zone)
    for jump in jumps(info, 2024, 2040 if IN_FULL else 2026):
        for minutes in (-721, -61, -31, -1, 0, 1, 29, 59, 61, 721):
            for duration in ("1m", "15m", "30m", "1h", "2h", "6h", "12h", "1d"):
                assert_tiles(duration, info, jump + timedelta(minutes=minutes, seconds=7))


def jumps(zone: ZoneInfo, first: int, last: int) -> Iterator[datetime]:
    """Yield the instants at which the zone's clock is put forward or back."""
    at = utc(f"{first}-01-01T00:00")
    while at.year <= last:
        following = at + timedelta(days=1)
        if at.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            yield wall_clock.jump_in(at, following, zone)
        at = following


@pytest.mark.parametrize("zone", ZONES if IN_FULL else ODD_ZONES)
def test_days_weeks_and_months_of_two_decades_follow_without_gap_or_overlap(zone: str) -> None:
    """By ``make periods`` in every zone; each bound is the one that brute force finds."""
    info = ZoneInfo(zone)
    last = 2040 if IN_FULL else 2020
    for duration in ("1d", "1w", "1mo"):
        at = period_at(duration=duration, zone=info, at=utc("2020-01-01T12:00")).start
        while at.year <= last:
            period = period_at(duration=duration, zone=info, at=at)
            local = period.end.astimezone(info).date()
            assert period.start == at
            assert period.end == _brute_force_start(local, info)
            assert (period.end - MILLISECOND).astimezone(info).date() < local
            at = period.end


@pytest.mark.parametrize("zone", SAMPLED)
def test_days_from_2020_to_2040_follow_each_other(zone: str) -> None:
    """Every 29th day, and both of its bounds: clock changes of two decades are among them."""
    info = ZoneInfo(zone)

    for n in range(0, 21 * 365, 29):
        local = datetime(2020, 1, 1, 12, tzinfo=info) + timedelta(days=n)
        period = period_at(duration="1d", zone=info, at=local)
        assert period.start == _brute_force_start(local.date(), info)
        assert period.end == _brute_force_start(local.date() + timedelta(days=1), info)


@given(at=instants, zone=st.sampled_from(ZONES))
def test_bounds_are_whole_quarter_hours_as_the_rollups_need(at: datetime, zone: str) -> None:
    period = period_at(duration="1d", zone=ZoneInfo(zone), at=at)

    assert periods.milliseconds(period.start) % (15 * 60_000) == 0
    assert periods.milliseconds(period.end) % (15 * 60_000) == 0


@pytest.mark.parametrize(
    ("duration", "at", "start", "end"),
    [
        ("1w", "2026-03-18T12:00", "2026-03-16T00:00", "2026-03-23T00:00"),
        ("1w", "2026-03-16T00:00", "2026-03-16T00:00", "2026-03-23T00:00"),
        ("1w", "2026-03-15T23:59", "2026-03-09T00:00", "2026-03-16T00:00"),
        ("1mo", "2024-02-29T12:00", "2024-02-01T00:00", "2024-03-01T00:00"),
        ("1mo", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("1y", "2026-12-31T23:59", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("1y", "2027-01-01T00:00", "2027-01-01T00:00", "2028-01-01T00:00"),
    ],
)
def test_weeks_begin_on_monday_months_on_the_first_and_years_in_january(
    duration: str, at: str, start: str, end: str
) -> None:
    period = period_at(duration=duration, zone=ZoneInfo("UTC"), at=utc(at))

    assert period == Period(utc(start), utc(end))


MAY, LEAP_DAY, CHRISTMAS = utc("2026-05-14T09:00"), utc("2024-02-29T00:00"), utc("2026-12-24T00:00")


# --- Layouts -----------------------------------------------------------------------------


def found(duration: str, at: str, *, zone: str = "UTC", **layout: Any) -> tuple[str, str]:
    """Return start and end, in UTC and to the minute."""
    period = period_at(duration=duration, zone=ZoneInfo(zone), at=utc(at), layout=Layout(**layout))
    return f"{period.start:%Y-%m-%dT%H:%M}", f"{period.end:%Y-%m-%dT%H:%M}"


@pytest.mark.parametrize(
    ("zone", "at", "bounds"),
    [
        ("America/New_York", "2025-11-02T05:30", ("2025-11-02T05:00", "2025-11-02T06:00")),
        ("America/New_York", "2025-11-02T06:30", ("2025-11-02T06:00", "2025-11-02T07:00")),
        ("Europe/Paris", "2025-10-26T00:10", ("2025-10-26T00:00", "2025-10-26T01:00")),
        ("Europe/Paris", "2025-10-26T01:10", ("2025-10-26T01:00", "2025-10-26T02:00")),
        ("Australia/Lord_Howe", "2025-04-05T15:10", ("2025-04-05T14:00", "2025-04-05T15:30")),
    ],
)
def test_an_hour_that_the_clock_shows_twice_is_two(
    zone: str, at: str, bounds: tuple[str, str]
) -> None:
    assert found("1h", at, zone=zone) == bounds


def test_months_anchored_on_the_31st_end_with_short_months_and_come_back_to_it() -> None:
    anchor, zone = utc("2024-01-31T09:30"), ZoneInfo("UTC")
    at, bounds = anchor, []
    for _ in range(240):
        bounds.append(at)
        at = period_at(duration="1mo", zone=zone, at=at, layout=Layout(anchor=anchor)).end

    assert [f"{bound:%m-%d %H:%M}" for bound in bounds[:4]] == [
        "01-31 09:30", "02-29 09:30", "03-31 09:30", "04-30 09:30",
    ]  # fmt: skip
    for bound in bounds:
        assert bound.day == min(31, monthrange(bound.year, bound.month)[1])


@pytest.mark.parametrize(
    ("duration", "at", "layout", "bounds"),
    [
        ("1w", "2026-11-25T12:00", {"week_start": 6}, ("2026-11-22", "2026-11-29")),
        ("1w", "2026-11-25T12:00", {"week_start": 5}, ("2026-11-21", "2026-11-28")),
        ("1w", "2026-11-25T12:00", {}, ("2026-11-23", "2026-11-30")),
        ("quarterly", "2026-11-25T12:00", {}, ("2026-10-01", "2027-01-01")),
        ("quarterly", "2026-01-15T12:00", {"year_start": 2}, ("2025-11-01", "2026-02-01")),
        ("1y", "2026-03-31T23:59", {"year_start": 4}, ("2025-04-01", "2026-04-01")),
        ("1y", "2026-04-01T00:00", {"year_start": 4}, ("2026-04-01", "2027-04-01")),
        ("3mo", "2026-11-25T12:00", {"begun": MAY}, ("2026-11-01", "2027-02-01")),
        ("1y", "2026-11-25T12:00", {"anchor": LEAP_DAY}, ("2026-02-28", "2027-02-28")),
        ("1y", "2028-03-01T00:00", {"anchor": LEAP_DAY}, ("2028-02-29", "2029-02-28")),
        ("10d", "2026-05-25T12:00", {"begun": MAY}, ("2026-05-24", "2026-06-03")),
        ("10d", "2026-11-25T12:00", {"anchor": CHRISTMAS}, ("2026-11-24", "2026-12-04")),
    ],
)  # fmt: skip
def test_periods_lie_as_the_budget_says(
    duration: str, at: str, layout: dict[str, Any], bounds: tuple[str, str]
) -> None:
    assert found(duration, at, **layout) == tuple(f"{day}T00:00" for day in bounds)


def test_what_is_no_part_of_a_day_runs_from_its_anchor_and_keeps_its_length() -> None:
    anchor = utc("2026-03-07T20:00")

    assert found("7h", "2026-03-08T12:00", zone="America/New_York", anchor=anchor) == (
        "2026-03-08T10:00", "2026-03-08T17:00",
    )  # fmt: skip
    assert found("12h", "2026-03-08T12:00", zone="America/New_York") == (
        "2026-03-08T05:00", "2026-03-08T16:00",
    )  # fmt: skip


def test_a_reset_time_within_a_gap_is_reached_when_the_gap_ends() -> None:
    assert found("1d", "2026-03-08T12:00", zone="America/New_York", reset_time=time(2, 30)) == (
        "2026-03-08T07:00", "2026-03-09T06:30",
    )  # fmt: skip


def test_budgets_that_lie_alike_have_one_layout() -> None:
    def layout(duration: str, **said: Any) -> Layout:
        usual = {
            "anchor": None,
            "begun": NOON,
            "reset_time": time(),
            "week_start": 0,
            "year_start": 1,
        }
        return layout_of(duration, **(usual | said))

    assert layout("1d", week_start=3) == layout("1mo", year_start=7) == CALENDAR
    assert layout("1h", reset_time=time(6)) == CALENDAR
    assert layout("") == CALENDAR
    assert layout("1mo", anchor=NOON, reset_time=time(6)) == Layout(anchor=NOON)
    assert layout("3d", week_start=3) == Layout(begun=NOON)


def test_period_is_half_open() -> None:
    period = day_of("UTC", "2026-03-14")

    assert period.start in period
    assert period.end - timedelta(microseconds=1) in period
    assert period.end not in period
    assert period.start - timedelta(microseconds=1) not in period


def test_period_without_a_duration_is_the_whole_life() -> None:
    zone = ZoneInfo("Asia/Tehran")

    assert period_at(duration="", zone=zone, at=utc("2026-01-01T00:00")) == FOREVER
    assert datetime.now(UTC) in FOREVER
    assert FOREVER.start_ms == 0


# --- Words -------------------------------------------------------------------------------


VECTORS = json.loads((Path(__file__).parent.parent / "data" / "durations.json").read_text())
RESETS = [case for case in VECTORS["cases"] if case.get("next_reset", "reject") != "reject"]
WORDS = [case for case in VECTORS["cases"] if case not in RESETS]


def in_our_words(case: dict[str, str]) -> str:
    """``30d`` is the 1st of the next month in LiteLLM's words; here it is written ``1mo``."""
    return "1mo" if case["duration"] == "30d" else case["duration"]


@pytest.mark.parametrize("case", WORDS, ids=lambda case: case["id"])
def test_a_duration_or_zone_that_the_vectors_reject_is_refused(case: dict[str, Any]) -> None:
    def read() -> None:
        durations.canonical(in_our_words(case))
        periods.zone_of(case.get("time_zone", "UTC"))

    assert not case.get("valid")
    with pytest.raises((UnknownDuration, UnknownZone)):
        read()


@pytest.mark.parametrize("case", RESETS, ids=lambda case: case["id"])
def test_next_reset_is_the_one_of_the_vectors(case: dict[str, str]) -> None:
    now = datetime.fromisoformat(case["now"])
    told = time.fromisoformat(case["reset_time_of_day"])

    period = period_at(
        duration=durations.canonical(in_our_words(case)),
        zone=periods.zone_of(case["time_zone"]),
        at=now,
        layout=Layout(begun=now, reset_time=told),
    )

    assert period.end == datetime.fromisoformat(case["next_reset"])


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("1d", "1d"), ("daily", "1d"), ("7d", "1w"), ("1w", "1w"), ("weekly", "1w"),
        ("1mo", "1mo"), ("monthly", "1mo"), ("1y", "1y"), ("yearly", "1y"), ("hourly", "1h"),
        ("quarterly", "quarterly"), ("3mo", "3mo"), ("24h", "1d"), ("168h", "1w"), ("90m", "90m"),
        ("120m", "2h"), ("3600s", "1h"), ("60s", "1m"), ("90s", "90s"), ("86400s", "1d"),
        ("30d", "30d"), ("2w", "2w"), ("36h", "36h"), ("48h", "2d"), ("3650d", "3650d"),
    ],
)  # fmt: skip
def test_duration_is_kept_in_one_spelling(said: str, kept: str) -> None:
    assert durations.canonical(said) == kept
    assert durations.canonical(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "", "1D", "1 d", "1.5d", "-1d", "0m", "٣d", "abc", "1", "1dd", "5min", "Daily", "1mo ",
        "01d", "1q", "1mo1d", "9999999999s", "11y", "121mo", "3661d", "400000000s", "\n1d",
    ],
)  # fmt: skip
def test_other_duration_is_refused_in_words(text: str) -> None:
    with pytest.raises(UnknownDuration, match="must be"):
        durations.canonical(text)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        ("", "for its whole life"), ("1h", "an hour"), ("1mo", "a month"),
        ("15m", "every 15 minutes"), ("quarterly", "a quarter"), ("3d", "every 3 days"),
        ("2w", "every 2 weeks"),
    ],
)  # fmt: skip
def test_duration_reads_as_people_say_it(duration: str, words: str) -> None:
    assert display.per_period(duration) == words


@pytest.mark.parametrize(("text", "kept"), [("7d", "1w"), ("24h", "1d"), ("60m", "1h")])
def test_a_duration_that_sql_has_stored_in_another_spelling_means_the_same(
    text: str, kept: str
) -> None:
    assert found(text, "2026-11-25T12:30") == found(kept, "2026-11-25T12:30")


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "UTC\x00", "Europe", "utc " * 99]
)
def test_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(UnknownZone):
        periods.zone_of(name)


@given(ms=st.integers(0, 32_503_680_000_000), less=st.integers(0, 999))
def test_milliseconds_are_exact_both_ways_and_rounded_down(ms: int, less: int) -> None:
    at = periods.from_milliseconds(ms)

    assert periods.milliseconds(at) == ms
    assert periods.milliseconds(at + timedelta(microseconds=less)) == ms


# --- Contexts ----------------------------------------------------------------------------

KEY = PathAccount(UUID(int=1), "key", "k")


def terms(duration: str, zone: str = "UTC", max_budget: str = "1") -> Terms:
    return Terms(
        account=KEY,
        budget_id="b",
        max_budget=Decimal(max_budget),
        duration=duration,
        time_zone=zone,
    )


def test_limits_are_valid_while_every_one_of_their_periods_runs() -> None:
    limits = contexts.limits_at(
        terms=[terms("1mo"), terms("1d", "Europe/Paris"), terms("")], currency="USD", at=NOON
    )

    start, end = contexts.validity_ms(limits, expires_at=None)

    assert periods.from_milliseconds(start) == utc("2026-03-13T23:00")
    assert periods.from_milliseconds(end) == utc("2026-03-14T23:00")


def test_limits_of_a_key_are_valid_until_it_expires() -> None:
    limits = contexts.limits_at(terms=[terms("1mo")], currency="USD", at=NOON)

    _, end = contexts.validity_ms(limits, expires_at=NOON + timedelta(hours=1))

    assert periods.from_milliseconds(end) == NOON + timedelta(hours=1)


def test_limit_is_rounded_down_to_units_of_the_currency() -> None:
    (limit,) = contexts.limits_at(
        terms=[terms("1d", max_budget="1.00000019")], currency="JPY", at=NOON
    )

    assert limit.limit == 10_000_001


def test_limit_without_a_duration_never_resets() -> None:
    never, daily = contexts.limits_at(terms=[terms(""), terms("1d")], currency="USD", at=NOON)

    assert never.resets_at is None
    assert daily.resets_at == utc("2026-03-15T00:00")


def _brute_force_start(day: date, zone: ZoneInfo) -> datetime:
    """Look for it in steps of 15 minutes, from a time at which it is the day before everywhere."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
    while at.astimezone(zone).date() < day:
        at += timedelta(minutes=15)
    return at
