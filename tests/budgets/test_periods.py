"""Periods tile time in every zone: each bound is the first instant of its local date."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets import contexts, periods
from budgets.contexts import PathAccount, Terms
from budgets.periods import FOREVER, Period, UnknownDuration, UnknownZone, period_at

pytestmark = pytest.mark.no_servers

DURATIONS = ["1d", "1w", "1mo", "1y"]
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


def assert_tiles(duration: str, zone: ZoneInfo, at: datetime) -> None:
    period = period_at(duration=duration, zone=zone, at=at)

    assert at in period
    assert period_at(duration=duration, zone=zone, at=period.start) == period
    assert period_at(duration=duration, zone=zone, at=period.end - MILLISECOND) == period
    assert period_at(duration=duration, zone=zone, at=period.end).start == period.end
    assert (
        period_at(duration=duration, zone=zone, at=period.start - MILLISECOND).end == period.start
    )


@settings(max_examples=200, deadline=None)
@given(at=instants, zone=st.sampled_from(ZONES), duration=st.sampled_from(DURATIONS))
def test_periods_tile_time_in_every_zone(at: datetime, zone: str, duration: str) -> None:
    assert_tiles(duration, ZoneInfo(zone), at)


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
RESETS = [case for case in VECTORS["cases"] if case["next_reset"] != "reject"]
REJECTED = [case for case in VECTORS["cases"] if case["next_reset"] == "reject"]


@pytest.mark.parametrize("case", REJECTED, ids=lambda case: case["id"])
def test_zone_that_the_vectors_reject_is_refused(case: dict[str, str]) -> None:
    with pytest.raises(UnknownZone):
        periods.zone_of(case["time_zone"])


@pytest.mark.parametrize("case", RESETS, ids=lambda case: case["id"])
def test_next_reset_is_the_one_of_the_vectors(case: dict[str, str]) -> None:
    """``30d`` is the 1st of the next month in LiteLLM's words; here it is written ``1mo``."""
    duration = "1mo" if case["duration"] == "30d" else case["duration"]

    period = period_at(
        duration=periods.canonical_duration(duration),
        zone=periods.zone_of(case["time_zone"]),
        at=datetime.fromisoformat(case["now"]),
    )

    assert period.end == datetime.fromisoformat(case["next_reset"])


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("1d", "1d"), ("daily", "1d"), ("7d", "1w"), ("1w", "1w"), ("weekly", "1w"),
        ("1mo", "1mo"), ("monthly", "1mo"), ("1y", "1y"), ("yearly", "1y"),
    ],
)  # fmt: skip
def test_duration_is_kept_in_one_spelling(said: str, kept: str) -> None:
    assert periods.canonical_duration(said) == kept
    assert periods.canonical_duration(kept) == kept


@pytest.mark.parametrize(
    "text", ["", "1D", "1 d", "1.5d", "-1d", "0m", "٣d", "abc", "1", "1dd", "5min", "Daily", "1mo "]
)
def test_other_duration_is_refused_and_the_known_ones_are_named(text: str) -> None:
    with pytest.raises(UnknownDuration, match="1d, daily, 7d"):
        periods.canonical_duration(text)


@pytest.mark.parametrize("text", ["7d", "daily", "30d"])
def test_period_of_a_duration_that_is_not_canonical_is_a_mistake(text: str) -> None:
    with pytest.raises(UnknownDuration):
        period_at(duration=text, zone=ZoneInfo("UTC"), at=utc("2026-01-01T00:00"))


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
NOON = utc("2026-03-14T12:00")


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
