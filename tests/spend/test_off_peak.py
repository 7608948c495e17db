"""When the off-peak rates of a price map hold, and the windows they are written as."""

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from spend import windows
from spend.catalogues import sources
from spend.catalogues.listing import InvalidPriceList
from spend.components import Component

pytestmark = pytest.mark.no_servers

WEDNESDAY: Final = datetime(2026, 11, 25, 12, tzinfo=UTC)
SATURDAY: Final = datetime(2026, 11, 28, 12, tzinfo=UTC)


def window_of(**off_peak: Any) -> str:
    """Return the only window of a row with such an off-peak rate beside its usual one."""
    row = {
        "litellm_provider": "deepseek",
        "input_cost_per_token": 2e-6,
        "off_peak_pricing": {"input_cost_per_token": 1e-6, **off_peak},
    }
    listing = sources.read(source="litellm", content=json.dumps({"m": row}).encode())
    rates = listing.models[0].prices[0].rates
    assert [(each.component, each.window == "") for each in rates] == [
        (Component.INPUT, True),
        (Component.INPUT, False),
    ]
    return rates[1].window


def windows_of(hours: Any, *days: Any) -> list[dict[str, Any]]:
    return [{"hours_utc": hours, "weekdays": list(days)}]


@pytest.mark.parametrize(
    ("off_peak", "window"),
    [
        ({"hours_utc": "16:30-00:30"}, "16:30-00:30"),
        ({"hours_utc": ["01:00-02:00", "22:00-00:00"]}, "01:00-02:00,22:00-24:00"),
        (
            {"hours_utc": "16:30-00:30", "windows": windows_of("03:00-04:00", 6)},
            "16:30-00:30; Sa 03:00-04:00",
        ),
        ({"windows": windows_of("00:00-01:00", "mon")}, "Mo 00:00-01:00"),
        (
            {"windows": windows_of("00:00-00:00", "Saturday", " sun ", 1)},
            "Mo,Sa,Su 00:00-24:00",
        ),
        ({"windows": [{"hours_utc": "05:00-06:00"}]}, "05:00-06:00"),
    ],
)
def test_rates_hold_at_the_hours_of_every_day_and_in_all_windows(
    off_peak: dict[str, Any], window: str
) -> None:
    assert window_of(**off_peak) == window


@pytest.mark.parametrize(
    "off_peak",
    [
        {},
        {"windows": []},
        {"hours_utc": "noon"},
        {"windows": windows_of("05:00-06:00", 0)},
        {"windows": windows_of("05:00-06:00", 8)},
        {"windows": windows_of("05:00-06:00", True)},
        {"windows": windows_of("05:00-06:00", "someday")},
        {"windows": windows_of("05:00-06:00")},
    ],
)
def test_times_that_cannot_be_read_are_refused_by_the_models_name(off_peak: dict[str, Any]) -> None:
    with pytest.raises(InvalidPriceList, match=r"m.* (has a form|is not written)"):
        window_of(**off_peak)


@pytest.mark.parametrize(
    ("window", "at", "holds"),
    [
        ("05:00-05:00", WEDNESDAY, True),
        ("05:00-05:00", WEDNESDAY.replace(hour=5), True),
        ("Sa 05:00-05:00", WEDNESDAY, False),
        ("Sa 05:00-05:00", SATURDAY, True),
        ("12:00-12:01", WEDNESDAY, True),
        ("11:59-12:00", WEDNESDAY, False),
        ("00:00-24:00", WEDNESDAY.replace(hour=0), True),
        ("00:00-00:00", WEDNESDAY, True),
    ],
)
def test_a_span_that_ends_where_it_begins_is_the_whole_day(
    window: str, at: datetime, holds: bool
) -> None:
    assert windows.holds(window, at) is holds
