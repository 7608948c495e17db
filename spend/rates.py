"""
What units cost: rates with their conditions, compiled so that pricing looks each up once.

A rate may hold for requests of over so many input tokens, for one service tier, or for one
variant of what is made (``high/1024x1536``, ``1080p``). A class without a rate of its own takes
that of a class it is a kind of. Where a price has no batch rates, the tokens of batches cost half.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, NamedTuple

from budgets.money import EXACT, WIDE
from spend.components import FALLBACKS, INPUT_COMPONENTS, TOKENS, Component, Usage, total_of

UNPRICED: Final = "unpriced"
"""The reference of a price that nobody has set: it has no rates."""
STANDARD: Final = ""
BATCH: Final = "batch"
AUTO: Final = "auto"
TIER_LENGTH_MAX: Final = 24
FAST: Final = "fast"
PRIORITY: Final = "priority"
STANDARD_NAMES: Final = frozenset({"", "auto", "default", "standard", "on_demand"})
ONCE_A_REQUEST: Final = frozenset({Component.SEARCHED_REQUEST, Component.STATED_PICO_USD})
"""Charged once for a request, or in place of all else that it used."""
ONE: Final = Decimal(1)
HALF: Final = Decimal("0.5")
RATE_MAX: Final = Decimal(10**6)
"""The most that so many units may cost; more is a slip of the decimal point."""
AMOUNT_DECIMALS: Final = 24
"""Where a rate is for a number of units that does not divide it, an amount is rounded here."""

_multiply: Final = EXACT.multiply
Key = Component | tuple[Component, str]
Row = Mapping[Key, "UnitRate"]


@dataclass(frozen=True, slots=True)
class Rate:
    """``rate`` for ``per`` units of ``component``, in requests of over ``tier_from`` tokens."""

    component: Component
    rate: Decimal
    tier_from: int = 0
    per: int = 1
    service_tier: str = STANDARD
    variant: str = ""
    window: str = ""
    """When it holds, as :mod:`spend.windows` writes it; it goes before rates that always hold."""

    @property
    def key(self) -> Key:
        return (self.component, self.variant) if self.variant else self.component


class UnitRate(NamedTuple):
    """``value`` for ``per`` units; ``per`` is 1 wherever the rate of one unit is exact."""

    value: Decimal
    per: int

    def times(self, quantity: int) -> Decimal:
        """Multiply without rounding: the usual operator keeps 28 digits only."""
        amount = _multiply(self.value, quantity)
        return amount if self.per == 1 else _divide(amount, self.per)

    @property
    def of_one(self) -> Decimal:
        return self.value if self.per == 1 else _divide(self.value, self.per)

    def scaled(self, factor: Decimal) -> "UnitRate":
        return UnitRate(EXACT.multiply(self.value, factor), self.per)


@dataclass(frozen=True, slots=True)
class Table:
    """The rates of one service tier: a row for each range of input tokens."""

    thresholds: tuple[int, ...]
    rows: tuple[Row, ...]

    def span(self, input_tokens_max: int | None) -> int:
        """Return how many rows, from the first, a request with at most so much input can be in."""
        if input_tokens_max is None:
            return len(self.rows)
        return bisect_left(self.thresholds, input_tokens_max) + 1


class Conditions(NamedTuple):
    """What decides a price beside the counts: how it was served, in what form, and where."""

    service_tier: str = STANDARD
    variant: str = ""
    region: str = ""


PLAIN: Final = Conditions()


class Dearest(dict[tuple[Component, ...], UnitRate | None]):
    """The highest rate of some classes in any of these rows, of whatever variant."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, components: tuple[Component, ...]) -> UnitRate | None:
        rates = [
            rate
            for row in self._rows
            for key, rate in row.items()
            if (key if isinstance(key, Component) else key[0]) in components
        ]
        self[components] = found = max(rates, key=lambda rate: rate.of_one, default=None)
        return found


