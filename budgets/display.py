"""
How figures are written for people: pure functions, the currency's code always beside the number.

What is not zero never reads as zero; shares and what is left are rounded down, so that no screen
promises more than there is.
"""

from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

from budgets import durations, money
from budgets.periods import FOREVER, Period

MINOR_DIGITS_USUAL: Final = 2
MINOR_DIGITS: Final[dict[str, int]] = {
    "BHD": 3, "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "IQD": 3, "ISK": 0, "JOD": 3, "JPY": 0,
    "KMF": 0, "KRW": 0, "KWD": 3, "LYD": 3, "OMR": 3, "PYG": 0, "RWF": 0, "TND": 3, "UGX": 0,
    "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
}  # fmt: skip
"""Decimals of ISO 4217 where they are not two."""
PER_MILLION: Final = 6
MINUS: Final = "−"
"""Before the currency, and as wide as a plus."""
_UNITS_OF_TIME: Final = (
    (timedelta(days=365), "year"), (timedelta(days=30), "month"), (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute"),
)  # fmt: skip


def amount(value: Decimal, currency: str, *, rounding: str = ROUND_HALF_EVEN) -> str:
    """Return an amount in the currency's minor units: ``USD 1,234.50``, or ``<USD 0.01``."""
    smallest = Decimal(1).scaleb(-_minor_digits(currency))
    if value and abs(value) < smallest:
        return f"{_sign(value)}<{currency} {smallest}"
    rounded = value.quantize(smallest, rounding=rounding, context=money.WIDE)
    return f"{_sign(value)}{currency} {abs(rounded):,f}"


def fine_amount(value: Decimal, currency: str) -> str:
    """Return an amount as :func:`amount` does, but with two significant digits where it is tiny."""
    smallest = Decimal(1).scaleb(-_minor_digits(currency))
    if not value or abs(value) >= smallest:
        return amount(value, currency)
    two_digits = value.quantize(Decimal(1).scaleb(value.adjusted() - 1), context=money.WIDE)
    return f"{_sign(value)}{currency} {money.plain(abs(two_digits))}"


def exact(value: Decimal, currency: str) -> str:
    """Return an amount with all its decimals."""
    return f"{_sign(value)}{currency} {money.plain(abs(value))}"


def left(limit: Decimal, used: Decimal, currency: str) -> str:
    """Return what is left of a limit, rounded down, or by how much it is exceeded."""
    remains = limit - used
    if remains < 0:
        return f"over by {amount(-remains, currency)}"
    return f"{amount(remains, currency, rounding=ROUND_FLOOR)} left"


def share(part: Decimal, whole: Decimal) -> Decimal:
    """Return ``part`` of ``whole`` in per cent, rounded down; a whole of 0 is used up."""
    if whole == 0:
        return Decimal("100.0")
    return (part * 100 / whole).quantize(Decimal("0.1"), rounding=ROUND_FLOOR)


def percent(part: Decimal, whole: Decimal) -> str:
    return f"{share(part, whole)} %"


def per_million(rate: Decimal) -> str:
    """Return a rate for one unit as that for a million of them, exactly."""
    return money.plain(rate.scaleb(PER_MILLION, context=money.WIDE))


def count(number: int) -> str:
    return f"{number:,d}"


def limit_terms(limit: Decimal | None, currency: str, duration: str) -> str:
    """Return a limit in words: ``USD 50.00 a month``."""
    if limit is None:
        return "no limit"
    return f"{amount(limit, currency)} {per_period(duration)}"


def rates(*, requests: int | None, tokens: int | None, at_once: int | None) -> str:
    """Return limits of requests and tokens in words: ``60 requests a minute · 4 at once``."""
    parts = (
        (requests, "requests a minute"), (tokens, "tokens a minute"), (at_once, "at once"),
    )  # fmt: skip
    return " · ".join(f"{count(limit)} {words}" for limit, words in parts if limit is not None)


def per_period(duration: str) -> str:
    if not duration:
        return "for its whole life"
    words = durations.in_words(duration)
    if words[0].isdigit():
        return f"every {words}"
    return f"{'an' if words == 'hour' else 'a'} {words}"


def moment(at: datetime) -> str:
    """Return an instant with its own zone's name: ``2026-12-01 00:00 Europe/Paris``."""
    return f"{at:%Y-%m-%d %H:%M} {at.tzinfo}"


def relative(at: datetime, *, now: datetime) -> str:
    """Return how far an instant is away, rounded down: ``in 8 days``, ``3 hours ago``."""
    distance = abs(at - now)
    for length, name in _UNITS_OF_TIME:
        if (number := distance // length) > 0:
            words = f"{number} {name}" if number == 1 else f"{number} {name}s"
            return f"in {words}" if at > now else f"{words} ago"
    return "in less than a minute" if at > now else "just now"


def next_reset(period: Period) -> datetime | None:
    """Return when the period ends, or None if it never does."""
    return None if period == FOREVER else period.end


def _sign(value: Decimal) -> str:
    return MINUS if value < 0 else ""


def _minor_digits(currency: str) -> int:
    return MINOR_DIGITS.get(currency, MINOR_DIGITS_USUAL)
