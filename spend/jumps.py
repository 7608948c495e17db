"""
Which rates are likely slips: far from what was charged before, or dear where nothing was.

What is compared is what is charged, and not what is written: a class without a rate of its own
takes that of another. So it jumps too where its own rate goes, or comes.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from budgets import money
from budgets.money import EXACT
from spend.components import TOKENS, Component
from spend.rates import Conditions, Price, Rate, UnitRate, find

FIRST_TOKEN_RATE_MAX: Final = Decimal("0.001")
"""A token that costs more (1,000 a million, in most currencies) is a jump without any before."""


class Charged:
    """What each class is charged at the rates of one price, by its own rate or another's."""

    def __init__(self, rates: Iterable[Rate], *, currency: str) -> None:
        self._rates = tuple(rates)
        self._currency = currency
        self._prices: dict[str, Price] = {}

    def like(self, rate: Rate) -> UnitRate | None:
        """Return what is charged for the class of ``rate``, under its conditions."""
        price = self._price_in(rate.window)
        tier, _ = price.tier_of(served=rate.service_tier)
        row = price.row({Component.INPUT: rate.tier_from + 1}, Conditions(tier))
        return find(row, rate.component, rate.variant)

    def _price_in(self, window: str) -> Price:
        if window not in self._prices:
            self._prices[window] = Price(self._currency, tuple(self._rates_in(window)), window)
        return self._prices[window]

    def _rates_in(self, window: str) -> Iterable[Rate]:
        """Yield the rates while the window is open: they go before those that always hold."""
        own = {(each.key, each.service_tier) for each in self._rates if each.window == window}
        for each in self._rates:
            if each.window == window:
                yield _always(each)
            elif not each.window and (each.key, each.service_tier) not in own:
                yield each


def is_jump(
    before: UnitRate | None,
    after: UnitRate | None,
    *,
    component: Component,
    currency: str,
    jump_max: int,
) -> bool:
    """Return whether a rate is more than ``jump_max`` times the other one, or likely a slip."""
    if after is None:
        return False
    if before is None:
        return component in TOKENS and is_dear(after, currency=currency)
    if not before.value or not after.value:
        return bool(before.value) != bool(after.value)
    old, new = _product(before.value, after.per), _product(after.value, before.per)
    return new > _product(old, jump_max) or old > _product(new, jump_max)


def is_dear(rate: UnitRate, *, currency: str) -> bool:
    """Return whether a token costs more than any is known to: likely its ``per`` is wrong."""
    scale = 10 ** (money.DECIMALS_MOST - money.decimals_of(currency))
    return rate.value > _product(_product(FIRST_TOKEN_RATE_MAX, scale), rate.per)


def _always(rate: Rate) -> Rate:
    return Rate(
        rate.component, rate.rate, rate.tier_from, rate.per, rate.service_tier, rate.variant
    )


def _product(value: Decimal, count: int) -> Decimal:
    return EXACT.multiply(value, count)
