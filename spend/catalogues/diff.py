"""
What a price list would change in the price book, said so that a person can judge it.

Prices are compared as they are charged: a name that the book has none of its own for costs what
the model does that it stands for, and that is what it is compared with. Nothing here writes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from budgets.money import EXACT, WIDE
from spend.catalogues.checks import rounded
from spend.catalogues.listing import BEGINNING, ListedModel, ListedPrice, Listing
from spend.components import Component
from spend.jumps import Charged, is_jump
from spend.rates import Rate, UnitRate

MANUAL: Final = "manual"
WITHDRAWN_SHOWN_MAX: Final = 1_000
FACTOR_DIGITS: Final = 4
FACTOR_MOST: Final = Decimal(10**12)

RateKey = tuple[str, int, str, str, str]
"""Class, tokens from which on, service tier, variant, window."""


class Kind(StrEnum):
    NEW_MODEL = "new_model"
    NEW_PRICE = "new_price"
    """The model is known and this price of it begins later, or anew."""
    CORRECTION = "correction"
    """A price that begins at the same instant has other rates."""
    KEPT = "kept"
    """People have made the price in force; it stays."""


@dataclass(frozen=True, slots=True)
class HeldPrice:
    """A version of the price book that is for everybody and was not replaced."""

    id: int
    source: str
    start: datetime
    end: datetime | None
    currency: str
    rates: tuple[Rate, ...]
    region_factors: Mapping[str, Decimal] = field(default_factory=dict)

    def holds(self, at: datetime) -> bool:
        return self.start <= at and (self.end is None or at < self.end)


@dataclass(frozen=True, slots=True)
class HeldModel:
    provider: str
    name: str
    other_names: tuple[str, ...]
    prefixes: tuple[str, ...]
    prices: tuple[HeldPrice, ...]
    """The newest start first."""

    def at(self, instant: datetime) -> HeldPrice | None:
        return next((price for price in self.prices if price.holds(instant)), None)

    def starting(self, instant: datetime) -> HeldPrice | None:
        return next((price for price in self.prices if price.start == instant), None)


@dataclass(frozen=True, slots=True)
class Line:
    """One class under its conditions: its rate, and what it would be; None is no rate."""

    component: str
    tier_from: int
    service_tier: str
    variant: str
    window: str
    old: UnitRate | None
    new: UnitRate | None
    cost: UnitRate | None
    """What is charged for it, be it by the rate of another class; and what would be."""
    will_cost: UnitRate | None
    is_jump: bool

    @property
    def factor(self) -> Decimal | None:
        """Return how many times as much it would cost; None where there is nothing to compare."""
        was, will = self.cost, self.will_cost
        if was is None or will is None or not was.value:
            return None
        return _shown(_product(will.value, was.per), _product(was.value, will.per))


@dataclass(frozen=True, slots=True)
class Change:
    """What applying the list would do to one model; ``price`` is all that would then hold."""

    kind: Kind
    model: ListedModel
    price: ListedPrice
    lines: tuple[Line, ...]
    starts_when_applied: bool
    """The list says no date: the price holds from the moment on at which it is applied."""
    held: HeldPrice | None = None
    """What is in force there until then."""
    new_currency: bool = False

    @property
    def called(self) -> str:
        return f"{self.model.provider}/{self.model.name}"

    @property
    def needs_confirmation(self) -> bool:
        return self.new_currency or any(line.is_jump for line in self.lines)


@dataclass(frozen=True, slots=True)
class Difference:
    changes: tuple[Change, ...]
    withdrawn: tuple[str, ...]
    """Models of this source that the list has no more: their prices stay as they are."""
    withdrawn_count: int
    unchanged_count: int
    left_out: tuple[str, ...]
    """Models whose prices are in no form that is known here."""

    @property
    def applicable(self) -> tuple[Change, ...]:
        return tuple(each for each in self.changes if each.kind is not Kind.KEPT)


class Book:
    """The price book's models by every name that means them."""

    def __init__(self, models: Iterable[HeldModel]) -> None:
        self.models: dict[tuple[str, str], HeldModel] = {}
        self._others: dict[tuple[str, str], HeldModel] = {}
        self._prefixes: dict[str, list[tuple[str, HeldModel]]] = {}
        for model in models:
            self.models[model.provider, model.name] = model
            for name in model.other_names:
                self._others.setdefault((model.provider, name), model)
            found = self._prefixes.setdefault(model.provider, [])
            found += [(prefix, model) for prefix in model.prefixes]

    def exactly(self, model: ListedModel) -> HeldModel | None:
        return self.models.get((model.provider, model.name))

    def charged_as(self, model: ListedModel) -> HeldModel | None:
        """Return the model whose prices a request for this name is charged now."""
        exact = self.exactly(model) or self._others.get((model.provider, model.name))
        if exact is not None:
            return exact
        begun = [
            (len(prefix), held)
            for prefix, held in self._prefixes.get(model.provider, ())
            if model.name.startswith(prefix)
        ]
        return max(begun, key=lambda each: each[0])[1] if begun else None


