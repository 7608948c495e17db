"""What a report says of money: its rows, its total, and how both were converted. Exact and pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Final

from budgets import money
from budgets.currencies import CURRENCIES
from budgets.money import EXACT, WIDE
from spend.currencies.exchange import Rate

POLICY: Final = "rate_of_each_day"
POLICY_WORDS: Final = (
    "What an organization spent on a day is converted at the rate in force on that date: the"
    " newest of it or before. Rows are rounded, half to even, to the minor unit of the currency;"
    " the total is rounded once, from unrounded sums, and what the rows miss it by is told as"
    " rounding. What has no rate is not converted, and not in the total."
)
_NOTHING: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class DaySum:
    """What was spent on a day in a currency."""

    currency: str
    day: date
    units: int


@dataclass(frozen=True, slots=True)
class DayRate:
    """What one unit of a currency is worth on a day in the currency of the report."""

    currency: str
    day: date
    value: Decimal
    is_stale: bool


@dataclass(frozen=True, slots=True)
class GroupSum:
    """What a group spent in one currency; ``converted`` is the part that has rates, unrounded."""

    groups: tuple[str, ...]
    currency: str
    units: int
    units_without_rate: int
    converted: Decimal
    is_stale: bool
    events: int
    input_tokens: int
    output_tokens: int
    saved_units: int
    """What answers from the response cache would have cost."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Exact money of one currency."""

    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What was spent: rounded, exactly, in the currencies it was spent in, and without a rate; and
    what the response cache has saved, as it was saved: not converted.
    """

    amount: Decimal
    exact: Decimal
    original: tuple[Amount, ...]
    not_converted: tuple[Amount, ...]
    is_stale: bool
    events: int
    input_tokens: int
    output_tokens: int
    saved: tuple[Amount, ...]


@dataclass(frozen=True, slots=True)
class RateUsed:
    """At what a currency was converted from a day to another one."""

    currency: str
    first_day: date
    last_day: date
    rate: Rate


@dataclass(frozen=True, slots=True)
class Missing:
    """What was not converted, since these days have no rate."""

    currency: str
    amount: Decimal
    first_day: date
    last_day: date
    days: int


def minor_unit(currency: str) -> Decimal:
    """Return the smallest amount that a price in shops can have."""
    return Decimal(1).scaleb(-CURRENCIES[currency].minor_units)


def rounded(exact: Decimal, *, currency: str) -> Decimal:
    """Return an amount in minor units, rounded half to even."""
    return exact.quantize(minor_unit(currency), context=WIDE)


def figures_of(sums: Sequence[GroupSum], *, currency: str) -> Figures:
    """Return what several sums come to in a currency: added up exactly, and rounded once."""
    exact = total(each.converted for each in sums)
    return Figures(
        amount=rounded(exact, currency=currency),
        exact=exact,
        original=_by_currency((each.currency, each.units) for each in sums),
        not_converted=_by_currency((each.currency, each.units_without_rate) for each in sums),
        is_stale=any(each.is_stale for each in sums),
        events=sum(each.events for each in sums),
        input_tokens=sum(each.input_tokens for each in sums),
        output_tokens=sum(each.output_tokens for each in sums),
        saved=_by_currency((each.currency, each.saved_units) for each in sums),
    )


def rounding_of(whole: Figures, rows: Iterable[Figures]) -> Decimal:
    """Return what the rows, as they are shown, miss the total by."""
    return EXACT.subtract(whole.amount, total(row.amount for row in rows))


def rates_used(
    days: Iterable[DaySum], rates: Mapping[tuple[str, date], Rate | None]
) -> list[RateUsed]:
    """Return the rates of these days, those of days in a row that have the same as one."""
    used: list[RateUsed] = []
    for (currency, rate), same in groupby(
        sorted(days, key=lambda each: (each.currency, each.day)),
        key=lambda each: (each.currency, rates[each.currency, each.day]),
    ):
        held = [each.day for each in same]
        if rate is not None:
            used.append(RateUsed(currency, held[0], held[-1], rate))
    return used


def missing(days: Iterable[DaySum], rates: Mapping[tuple[str, date], Rate | None]) -> list[Missing]:
    """Return what has no rate, currency by currency."""
    without: dict[str, list[DaySum]] = {}
    for each in days:
        if rates[each.currency, each.day] is None:
            without.setdefault(each.currency, []).append(each)
    return [_missing(currency, without[currency]) for currency in sorted(without)]


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    whole = _NOTHING
    for amount in amounts:
        whole = EXACT.add(whole, amount)
    return whole


def _missing(currency: str, days: Sequence[DaySum]) -> Missing:
    held = [each.day for each in days]
    units = sum(each.units for each in days)
    amount = money.to_decimal(units, currency=currency)
    return Missing(currency, amount, min(held), max(held), len(held))


def _by_currency(units: Iterable[tuple[str, int]]) -> tuple[Amount, ...]:
    sums: dict[str, int] = {}
    for currency, number in units:
        sums[currency] = sums.get(currency, 0) + number
    return tuple(
        Amount(currency, money.to_decimal(number, currency=currency))
        for currency, number in sorted(sums.items())
        if number
    )
