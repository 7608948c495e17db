"""
Reads the price catalogue that the package ``genai-prices`` carries (US dollars, dated).

What depends on the time of day becomes windows, its variants (batch, flex, priority, fast) become
service tiers. A unit that has no class here is left out and named, so that such usage is unpriced
and not wrongly priced.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from spend import windows
from spend.catalogues.listing import BEGINNING, ListedModel, ListedPrice, Listing
from spend.components import Component
from spend.rates import BATCH, FAST, Rate

SOURCE: Final = "genai-prices"
MILLION: Final = 10**6
THOUSAND: Final = 10**3
HOUR_MS: Final = 3_600_000
STANDARD_VARIANT: Final = "default"
ANY_AUDIO: Final = "audio_hours"
"""Said beside the hours of input, it is the same hours once more."""

_C = Component
UNITS: Final = {
    "input_mtok": (_C.INPUT, MILLION),
    "output_mtok": (_C.OUTPUT, MILLION),
    "cache_read_mtok": (_C.CACHED_READ, MILLION),
    "cache_write_mtok": (_C.CACHE_WRITE_5M, MILLION),
    "cache_write_1h_mtok": (_C.CACHE_WRITE_1H, MILLION),
    "input_audio_mtok": (_C.INPUT_AUDIO, MILLION),
    "output_audio_mtok": (_C.OUTPUT_AUDIO, MILLION),
    "cache_audio_read_mtok": (_C.CACHED_READ_AUDIO, MILLION),
    "input_image_mtok": (_C.INPUT_IMAGE, MILLION),
    "output_image_mtok": (_C.OUTPUT_IMAGE, MILLION),
    "cache_image_read_mtok": (_C.CACHED_READ_IMAGE, MILLION),
    "input_video_mtok": (_C.INPUT_VIDEO, MILLION),
    "output_video_mtok": (_C.OUTPUT_VIDEO, MILLION),
    "output_reasoning_mtok": (_C.REASONING, MILLION),
    "output_citation_mtok": (_C.CITATION, MILLION),
    "input_mchars": (_C.INPUT_CHARACTERS, MILLION),
    "audio_hours": (_C.INPUT_AUDIO_MS, HOUR_MS),
    "input_audio_hours": (_C.INPUT_AUDIO_MS, HOUR_MS),
    "input_document_kpages": (_C.PAGE, THOUSAND),
    "input_annotated_document_kpages": (_C.ANNOTATED_PAGE, THOUSAND),
    "web_searches_kcount": (_C.WEB_SEARCH, THOUSAND),
    "storage_searches_kcount": (_C.FILE_SEARCH, THOUSAND),
    "requests_kcount": (_C.REQUEST, THOUSAND),
}
"""Which class a unit is, and for how many the catalogue states its price."""


def read() -> Listing:
    """Return the catalogue of the installed package; asks nobody."""
    providers = data_snapshot.get_snapshot().providers
    return Listing(
        SOURCE,
        version(SOURCE),
        {provider.id: provider.name for provider in providers},
        tuple(_model(provider.id, info) for provider in providers for info in provider.models),
    )


def _model(provider: str, info: ModelInfo) -> ListedModel:
    clauses = info.match.or_ if isinstance(info.match, ClauseOr) else [info.match]
    prices, left_out = _prices(info)
    return ListedModel(
        provider=provider,
        name=info.id,
        prices=prices,
        other_names=tuple(
            each.equals for each in clauses
            if isinstance(each, ClauseEquals) and each.equals != info.id
        ),
        prefixes=tuple(each.starts_with for each in clauses if isinstance(each, ClauseStartsWith)),
        context_window=info.context_window,
        left_out=left_out,
    )  # fmt: skip


def _prices(info: ModelInfo) -> tuple[tuple[ListedPrice, ...], tuple[str, ...]]:
    """Return the prices by date, and the names of units and variants that are left out."""
    conditional = (
        [ConditionalPrice(None, prices=info.prices)]
        if isinstance(info.prices, ModelPrice)
        else list(info.prices)
    )
    variants = list(info.price_variants or ())
    left_out: set[str] = set()
    starts = {BEGINNING, *map(_start, conditional), *map(_start, variants)}
    prices = tuple(
        ListedPrice(start, tuple(_rates_from(start, conditional, variants, left_out)))
        for start in sorted(starts)
    )
    return _without_repeats(prices), tuple(sorted(left_out))


def _rates_from(
    start: datetime,
    conditional: Sequence[ConditionalPrice],
    variants: Sequence[PriceVariant],
    left_out: set[str],
) -> Iterator[Rate]:
    """
    Yield the rates from a date on: the plain ones, those of windows, those of variants. Of
    several variants for one service tier the first one counts, for each class by itself.
    """
    begun = [each for each in conditional if _start(each) <= start]
    plain = [each for each in begun if not isinstance(each.constraint, TimeOfDateConstraint)]
    base = plain[-1] if plain else conditional[0]
    yield from _rates(base.prices, left_out)
    for each in begun[begun.index(base) + 1 :] if base in begun else []:
        window = _window(each.constraint)
        yield from (replace(rate, window=window) for rate in _rates(each.prices, left_out))
    given: set[tuple[str, object]] = set()
    for variant in variants:
        tier = _tier(variant)
        if tier is None:
            left_out.add(",".join(f"{key}={value}" for key, value in variant.when.items()))
        elif tier != STANDARD_VARIANT and _start(variant) <= start:
            # A variant that changes nothing says so: it costs what it does plainly.
            named = list(_rates(variant.prices, left_out)) or list(_rates(base.prices, left_out))
            yield from (
                replace(rate, service_tier=tier)
                for rate in named
                if (tier, rate.component) not in given
            )
            given |= {(tier, rate.component) for rate in named}


def _tier(variant: PriceVariant) -> str | None:
    """Return the service tier that a variant is for, or None if it is for something else."""
    if isinstance(variant.constraint, TimeOfDateConstraint):
        return None
    tiers = {"processing": {"batch": BATCH}, "speed": {"fast": FAST}}
    ((key, value), *others) = variant.when.items()
    if others:
        return None
    return value if key == "service_tier" else tiers.get(key, {}).get(value)


def _start(priced: ConditionalPrice | PriceVariant) -> datetime:
    if not isinstance(priced.constraint, StartDateConstraint):
        return BEGINNING
    day = priced.constraint.start_date
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _window(constraint: object) -> str:
    assert isinstance(constraint, TimeOfDateConstraint)
    start, end = constraint.start_time, constraint.end_time
    return windows.written(range(7), [f"{start:%H:%M}-{end:%H:%M}"])


def _rates(prices: ModelPrice, left_out: set[str]) -> Iterator[Rate]:
    for name, value in vars(prices).items():
        if value is None or (name == ANY_AUDIO and prices.input_audio_hours is not None):
            continue
        if name not in UNITS:
            left_out.add(name)
            continue
        component, per = UNITS[name]
        yield from (Rate(component, rate, tier, per) for tier, rate in _tiers(value))


def _tiers(value: Any) -> Iterator[tuple[int, Any]]:
    if not isinstance(value, TieredPrices):
        yield 0, value
        return
    yield 0, value.base
    for tier in value.tiers:
        yield tier.start, tier.price


def _without_repeats(prices: Iterable[ListedPrice]) -> tuple[ListedPrice, ...]:
    kept: list[ListedPrice] = []
    for price in prices:
        if price.rates and (not kept or kept[-1].rates != price.rates):
            kept.append(price)
    return tuple(kept)
