"""
What a usage costs at a price: exact, pure, nothing rounded.

Usage comes in disjoint classes, each priced once. Images that are counted beside the tokens they
take are charged by tokens where these have a rate, else by number; a request that searched the
web is charged once where the price says so, else by its searches. Where a price takes the
provider's own word for the cost, that is all that is charged. A class that has no rate is
unpriced, which is not the same as a rate of 0.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import reduce
from typing import Final, NamedTuple

from budgets.money import EXACT
from spend.components import (
    ALTERNATIVES,
    FEES,
    INPUT_COMPONENTS,
    OUTPUT_COMPONENTS,
    TOKENS,
    Component,
    Usage,
)
from spend.rates import BATCH, PLAIN, STANDARD, Conditions, Price, Row, UnitRate, find

NOTHING: Final = Decimal(0)
NO_OTHERS: Final[Mapping[Component, int | None]] = {}
MEASURED_TWICE: Final = frozenset({*ALTERNATIVES, Component.STATED_PICO_USD, Component.WEB_SEARCH})


_REQUEST: Final = (Component.REQUEST,)
_SEARCHED: Final = (Component.SEARCHED_REQUEST,)
_SEARCH: Final = (Component.WEB_SEARCH,)


class Line(NamedTuple):
    """A part of a cost: so many units of a class, each at this rate."""

    component: Component
    quantity: int
    rate: Decimal
    amount: Decimal


class Cost(NamedTuple):
    """An exact amount with its line items; what had no rate is named and not in the amount."""

    amount: Decimal
    lines: tuple[Line, ...]
    unpriced: tuple[Component, ...]


class UnboundedCost(Exception):
    """Nothing bounds what the request can cost; ``what`` says which part."""

    def __init__(self, what: str) -> None:
        super().__init__(f"nothing bounds the {what} of this request")
        self.what = what


def cost(*, price: Price, usage: Usage, conditions: Conditions = PLAIN) -> Cost:
    """Return what ``usage`` costs: the sum of its classes, each at its rate, exactly."""
    row = price.row(usage, conditions)
    variant = conditions.variant
    amount, lines, unpriced = NOTHING, [], []
    for component, quantity in _charged(usage, row).items():
        if not quantity:
            continue
        rate = find(row, component, variant) if variant else row.get(component)
        if rate is not None:
            part = rate.times(quantity)
            lines.append(Line(component, quantity, rate.of_one, part))
            amount = EXACT.add(amount, part)
        elif component not in FEES:
            unpriced.append(component)
    if unpriced and lines:
        unpriced = _not_covered(unpriced, row)
    if price.fee and usage:
        lines.append(Line(Component.MARGIN, 1, price.fee, price.fee))
        amount = EXACT.add(amount, price.fee)
    return Cost(amount, tuple(lines), tuple(unpriced))


def ceiling(
    *,
    price: Price,
    input_tokens_max: int | None,
    output_tokens_max: int | None,
    service_tiers: Iterable[str] = (STANDARD,),
    searches_max: int = 0,
    others_max: Mapping[Component, int | None] = NO_OTHERS,
) -> Decimal:
    """
    Return the most that one request within these bounds can cost, at its dearest classes and tier.

    It may be served in any of the service tiers, in any variant and in any region. ``others_max``
    bounds what is neither a token nor a search; a class that it does not name is not used.

    :raises UnboundedCost: if a bound is None where tokens have a price above 0
    """
    dearest = price.dearest(input_tokens_max, service_tiers=frozenset({STANDARD, *service_tiers}))
    most = _sum(
        [
            _most(dearest[_REQUEST], 1, "request"),
            _most(dearest[_SEARCHED], min(searches_max, 1), "search"),
            _most(dearest[_SEARCH], searches_max, "search"),
            _most(dearest[INPUT_COMPONENTS], input_tokens_max, "input"),
            _most(dearest[OUTPUT_COMPONENTS], output_tokens_max, "output"),
            *(_most(dearest[each,], most, each.value) for each, most in others_max.items()),
        ]
    )
    return EXACT.add(price.fee, EXACT.multiply(most, max(price.factors)))


class Bounds(NamedTuple):
    """What the requests of a batch use together at most, and the largest of them alone."""

    requests: int
    input_tokens_max: int | None
    longest_input_max: int | None
    output_tokens_max: int | None
    searches_max: int = 0


def ceiling_of_batch(*, price: Price, bounds: Bounds) -> Decimal:
    """
    Return the most that the requests of a batch can cost together, at its dearest classes: in the
    batch tier, which is the one that a batch is charged in, in any variant and in any region.

    :raises UnboundedCost: if a bound is None where tokens have a price above 0
    """
    dearest = price.dearest(bounds.longest_input_max, service_tiers=frozenset({BATCH}))
    number = bounds.requests
    most = _sum(
        [
            _most(dearest[_REQUEST], number, "request"),
            _most(dearest[_SEARCHED], min(bounds.searches_max, number), "search"),
            _most(dearest[_SEARCH], bounds.searches_max, "search"),
            _most(dearest[INPUT_COMPONENTS], bounds.input_tokens_max, "input"),
            _most(dearest[OUTPUT_COMPONENTS], bounds.output_tokens_max, "output"),
        ]
    )
    fees = EXACT.multiply(price.fee, number)
    return EXACT.add(fees, EXACT.multiply(most, max(price.factors)))


def least(
    *,
    price: Price,
    input_tokens: int,
    choices: int = 1,
    service_tiers: Iterable[str] = (STANDARD,),
) -> Decimal:
    """
    Return the least that a request can cost which is answered: its whole input at the input rate,
    or read from the provider's cache where that is cheaper, and one token for each choice; in the
    cheapest service tier that it may be served in, and the cheapest region.
    """
    answered = {Component.OUTPUT: choices, Component.REQUEST: 1}
    cheapest = min(
        cost(
            price=price,
            usage={component: input_tokens, **answered},
            conditions=Conditions(service_tier=tier),
        ).amount
        for component in (Component.INPUT, Component.CACHED_READ)
        for tier in {STANDARD, *service_tiers}
    )
    listed = EXACT.subtract(cheapest, price.fee)
    return EXACT.add(price.fee, EXACT.multiply(listed, min(price.factors)))


def _charged(usage: Usage, row: Row) -> Usage:
    """Return what is charged of a usage: nothing by two measures."""
    if usage.keys().isdisjoint(MEASURED_TWICE):
        return usage
    used = dict(usage)
    if Component.WEB_SEARCH in used and Component.SEARCHED_REQUEST in row:
        used[Component.SEARCHED_REQUEST] = 1 if used.pop(Component.WEB_SEARCH) else 0
    if Component.STATED_PICO_USD in used and Component.STATED_PICO_USD in row:
        return {Component.STATED_PICO_USD: used[Component.STATED_PICO_USD]}
    for counted, tokens in ALTERNATIVES.items():
        if counted in used and any(used.get(each) and each in row for each in tokens):
            del used[counted]
    return used


def _not_covered(unpriced: Iterable[Component], row: Row) -> list[Component]:
    """Leave out tokens where the price has none at all: something else is charged for them."""
    has_tokens = not TOKENS.isdisjoint(key for key in row if isinstance(key, Component))
    return [each for each in unpriced if has_tokens or each not in TOKENS]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(EXACT.add, amounts, NOTHING)


def _most(rate: UnitRate | None, tokens_max: int | None, what: str) -> Decimal:
    if tokens_max == 0 or rate is None or not rate.value:
        return NOTHING
    if tokens_max is None:
        raise UnboundedCost(what)
    return rate.times(tokens_max)
