"""
What one currency is worth in another: dated rates, and what follows from them. Exact and pure.

A rate says how much of ``quote`` one unit of ``base`` is worth, from its date on until a newer
one comes. Nothing is ever invented: what follows from no rate is None, and only a currency in
itself is worth 1.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final

from budgets import currencies, money
from budgets.errors import InvalidInput
from budgets.money import EXACT

RATE_DIGITS, RATE_DECIMALS = 30, 15
RATE_MAX: Final = Decimal(10**8)
COST_DECIMALS: Final = 18
DAYS_AHEAD_MAX: Final = 31
FIRST_DAY: Final = date(1999, 1, 1)
"""The euro's first day: no rate that is needed is older."""
INVERTED_FROM: Final = Fraction(102, 100)
"""Nearer to 1 a rate and its inverse cannot be told apart."""
_RATE: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,40})?")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Source(StrEnum):
    """Where a rate is from. Of several of one date the first of these counts."""

    MANUAL = "manual"
    HTTP = "http"
    ECB = "ecb"


PRECEDENCE: Final[Mapping[Source, int]] = {
    source: place for place, source in enumerate(reversed(Source))
}
"""The higher the stronger, among rates of the same date."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A rate as somebody wrote it; ``place`` says where, if it was one of many."""

    base: str
    quote: str
    day: str
    rate: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Quoted:
    """A rate that is one: currencies that there are, a date, and a number in range."""

    base: str
    quote: str
    day: date
    value: Decimal
    source: Source


@dataclass(frozen=True, slots=True)
class Rate:
    """What one unit is worth on a day, and of which date that is; None where nothing is changed."""

    value: Decimal
    day: date | None
    is_stale: bool = False

    def convert(self, amount: Decimal) -> Decimal:
        """Return the exact product: whoever keeps it rounds it, once."""
        return EXACT.multiply(amount, self.value)

    def convert_back(self, amount: Decimal) -> Decimal:
        """Return what converts to ``amount`` again, once rounded to units; to 18 decimals."""
        if self.value == 1:
            return amount
        return _rounded(Fraction(amount) / Fraction(self.value), COST_DECIMALS)


SAME: Final = Rate(Decimal(1), None)


@dataclass(frozen=True, slots=True)
class Way:
    """One way from a currency to another, with what tells it from others."""

    worth: Fraction
    day: date
    precedence: int
    steps: int = 1

    @property
    def standing(self) -> tuple[date, int, int]:
        """The newest way is the best, then the one of the stronger source, then the shorter."""
        return (self.day, self.precedence, -self.steps)

    def inverted(self) -> "Way":
        return Way(1 / self.worth, self.day, self.precedence, self.steps)

    def then(self, other: "Way") -> "Way":
        """Return both ways in a row, which are as old as the older and as strong as the weaker."""
        return Way(
            self.worth * other.worth,
            min(self.day, other.day),
            min(self.precedence, other.precedence),
            self.steps + other.steps,
        )


@dataclass(frozen=True, slots=True)
class RateTable:
    """Rates by (base, quote), the best first."""

    quoted: Mapping[tuple[str, str], tuple[Quoted, ...]]
    bases: tuple[str, ...]

    def rate(self, *, of: str, into: str, on: date, stale_after_days: int) -> Rate | None:
        """
        Return what one unit of a currency is worth in another on a day: by the newest rates of
        that day or before, straight, inverted, or across a third currency; None if there are none.
        """
        if of == into:
            return SAME
        best = max(self._ways(of, into, on), key=lambda way: way.standing, default=None)
        if best is None:
            return None
        value = _rounded(best.worth, RATE_DECIMALS)
        if not 0 < value <= RATE_MAX:
            return None
        return Rate(value, best.day, is_stale=(on - best.day).days > stale_after_days)

    def _ways(self, of: str, into: str, on: date) -> Iterator[Way]:
        if straight := self._straight(of, into, on):
            yield straight
        for third in self.bases:
            if third not in {of, into}:
                first, second = self._straight(of, third, on), self._straight(third, into, on)
                if first and second:
                    yield first.then(second)

    def _straight(self, of: str, into: str, on: date) -> Way | None:
        as_quoted, inverse = self._newest(of, into, on), self._newest(into, of, on)
        ways = [way for way in (as_quoted, inverse and inverse.inverted()) if way]
        return max(ways, key=lambda way: way.standing, default=None)

    def _newest(self, base: str, quote: str, on: date) -> Way | None:
        for each in self.quoted.get((base, quote), ()):
            if each.day <= on:
                return Way(Fraction(each.value), each.day, PRECEDENCE[each.source])
        return None


