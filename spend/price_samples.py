"""What a sample request costs at some rates, and what has become of the rates before."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from budgets import money
from spend import price_terms, pricing, units
from spend.components import Component, Usage
from spend.rates import Price, Rate

SAMPLE: Final[Usage] = {Component.INPUT: 1_000, Component.OUTPUT: 500, Component.REQUEST: 1}
SAMPLE_WORDS: Final = "1,000 input and 500 output tokens"


@dataclass(frozen=True, slots=True)
class Compared:
    """A rate in words, beside the one before; ``factor`` is None where there is nothing to say."""

    name: str
    now: str
    before: str
    factor: Decimal | None
    is_jump: bool

    @property
    def factor_told(self) -> str:
        if self.factor is None:
            return ""
        return "same" if self.factor == 1 else f"× {money.plain(self.factor)}"


def sample_cost(rates: Sequence[Rate], *, currency: str) -> Decimal | None:
    """Return what the sample costs while no window is open; None if its tokens have no price."""
    always = tuple(each for each in rates if not each.window)
    price = Price(currency, always, "sample")
    cost = pricing.cost(price=price, usage=SAMPLE)
    return None if cost.unpriced or not cost.lines else cost.amount


def compared(
    new: Sequence[Rate], old: Sequence[Rate], *, jumps: Sequence[price_terms.Jump]
) -> list[Compared]:
    """Return each rate in words, with how it differs from the one before; then those that go."""
    before = {price_terms.place(each): each for each in old}
    far = {price_terms.place(jump.after): jump for jump in jumps}
    rows = []
    for each in new:
        own, jump = before.pop(price_terms.place(each), None), far.get(price_terms.place(each))
        rows.append(_compared(each, jump.before if jump else own, is_jump=jump is not None))
    for gone in before.values():
        jump = far.get(price_terms.place(gone))
        rows.append(
            _compared(jump.after, gone, is_jump=True)
            if jump
            else Compared(named(gone), "", units.written(gone), None, False)
        )
    return rows


def named(rate: Rate) -> str:
    """Return what a rate is of, with its conditions."""
    conditions = [
        rate.service_tier,
        rate.variant,
        rate.window,
        f"over {rate.tier_from:,} input tokens" if rate.tier_from else "",
    ]
    told = ", ".join(each for each in conditions if each)
    name = units.name_of(rate.component)
    return f"{name} ({told})" if told else name


def _compared(rate: Rate, before: Rate | None, *, is_jump: bool) -> Compared:
    return Compared(
        name=named(rate),
        now=units.written(rate),
        before=units.written(before) if before else "",
        factor=price_terms.factor(before, rate) if before else None,
        is_jump=is_jump,
    )
