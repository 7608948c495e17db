"""What is an instant, and what only looks like one."""

from datetime import UTC, datetime, timedelta

import pytest

from spend import instants

pytestmark = pytest.mark.no_servers

NO_INSTANTS = (
    "", "yesterday", "now", "2026-13-01", "2026-02-30", "2026-1-1", "20260101", "1767225600",
    "２０２６-01-01", "2026-11-01T12:00", "2026-11-01 12:00:00", "2026-11-01T25:00Z",
    "2026-11-01T12:00+99:00", "2026-11-01T12:00:00.1234567Z", " 2026-11-01", "2026-11-01\n",
    "0001-01-01", "0001-01-01T00:00+14:00", "9999-12-31", "9999-12-31T23:59-12:00", "1970-12-31",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
        ("2026-11-01T09:30Z", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ("2026-11-01 09:30:15Z", datetime(2026, 11, 1, 9, 30, 15, tzinfo=UTC)),
        ("2026-11-01T09:30:15.000001+01:00", datetime(2026, 11, 1, 8, 30, 15, 1, tzinfo=UTC)),
    ],
)
def test_a_day_or_a_time_with_its_zone_is_an_instant_of_utc(text: str, at: datetime) -> None:
    parsed = instants.parse(text)

    assert parsed == at
    assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", NO_INSTANTS)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(instants.NoInstant):
        instants.parse(text)


def test_a_time_without_a_zone_is_told_what_it_lacks() -> None:
    with pytest.raises(instants.NoInstant, match="time zone"):
        instants.parse("2026-11-01T12:00")
