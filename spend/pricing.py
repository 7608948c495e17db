"""
What a usage costs at a price: exact, pure, nothing rounded.

Usage comes in disjoint classes ("components"), each priced once. A class without a rate of its
own takes the rate of the class it is a kind of (cached input that of input); a class that has
neither is unpriced, which is not the same as a rate of 0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from typing import Final

from budgets.money import EXACT


class Component(StrEnum):
    """A class of usage; each is counted in its own unit, and no unit twice."""

    INPUT = "input"
    CACHED_READ = "cached_read"
    CACHE_WRITE_5M = "cache_write_5m"
    CACHE_WRITE_1H = "cache_write_1h"
    INPUT_AUDIO = "input_audio"
    OUTPUT = "output"
    REASONING = "reasoning"
    OUTPUT_AUDIO = "output_audio"
    REQUEST = "request"


KIND_OF: Final[Mapping[Component, Component]] = {
    Component.CACHED_READ: Component.INPUT,
    Component.CACHE_WRITE_5M: Component.INPUT,
    Component.CACHE_WRITE_1H: Component.CACHE_WRITE_5M,
    Component.INPUT_AUDIO: Component.INPUT,
    Component.REASONING: Component.OUTPUT,
    Component.OUTPUT_AUDIO: Component.OUTPUT,
}
INPUT_COMPONENTS: Final = (
    Component.INPUT,
    Component.CACHED_READ,
    Component.CACHE_WRITE_5M,
    Component.CACHE_WRITE_1H,
    Component.INPUT_AUDIO,
)
OUTPUT_COMPONENTS: Final = (Component.OUTPUT, Component.REASONING, Component.OUTPUT_AUDIO)
FEES: Final = frozenset({Component.REQUEST})
"""Classes that a price need not have: where there is no rate there is no such fee."""

Usage = Mapping[Component, int]


@dataclass(frozen=True, slots=True)
class Rate:
    """``rate`` of one unit of ``component``, in requests of over ``tier_from`` input tokens."""

    component: Component
    rate: Decimal
    tier_from: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """The rates in force at one time, in one currency; ``reference`` says which version it is."""

    currency: str
    rates: tuple[Rate, ...]
    reference: str

    def rate_of(self, component: Component, *, input_tokens: int) -> Decimal | None:
        """Return what one unit costs in a request of so many input tokens, or None if unpriced."""
        tiers = [each for each in self.rates if each.component == component]
        if not tiers:
            kind = KIND_OF.get(component)
            return None if kind is None else self.rate_of(kind, input_tokens=input_tokens)
        crossed = [each for each in tiers if each.tier_from == 0 or input_tokens > each.tier_from]
        return max(crossed, key=lambda each: each.tier_from).rate if crossed else None


@dataclass(frozen=True, slots=True)
class Line:
    component: Component
    quantity: int
    rate: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Cost:
    """An exact amount with its line items; what had no rate is named and not in the amount."""

    amount: Decimal
    lines: tuple[Line, ...]
    unpriced: tuple[Component, ...]


class UnboundedCost(Exception):
    """Nothing bounds what the request can cost; ``what`` says which part."""

    def __init__(self, what: str) -> None:
        super().__init__(f"nothing bounds the {what} of this request")
        self.what = what


def cost(*, price: Price, usage: Usage) -> Cost:
    """Return what ``usage`` costs: the sum of its classes, each at its rate, exactly."""
    input_tokens = total_of(usage, INPUT_COMPONENTS)
    lines, unpriced = [], []
    for component, quantity in usage.items():
        rate = price.rate_of(component, input_tokens=input_tokens)
        if quantity and rate is None and component not in FEES:
            unpriced.append(component)
        elif quantity and rate is not None:
            lines.append(Line(component, quantity, rate, _times(rate, quantity)))
    amount = _sum(line.amount for line in lines)
    return Cost(amount=amount, lines=tuple(lines), unpriced=tuple(unpriced))


def ceiling(
    *, price: Price, input_tokens_max: int | None, output_tokens_max: int | None
) -> Decimal:
    """
    Return the most that one request within these bounds can cost, at its dearest classes and tier.

    :raises UnboundedCost: if a bound is None where tokens have a price above 0
    """
    request = _dearest(price, [Component.REQUEST], input_tokens_max)
    return _sum(
        [
            request,
            _most(price, INPUT_COMPONENTS, input_tokens_max, input_tokens_max, "input"),
            _most(price, OUTPUT_COMPONENTS, output_tokens_max, input_tokens_max, "output"),
        ]
    )


def total_of(usage: Usage, components: Iterable[Component]) -> int:
    return sum(usage.get(component, 0) for component in components)


def _times(rate: Decimal, quantity: int) -> Decimal:
    """Multiply without rounding: the usual operator keeps 28 digits only."""
    return EXACT.multiply(rate, Decimal(quantity))


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(EXACT.add, amounts, Decimal(0))


def _most(
    price: Price,
    components: Iterable[Component],
    tokens_max: int | None,
    input_tokens_max: int | None,
    what: str,
) -> Decimal:
    rate = _dearest(price, components, input_tokens_max)
    if rate == 0:
        return Decimal(0)
    if tokens_max is None:
        raise UnboundedCost(what)
    return _times(rate, tokens_max)


def _dearest(
    price: Price, components: Iterable[Component], input_tokens_max: int | None
) -> Decimal:
    """Return the highest rate of these classes over every tier that the request can reach."""
    rates = [
        each.rate
        for each in price.rates
        if each.component in components
        and (each.tier_from == 0 or input_tokens_max is None or input_tokens_max > each.tier_from)
    ]
    return max(rates, default=Decimal(0))
