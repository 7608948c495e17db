"""
Reads when the rates of ``off_peak_pricing`` in LiteLLM's price map hold.

``hours_utc`` beside the rates is for every day, whatever days may stand there: so it is read by
those who charge by the map. ``windows`` have days of their own. The rates hold in all of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from spend import windows

EVERY_DAY: Final = range(7)
WEEKDAYS: Final = {
    name: number
    for number, names in enumerate(
        (
            ("mon", "monday"), ("tue", "tues", "tuesday"), ("wed", "wednesday"),
            ("thu", "thur", "thurs", "thursday"), ("fri", "friday"), ("sat", "saturday"),
            ("sun", "sunday"),
        )
    )
    for name in names
}  # fmt: skip


def window_of(off_peak: Mapping[str, Any]) -> str:
    """
    Return the times as :mod:`spend.windows` writes them.

    :raises ValueError: if there are none, or a day is none
    """
    window = "; ".join(_windows(off_peak))
    if not window:
        raise ValueError("rates of no time would hold always")
    return window


def _windows(off_peak: Mapping[str, Any]) -> Iterator[str]:
    if off_peak.get("hours_utc"):
        yield _written(off_peak["hours_utc"], EVERY_DAY, "")
    zone = str(off_peak.get("weekday_timezone") or "")
    for each in off_peak.get("windows") or ():
        days = each.get("weekdays")
        yield _written(each["hours_utc"], EVERY_DAY if days is None else map(_weekday, days), zone)


def _written(hours: Any, days: Iterable[int], zone: str) -> str:
    spans = [hours] if isinstance(hours, str) else hours
    return windows.written(days, [re.sub("-00:00$", "-24:00", each) for each in spans], zone=zone)


def _weekday(day: object) -> int:
    """Return 0 for Monday: days are numbers from 1, or English names, short ones too."""
    if isinstance(day, str) and day.strip().lower() in WEEKDAYS:
        return WEEKDAYS[day.strip().lower()]
    if isinstance(day, int) and not isinstance(day, bool) and day - 1 in EVERY_DAY:
        return day - 1
    raise ValueError("is no day of the week")