@dataclass(frozen=True)
class Price:
    """The rates in force at one time, in one currency; ``reference`` says which version it is."""

    currency: str
    rates: tuple[Rate, ...]
    reference: str
    region_factors: Mapping[str, Decimal] = field(default_factory=dict)
    """By what the rates are multiplied where a request is served in that region."""
    fee: Decimal = Decimal(0)
    """What is added to each request, whatever it used."""
    _tables: Mapping[str, Table] = field(init=False, compare=False, repr=False)
    _dearest: dict[tuple[frozenset[str], tuple[int, ...]], "Dearest"] = field(
        init=False, compare=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        assert not any(rate.window for rate in self.rates), "a price is of one time"
        assert all(isinstance(rate.rate, Decimal) for rate in self.rates), "money is never a float"
        names = {STANDARD, BATCH} | {rate.service_tier for rate in self.rates}
        tables = {name: _table(self.rates, name) for name in names}
        object.__setattr__(self, "_tables", tables)

    def row(self, usage: Usage, conditions: Conditions = PLAIN) -> Row:
        """Return the rates for a request of this usage under these conditions."""
        table = self._tables.get(conditions.service_tier) or self._tables[STANDARD]
        thresholds = table.thresholds
        tier = bisect_left(thresholds, total_of(usage, INPUT_COMPONENTS)) if thresholds else 0
        row = table.rows[tier]
        factor = self.region_factors.get(conditions.region) if conditions.region else None
        if factor is None:
            return row
        return {key: rate.scaled(factor) for key, rate in row.items()}

    @property
    def factors(self) -> list[Decimal]:
        """By what a request may be multiplied: its answer may tell any region."""
        return [ONE, *self.region_factors.values()]

    def dearest(self, input_tokens_max: int | None, *, service_tiers: frozenset[str]) -> "Dearest":
        """Return the dearest rates of a request with at most so much input, in any of the tiers."""
        tables = [self._tables.get(tier) or self._tables[STANDARD] for tier in service_tiers]
        spans = tuple(table.span(input_tokens_max) for table in tables)
        found = self._dearest.get((service_tiers, spans))
        if found is None:
            pairs = zip(tables, spans, strict=True)
            found = Dearest([row for table, span in pairs for row in table.rows[:span]])
            self._dearest[service_tiers, spans] = found
        return found

    def rate_of(
        self, component: Component, *, input_tokens: int, conditions: Conditions = PLAIN
    ) -> Decimal | None:
        """Return what one unit costs in such a request, or None if it is unpriced."""
        row = self.row({Component.INPUT: input_tokens}, conditions)
        found = find(row, component, conditions.variant)
        return None if found is None else found.of_one

    @property
    def is_set(self) -> bool:
        return self.reference != UNPRICED

    @property
    def goes_by_request(self) -> bool:
        """Whether requests may cost otherwise together than each by itself."""
        by_size = any(table.thresholds for table in self._tables.values())
        by_kind = any(rate.variant or rate.component in ONCE_A_REQUEST for rate in self.rates)
        return by_size or by_kind or bool(self.region_factors) or self.fee != 0

    def tiers_of(self, asked: str | None) -> frozenset[str]:
        """Return in which service tiers a request may be served: any, where it names none."""
        if not asked or asked.strip().lower() == AUTO:
            return frozenset(self._tables)
        return frozenset({STANDARD, self.tier_of(served=asked)[0]})

    def tier_of(self, *, served: str | None, asked: str | None = None) -> tuple[str, bool]:
        """
        Return the service tier that is charged, and whether it is the one that was told.

        What was served counts; what was asked for only where that is not told, or has no rates.
        One without rates costs the standard ones, and keeps its name: it may be priced later.
        """
        told = [name.strip().lower() for name in (served, asked) if name]
        for index, name in enumerate(told):
            tier = self._known(name)
            if tier is not None:
                return tier, index == 0
        # The ledger keeps no NUL, and would lose the whole description to it.
        return (told[0].replace("\x00", "")[:TIER_LENGTH_MAX], False) if told else (STANDARD, True)

    def _known(self, name: str) -> str | None:
        if name in STANDARD_NAMES:
            return STANDARD
        if name not in self._tables and name == FAST:
            name = PRIORITY
        return name if name in self._tables else None


def adjusted(price: Price, *, factor: Decimal, fee: Decimal = Decimal(0), reference: str) -> Price:
    """Return the price with every rate times ``factor``, and ``fee`` more for each request."""
    return replace(
        price,
        rates=tuple(replace(each, rate=EXACT.multiply(each.rate, factor)) for each in price.rates),
        reference=f"{price.reference}*{reference}"[:128],
        fee=fee,
    )


def find(row: Row, component: Component, variant: str) -> UnitRate | None:
    """Return the rate of this variant, else that of any."""
    if variant and (found := row.get((component, variant))) is not None:
        return found
    return row.get(component)


def _divide(amount: Decimal, per: int) -> Decimal:
    return WIDE.quantize(WIDE.divide(amount, Decimal(per)), Decimal(1).scaleb(-AMOUNT_DECIMALS))


def _table(rates: Iterable[Rate], service_tier: str) -> Table:
    """Return the rates of a service tier; a class that has none there has the standard one."""
    by_key: dict[Key, list[Rate]] = {}
    own = _first_tiers(rates, service_tier)
    for rate in rates:
        is_below = rate.key not in own or rate.tier_from < own[rate.key]
        if rate.service_tier == service_tier or (rate.service_tier == STANDARD and is_below):
            by_key.setdefault(rate.key, []).append(rate)
    thresholds = tuple(sorted({rate.tier_from for each in by_key.values() for rate in each} - {0}))
    halves = service_tier == BATCH and TOKENS.isdisjoint(own)
    return Table(thresholds, tuple(_row(by_key, tier, halves=halves) for tier in (0, *thresholds)))


def _first_tiers(rates: Iterable[Rate], service_tier: str) -> dict[Key, int]:
    """Return from how many tokens on each class has rates of its own in a service tier."""
    first: dict[Key, int] = {}
    for rate in rates:
        if rate.service_tier == service_tier:
            first[rate.key] = min(rate.tier_from, first.get(rate.key, rate.tier_from))
    return first


def _row(by_key: Mapping[Key, list[Rate]], tier: int, *, halves: bool) -> Row:
    row: dict[Key, UnitRate] = {}
    for key, rates in by_key.items():
        crossed = [rate for rate in rates if rate.tier_from <= tier]
        if crossed:
            rate = max(crossed, key=lambda rate: rate.tier_from)
            row[key] = _unit_rate(rate, halved=halves and rate.component in TOKENS)
    own = set(row)
    for component, kinds in FALLBACKS.items():
        if component not in row:
            found = next((row[kind] for kind in kinds if kind in own), None)
            if found is not None:
                row[component] = found
    return row


def _unit_rate(rate: Rate, *, halved: bool) -> UnitRate:
    value = EXACT.multiply(rate.rate, HALF) if halved else rate.rate
    quotient = WIDE.divide(value, Decimal(rate.per))
    is_exact = (
        WIDE.multiply(quotient, Decimal(rate.per)) == value
        and len(quotient.as_tuple().digits) < WIDE.prec // 2
    )
    return UnitRate(quotient, 1) if is_exact else UnitRate(value, rate.per)
