"""
Imports the price catalogue that the package ``genai-prices`` carries (US dollars, dated).

What cannot be priced right by a date alone is left out and counted, so that such a model is
unpriced here and not wrongly priced: prices that depend on the time of day, and units that are
not metered yet. Variants (batch, flex, priority) are left out: requests for them are refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any, Final

from django.db import transaction
from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
)

from spend.models import Model, PriceRate, PriceVersion, Provider
from spend.pricing import Component

SOURCE: Final = "genai-prices"
BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""From when on a price without a start date applies."""
MILLION: Final = Decimal(10**6)
UNITS: Final = {
    "input_mtok": (Component.INPUT, MILLION),
    "output_mtok": (Component.OUTPUT, MILLION),
    "cache_read_mtok": (Component.CACHED_READ, MILLION),
    "cache_write_mtok": (Component.CACHE_WRITE_5M, MILLION),
    "cache_write_1h_mtok": (Component.CACHE_WRITE_1H, MILLION),
    "input_audio_mtok": (Component.INPUT_AUDIO, MILLION),
    "output_audio_mtok": (Component.OUTPUT_AUDIO, MILLION),
    "output_reasoning_mtok": (Component.REASONING, MILLION),
    "requests_kcount": (Component.REQUEST, Decimal(1_000)),
}
# Metered by no route that is served yet, and separate from the tokens of a chat.
IGNORED: Final = frozenset(
    {"web_searches_kcount", "storage_searches_kcount", "cache_audio_read_mtok",
     "citation_mtok", "file_searches_kcount"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Imported:
    """How many models the catalogue brought, and which were left out for want of a plain price."""

    providers: int
    models: int
    versions: int
    left_out: tuple[str, ...]


def import_catalogue() -> Imported:
    """Add every provider, model and price version that is not there yet; change none that is."""
    providers, left_out = data_snapshot.get_snapshot().providers, []
    models = versions = 0
    with transaction.atomic():
        for source in providers:
            provider, _ = Provider.objects.get_or_create(
                slug=source.id, defaults={"name": source.name}
            )
            known = set(Model.objects.filter(provider=provider).values_list("name", flat=True))
            fresh = [info for info in source.models if info.id not in known]
            plain = [(info, _dated(info)) for info in fresh]
            left_out += [f"{source.id}/{info.id}" for info, dated in plain if dated is None]
            added = [(info, dated) for info, dated in plain if dated]
            versions += _add(provider, added)
            models += len(added)
    return Imported(len(providers), models, versions, tuple(left_out))


Dated = Sequence[tuple[datetime, list[tuple[Component, int, Decimal]]]]


def _add(provider: Provider, added: Sequence[tuple[ModelInfo, Dated]]) -> int:
    """Write models with their versions and rates, in three statements."""
    models = Model.objects.bulk_create([_model(provider, info) for info, _ in added])
    dated = [
        (PriceVersion(
            model=model, effective_from=start, source=SOURCE, source_version=version(SOURCE)
        ), rates)
        for model, (_, versions) in zip(models, added, strict=True)
        for start, rates in versions
    ]  # fmt: skip
    PriceVersion.objects.bulk_create([each for each, _ in dated])
    PriceRate.objects.bulk_create(
        [
            PriceRate(version=each, component=component, tier_from=tier, rate=rate)
            for each, rates in dated
            for component, tier, rate in rates
        ],
        batch_size=5_000,
    )
    return len(dated)


def _model(provider: Provider, info: ModelInfo) -> Model:
    clauses = info.match.or_ if isinstance(info.match, ClauseOr) else [info.match]
    return Model(
        provider=provider,
        name=info.id,
        other_names=[
            each.equals for each in clauses
            if isinstance(each, ClauseEquals) and each.equals != info.id
        ],
        prefixes=[each.starts_with for each in clauses if isinstance(each, ClauseStartsWith)],
        context_window=info.context_window,
    )  # fmt: skip


def _dated(info: ModelInfo) -> Dated | None:
    """Return the price versions of a model, or None if its price is not a matter of dates alone."""
    if isinstance(info.prices, ModelPrice):
        rates = _rates(info.prices)
        return None if rates is None else [(BEGINNING, rates)]
    dated = {}
    for conditional in info.prices:
        rates = _rates(conditional.prices)
        if rates is None or not isinstance(conditional.constraint, StartDateConstraint | None):
            return None
        dated[_start(conditional.constraint)] = rates
    return sorted(dated.items())


def _start(constraint: StartDateConstraint | None) -> datetime:
    if constraint is None:
        return BEGINNING
    day = constraint.start_date
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _rates(prices: ModelPrice) -> list[tuple[Component, int, Decimal]] | None:
    """Return (component, tier, rate), or None if a unit is not metered or nothing is priced."""
    given = {name: value for name, value in vars(prices).items() if value is not None}
    wanted = {name: value for name, value in given.items() if name not in IGNORED}
    if not wanted or any(name not in UNITS for name in wanted):
        return None
    return [
        (component, tier, rate / per)
        for name, value in wanted.items()
        for component, per in [UNITS[name]]
        for tier, rate in _tiers(value)
    ]


def _tiers(value: Any) -> Iterator[tuple[int, Decimal]]:
    if not isinstance(value, TieredPrices):
        yield 0, value
        return
    yield 0, value.base
    for tier in value.tiers:
        yield tier.start, tier.price