def compare(listing: Listing, book: Book, *, now: datetime, jump_max: int) -> Difference:
    """Return what the list would change, of each model what holds now or will hold later."""
    changes: list[Change] = []
    unchanged = 0
    for model in listing.models:
        found = list(_changes(model, book, now, jump_max))
        changes += found
        unchanged += bool(model.prices) and not found
    named = {(model.provider, model.name) for model in listing.models}
    gone = sorted(_withdrawn(listing.source, named, book, now))
    return Difference(
        changes=tuple(changes),
        withdrawn=tuple(gone[:WITHDRAWN_SHOWN_MAX]),
        withdrawn_count=len(gone),
        unchanged_count=unchanged,
        left_out=tuple(
            f"{each.provider}/{each.name}" for each in listing.models if not each.prices
        ),
    )


def _changes(model: ListedModel, book: Book, now: datetime, jump_max: int) -> Iterator[Change]:
    charged_as, exact = book.charged_as(model), book.exactly(model)
    if charged_as is None:
        for price in model.prices:
            yield _change(Kind.NEW_MODEL, model, price, None, jump_max)
        return
    for price in _from_now_on(model.prices, now):
        # An earlier price of an undated list began at an instant that says nothing.
        dated = price.effective_from > BEGINNING
        start = price.effective_from if dated else now
        same = charged_as.starting(price.effective_from) if dated else None
        held = same or charged_as.at(start)
        if held is not None and _is_same(held, price):
            continue
        kind = Kind.NEW_PRICE if exact else Kind.NEW_MODEL
        if held is not None and held.source == MANUAL:
            kind = Kind.KEPT
        elif exact and same is not None:
            kind = Kind.CORRECTION
        yield _change(kind, model, price, held, jump_max)


def _from_now_on(prices: Sequence[ListedPrice], now: datetime) -> Sequence[ListedPrice]:
    """Return the price that holds now, by the list, and those that come later."""
    begun = sum(price.effective_from <= now for price in prices)
    return prices[max(0, begun - 1) :]


def _change(
    kind: Kind, model: ListedModel, price: ListedPrice, held: HeldPrice | None, jump_max: int
) -> Change:
    is_dated = price.effective_from > BEGINNING or (kind is Kind.NEW_MODEL and held is None)
    return Change(
        kind=kind,
        model=model,
        price=price,
        lines=tuple(_lines(held.rates if held else (), price, jump_max)),
        starts_when_applied=not is_dated,
        held=held,
        new_currency=held is not None and held.currency != price.currency,
    )


def _lines(held: Iterable[Rate], price: ListedPrice, jump_max: int) -> Iterator[Line]:
    before, after = _by_key(held), _by_key(price.rates)
    now = Charged(held, currency=price.currency)
    then = Charged(price.rates, currency=price.currency)
    for key in sorted(before.keys() | after.keys()):
        was, will = before.get(key), after.get(key)
        if was is not None and will is not None and _is_equal(was, will):
            continue
        rate = _rate_at(key)
        costs = now.like(rate), then.like(rate)
        is_far = is_jump(
            *costs, component=rate.component, currency=price.currency, jump_max=jump_max
        )
        yield Line(*key, was, will, *costs, is_far)


def _by_key(rates: Iterable[Rate]) -> dict[RateKey, UnitRate]:
    return {
        (each.component.value, each.tier_from, each.service_tier, each.variant, each.window):
            UnitRate(rounded(each.rate), each.per)
        for each in rates
    }  # fmt: skip


def _rate_at(key: RateKey) -> Rate:
    component, tier_from, service_tier, variant, window = key
    return Rate(
        Component(component), Decimal(0), tier_from,
        service_tier=service_tier, variant=variant, window=window,
    )  # fmt: skip


def _is_same(held: HeldPrice, price: ListedPrice) -> bool:
    before, after = _by_key(held.rates), _by_key(price.rates)
    return (
        held.currency == price.currency
        and before.keys() == after.keys()
        and all(_is_equal(rate, after[key]) for key, rate in before.items())
        and dict(held.region_factors) == dict(price.region_factors)
    )


def _is_equal(one: UnitRate, other: UnitRate) -> bool:
    return _product(one.value, other.per) == _product(other.value, one.per)


def _product(value: Decimal, count: int) -> Decimal:
    return EXACT.multiply(value, count)


def _shown(new: Decimal, old: Decimal) -> Decimal:
    """Return how many times as much the new one is, in a few digits: it is only read."""
    factor = min(WIDE.divide(new, old), FACTOR_MOST)
    return WIDE.create_decimal(f"{factor:.{FACTOR_DIGITS - 1}e}").normalize(WIDE)


def _withdrawn(
    source: str, named: set[tuple[str, str]], book: Book, now: datetime
) -> Iterator[str]:
    for (provider, name), model in book.models.items():
        held = model.at(now)
        if held is not None and held.source == source and (provider, name) not in named:
            yield f"{provider}/{name}"