def table_of(quoted: Iterable[Quoted]) -> RateTable:
    """Return a table of these rates."""
    by_pair: dict[tuple[str, str], list[Quoted]] = {}
    for each in quoted:
        by_pair.setdefault((each.base, each.quote), []).append(each)
    for pair in by_pair.values():
        pair.sort(key=lambda each: (each.day, PRECEDENCE[each.source]), reverse=True)
    bases = sorted({base for base, _ in by_pair})
    return RateTable({pair: tuple(each) for pair, each in by_pair.items()}, tuple(bases))


NO_RATES: Final = table_of(())


def checked(offered: Offered, *, source: Source, today: date) -> Quoted:
    """
    Return what was offered as a rate.

    :raises InvalidInput: naming the field that does not fit
    """
    base, quote = (_currency(name, offered) for name in ("base", "quote"))
    if base == quote:
        raise InvalidInput("quote", "must be another currency than base")
    return Quoted(base, quote, day_of(offered.day, today=today), rate_of(offered.rate), source)


def rate_of(text: str) -> Decimal:
    """
    Return the rate that a text says.

    :raises InvalidInput: naming ``rate``, if it says none
    """
    if not _RATE.fullmatch(text):
        raise InvalidInput("rate", "must be a number in digits, such as 1.0825")
    value = Decimal(text)
    if not money.fits_in_decimals(value, RATE_DECIMALS):
        raise InvalidInput("rate", f"must not have more than {RATE_DECIMALS} decimals")
    if value == 0:
        raise InvalidInput("rate", "must be above 0")
    if value > RATE_MAX:
        raise InvalidInput("rate", f"must not be above {money.plain(RATE_MAX)}")
    return value


def doubt_about(value: Decimal, *, previous: Decimal, jump_max: Decimal) -> str:
    """Return why a rate should be looked at before it counts, or nothing."""
    distance = _distance(Fraction(value), Fraction(previous))
    from_inverse = _distance(Fraction(value), 1 / Fraction(previous))
    told = f"the last rate in force is {money.plain(previous)}"
    if distance > INVERTED_FROM and from_inverse < min(distance, Fraction(jump_max)):
        return f"looks inverted: {told}"
    if distance > Fraction(jump_max):
        percent = money.plain((jump_max - 1) * 100)
        return f"jumps by more than {percent} %: {told}"
    return ""


def _currency(field: str, offered: Offered) -> str:
    try:
        return currencies.check(getattr(offered, field))
    except currencies.UnknownCurrency as error:
        raise InvalidInput(field, str(error)) from error


def day_of(text: str, *, today: date) -> date:
    """
    Return the date that a text says.

    :raises InvalidInput: naming ``date``, if it says none on which a rate can be
    """
    problem = "must be a date such as 2026-11-01"
    if not _DAY.fullmatch(text):
        raise InvalidInput("date", problem)
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("date", problem) from error
    if not FIRST_DAY <= day <= today + timedelta(days=DAYS_AHEAD_MAX):
        raise InvalidInput(
            "date", f"must be from {FIRST_DAY} to {DAYS_AHEAD_MAX} days from now, by UTC"
        )
    return day


def _distance(one: Fraction, other: Fraction) -> Fraction:
    """Return by which factor two rates differ, 1 or more."""
    return max(one / other, other / one)


def _rounded(exact: Fraction, decimals: int) -> Decimal:
    """Return a fraction rounded once, half to even."""
    return EXACT.scaleb(Decimal(round(exact * 10**decimals)), -decimals)
