"""How long a budget's periods are, in one spelling: ``30s``, ``15m``, ``12h``, ``1mo`` …"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

DAY_SECONDS: Final = 86_400
MONTHS_A_YEAR: Final = 12
DAYS_A_WEEK: Final = 7
QUARTERLY: Final = "quarterly"
YEARS_MAX: Final = 10

_WORDS: Final = {
    "hourly": "1h", "daily": "1d", "weekly": "1w", "monthly": "1mo", "yearly": "1y",
}  # fmt: skip
PATTERN: Final = (
    "[1-9][0-9]{0,8}s|[1-9][0-9]{0,6}m|[1-9][0-9]{0,4}h|[1-9][0-9]{0,3}d|[1-9][0-9]{0,2}(w|mo)"
    "|[1-9][0-9]?y"
)
"""What has at most a hundred years, in any spelling."""
_DURATION: Final = re.compile(PATTERN)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600}
_DAYS: Final = {"d": 1, "w": DAYS_A_WEEK}
_MONTHS: Final = {"mo": 1, "y": MONTHS_A_YEAR}
EXAMPLES: Final = (
    "30s, 15m, 12h, 1d, 1w, 1mo, 3mo or 1y, or hourly, daily, weekly, monthly, quarterly or yearly"
)

Unit = Literal["second", "day", "month"]


class UnknownDuration(ValueError):
    """The text is no duration that a budget can have."""


@dataclass(frozen=True, slots=True)
class Duration:
    """So many of a unit; ``is_aligned``: of the calendar's own, such as a week from its Monday."""

    count: int
    unit: Unit
    is_aligned: bool


def canonical(text: str) -> str:
    """
    Return the one spelling under which a duration is stored.

    Hours, minutes and seconds that are whole days are days, and seven days are a week.

    :raises UnknownDuration: if it is none, or more than ten years
    """
    if text == QUARTERLY:
        return text
    text = _WORDS.get(text, text)
    count, unit = _split(text)
    _check_length(count, unit)
    if unit in _SECONDS:
        return _of_seconds(count * _SECONDS[unit])
    return "1w" if text == "7d" else text


@lru_cache(maxsize=1_024)
def parsed(text: str) -> Duration:
    """
    Return what a duration says, also one that somebody has stored in another spelling.

    :raises UnknownDuration: if it is none
    """
    if text == QUARTERLY:
        return Duration(3, "month", is_aligned=True)
    count, unit = _split(text)
    if unit in _SECONDS and (seconds := count * _SECONDS[unit]) % DAY_SECONDS:
        return Duration(seconds, "second", is_aligned=DAY_SECONDS % seconds == 0)
    if unit not in _MONTHS:
        days = _days(count, unit)
        return Duration(days, "day", is_aligned=days in {1, DAYS_A_WEEK})
    return Duration(count * _MONTHS[unit], "month", is_aligned=count == 1)


def _split(text: str) -> tuple[int, str]:
    if _DURATION.fullmatch(text) is None:
        raise UnknownDuration(f"must be a number and a unit, such as {EXAMPLES}")
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)), unit


def _days(count: int, unit: str) -> int:
    return count * _DAYS[unit] if unit in _DAYS else count * _SECONDS[unit] // DAY_SECONDS


def _check_length(count: int, unit: str) -> None:
    if unit in _MONTHS:
        is_too_long = count * _MONTHS[unit] > YEARS_MAX * MONTHS_A_YEAR
    else:
        seconds = count * (_SECONDS.get(unit) or _DAYS[unit] * DAY_SECONDS)
        is_too_long = seconds > YEARS_MAX * 366 * DAY_SECONDS
    if is_too_long:
        raise UnknownDuration(f"must be {YEARS_MAX} years at most")


def _of_seconds(seconds: int) -> str:
    if seconds % DAY_SECONDS == 0:
        days = seconds // DAY_SECONDS
        return "1w" if days == DAYS_A_WEEK else f"{days}d"
    unit, length = next(
        (unit, length) for unit, length in reversed(_SECONDS.items()) if seconds % length == 0
    )
    return f"{seconds // length}{unit}"


_NAMES: Final = {
    "s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year",
}  # fmt: skip


def in_words(text: str) -> str:
    """Return a duration as it stands after "a" or "every": ``month``, ``15 minutes``."""
    if text == QUARTERLY:
        return "quarter"
    count, unit = _split(text)
    return _NAMES[unit] if count == 1 else f"{count} {_NAMES[unit]}s"
