"""How long a key lives: counted exactly from the moment it is said, unlike a budget's periods."""

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Final

YEARS_MAX: Final = 100
MONTHS_A_YEAR: Final = 12
_LIFETIME: Final = re.compile(r"([0-9]{1,10})(s|m|h|d|w|mo|y)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_MONTHS: Final = {"mo": 1, "y": MONTHS_A_YEAR}
_SECONDS_MAX: Final = YEARS_MAX * 365 * 86_400


class UnknownLifetime(ValueError):
    """The text is no lifetime that a key can have."""


def end_of(lifetime: str, *, start: datetime) -> datetime:
    """
    Return when a lifetime such as ``30s``, ``15m``, ``24h``, ``30d``, ``1w`` or ``1mo`` is over.

    A month ends on the same day of a later month, or on that month's last.

    :raises UnknownLifetime: if it is none, nothing, or more than a hundred years
    """
    match = _LIFETIME.fullmatch(lifetime)
    if match is None:
        raise UnknownLifetime("must be a number and s, m, h, d, w, mo or y, such as 30d")
    count, unit = int(match[1]), match[2]
    if count == 0:
        raise UnknownLifetime("must be longer than nothing")
    if unit in _MONTHS:
        return _months_later(start, count * _MONTHS[unit])
    seconds = count * _SECONDS[unit]
    if seconds > _SECONDS_MAX:
        raise UnknownLifetime(f"must be {YEARS_MAX} years at most")
    return start + timedelta(seconds=seconds)


def check(lifetime: str) -> None:
    """
    Return if a key can live that long.

    :raises UnknownLifetime: if not
    """
    end_of(lifetime, start=datetime(2000, 1, 1, tzinfo=UTC))


def _months_later(start: datetime, months: int) -> datetime:
    if months > YEARS_MAX * MONTHS_A_YEAR:
        raise UnknownLifetime(f"must be {YEARS_MAX} years at most")
    years, month = divmod(start.year * MONTHS_A_YEAR + start.month - 1 + months, MONTHS_A_YEAR)
    last = calendar.monthrange(years, month + 1)[1]
    return start.replace(year=years, month=month + 1, day=min(start.day, last))
