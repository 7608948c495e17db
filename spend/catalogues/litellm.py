"""
Reads LiteLLM's price map (``model_prices_and_context_window.json``): one row a model, US dollars.

Its fields are named by what they price and under which conditions:
``input_cost_per_token_above_200k_tokens_priority``. Where the map has a rate for a service tier
and none for a class of tokens there, the class costs what the map's readers charge for it; so that
this need not be known later, such rates are written out.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from budgets.money import EXACT
from spend.catalogues import litellm_checks
from spend.catalogues.listing import (
    BEGINNING,
    InvalidPriceList,
    ListedModel,
    ListedPrice,
    Listing,
)
from spend.catalogues.litellm_hours import window_of
from spend.components import FALLBACKS, Component
from spend.rates import BATCH, HALF, RATE_MAX, STANDARD, Rate

SOURCE: Final = "litellm"
SAMPLE: Final = "sample_spec"
SECOND_MS: Final = 1_000

REACHED_AT_BOUND: Final = frozenset({"xai"})
"""Whose rates for long requests hold from their bound on (docs.x.ai/docs/models)."""
STATING_COST: Final = frozenset({"perplexity", "openrouter"})
"""Whose answers say what they cost, which is what they bill."""
BY_SEARCHED_REQUEST: Final = frozenset({"gemini", "vertex_ai", "vertex_ai-language-models"})
"""Who charge a grounded prompt, and not its queries, unless the map says so."""
HALF_CACHED: Final = frozenset({"fireworks_ai"})
"""Whose cached input costs half where nothing else is said (fireworks.ai/pricing)."""
PICO: Final = Decimal("1e-12")

_C = Component
Fields = Mapping[str, tuple[Component, int]]
FIELDS: Final[Fields] = {
    "input_cost_per_token": (_C.INPUT, 1),
    "output_cost_per_token": (_C.OUTPUT, 1),
    "cache_read_input_token_cost": (_C.CACHED_READ, 1),
    "cache_read_input_audio_token_cost": (_C.CACHED_READ_AUDIO, 1),
    "cache_read_input_image_token_cost": (_C.CACHED_READ_IMAGE, 1),
    "cache_creation_input_token_cost": (_C.CACHE_WRITE_5M, 1),
    "cache_creation_input_token_cost_above_1hr": (_C.CACHE_WRITE_1H, 1),
    "input_cost_per_audio_token": (_C.INPUT_AUDIO, 1),
    "input_cost_per_image_token": (_C.INPUT_IMAGE, 1),
    "input_cost_per_video_token": (_C.INPUT_VIDEO, 1),
    "output_cost_per_reasoning_token": (_C.REASONING, 1),
    "output_cost_per_audio_token": (_C.OUTPUT_AUDIO, 1),
    "output_cost_per_image_token": (_C.OUTPUT_IMAGE, 1),
    "output_cost_per_video_token": (_C.OUTPUT_VIDEO, 1),
    "citation_cost_per_token": (_C.CITATION, 1),
    "input_cost_per_character": (_C.INPUT_CHARACTERS, 1),
    "output_cost_per_character": (_C.OUTPUT_CHARACTERS, 1),
    "input_cost_per_image": (_C.INPUT_IMAGES, 1),
    "output_cost_per_image": (_C.IMAGES, 1),
    "input_cost_per_audio_per_second": (_C.INPUT_AUDIO_MS, SECOND_MS),
    "input_cost_per_video_per_second": (_C.INPUT_VIDEO_MS, SECOND_MS),
    "output_cost_per_video_per_second": (_C.OUTPUT_VIDEO_MS, SECOND_MS),
    "cost_per_second": (_C.COMPUTE_MS, SECOND_MS),
    "input_cost_per_query": (_C.QUERY, 1),
    "ocr_cost_per_page": (_C.PAGE, 1),
    "annotation_cost_per_page": (_C.ANNOTATED_PAGE, 1),
    "code_interpreter_cost_per_session": (_C.CODE_SESSION, 1),
    "input_cost_per_request": (_C.REQUEST, 1),
}
"""Which class a field prices, and for how many of its units."""
BY_MODE: Final[Mapping[str, Fields]] = {
    "audio_transcription": {
        "input_cost_per_second": (_C.INPUT_AUDIO_MS, SECOND_MS),
        "output_cost_per_second": (_C.INPUT_AUDIO_MS, SECOND_MS),
    },
    "video_generation": {"output_cost_per_second": (_C.OUTPUT_VIDEO_MS, SECOND_MS)},
    "audio_speech": {"output_cost_per_second": (_C.OUTPUT_AUDIO_MS, SECOND_MS)},
}
"""What time is charged for depends on what the model makes; otherwise it is its working time."""
BY_TIME: Final = ("cost_per_second", "input_cost_per_second", "output_cost_per_second")
IGNORED: Final = frozenset(
    {
        "input_cost_per_pixel",
        "output_cost_per_pixel",
        "input_cost_per_token_cache_hit",
        "input_dbu_cost_per_token",
        "output_dbu_cost_per_token",
    }
)
"""Read with the size of the image; or the same rate once more, by another name or currency."""
SUFFIX: Final = re.compile(
    r"(?:_above_(?P<thousands>[0-9]{1,5})k_tokens)?"
    r"(?:_(?P<tier>batches|flex|priority|balanced|ultrafast|decisions))?",
    re.ASCII,
)
VIDEO: Final = re.compile(r"output_cost_per_second_(?P<variant>[0-9]{1,4}[pk])", re.ASCII)
IMAGE: Final = re.compile(r"output_cost_per_image_(?P<variant>[0-9.]{1,4}K?)", re.ASCII)
QUALITY: Final = "low|medium|high|standard|hd|auto"
ROW_NAME: Final = re.compile(
    rf"(?:(?P<before>(?!(?:{QUALITY})/)[a-z0-9_.-]+)/)?(?:(?P<quality>{QUALITY})/)?"
    r"(?P<size>[0-9]{3,4}-x-[0-9]{3,4})/(?P<model>.+)",
    re.ASCII,
)
REGIONS: Final = re.compile(r"regional_processing_uplift_multiplier_(?P<region>[a-z]{2})")
PIXELS: Final = ("input_cost_per_pixel", "output_cost_per_pixel")
SEARCH: Final = "search_context_cost_per_query"
SEARCH_SIZES: Final = ("low", "high")


def read(text: bytes, *, version: str) -> Listing:
    """
    Return the map's models; rows that price nothing are left out.

    :raises InvalidPriceList: if it is no such map, naming the row and field that does not fit
    """
    rows = litellm_checks.rows_of(text)
    models = tuple(
        model
        for name, row in rows.items()
        if name != SAMPLE and (model := _read_row(name, row)) is not None
    )
    models = _with_variants(tuple({(each.provider, each.name): each for each in models}.values()))
    return Listing(SOURCE, version, {model.provider: model.provider for model in models}, models)


def _read_row(name: str, row: Mapping[str, Any]) -> ListedModel | None:
    try:
        return read_row(name, row)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidPriceList("has a form that is not known", model=name) from error


def read_row(name: str, row: Mapping[str, Any]) -> ListedModel | None:
    """Return a row's model with its price, or None if it prices nothing that is counted here."""
    provider = str(row.get("litellm_provider") or "")
    left_out: list[str] = []
    rates = [*_made(name, row), *_rates(row, left_out), *_tables(row), *_searches(row)]
    rates = _complete(_by_rules_of(provider, _distinct(rates))) + _off_peak(row)
    if not rates or not provider:
        return None
    price = ListedPrice(BEGINNING, tuple(rates), _regions(row))
    return ListedModel(
        provider=provider,
        name=name.removeprefix(f"{provider}/"),
        other_names=(name,) if name.startswith(f"{provider}/") else (),
        prices=(price,),
        context_window=_count(row.get("max_input_tokens")),
        output_tokens_max=_count(row.get("max_output_tokens")),
        left_out=tuple(left_out),
    )


def _with_variants(models: tuple[ListedModel, ...]) -> tuple[ListedModel, ...]:
    """Give models of images the rates that rows named like ``high/1024-x-1024/model`` hold."""
    variants: dict[tuple[str, str], list[Rate]] = {}
    plain: list[ListedModel] = []
    for model in models:
        match = ROW_NAME.fullmatch(model.name)
        if match is None:
            plain.append(model)
            continue
        size = match["size"].replace("-x-", "x")
        variant = f"{match['quality']}/{size}" if match["quality"] else size
        name = "/".join(filter(None, (match["before"], match["model"])))
        found = variants.setdefault((model.provider, name), [])
        found += [
            replace(rate, variant=variant)
            for rate in model.prices[0].rates
            if rate.component is _C.IMAGES
        ]
    named = {(model.provider, model.name) for model in plain}
    plain += [
        ListedModel(provider, name, (ListedPrice(BEGINNING, ()),))
        for provider, name in variants
        if (provider, name) not in named
    ]
    return tuple(_with(model, variants.get((model.provider, model.name), [])) for model in plain)


def _with(model: ListedModel, variants: list[Rate]) -> ListedModel:
    """Add rates of variants; where a size is asked for and no quality, the dearest one counts."""
    if not variants:
        return model
    dearest: dict[tuple[Component, str], Rate] = {}
    for rate in variants:
        size = rate.variant.rpartition("/")[2]
        key = (rate.component, size)
        if key not in dearest or rate.rate > dearest[key].rate:
            dearest[key] = replace(rate, variant=size)
    (price,) = model.prices
    rates = _distinct([*price.rates, *variants, *dearest.values()])
    return replace(model, prices=(replace(price, rates=tuple(rates)),))


def _rates(row: Mapping[str, Any], left_out: list[str]) -> Iterator[Rate]:
    fields = {**FIELDS, **BY_MODE.get(str(row.get("mode")), {})}
    if not _has_tokens(row):
        fields = {**dict.fromkeys(BY_TIME, (_C.COMPUTE_MS, SECOND_MS)), **fields}
    for field, value in row.items():
        if not _is_price(field, value) or field in IGNORED:
            continue
        rate = _rate(field, _amount(value), fields)
        if rate is None:
            left_out.append(field)
        else:
            yield rate


def _rate(field: str, amount: Decimal, fields: Fields) -> Rate | None:
    """Return the rate that a field gives, its conditions taken from the end of its name."""
    for pattern, component, per in ((VIDEO, _C.OUTPUT_VIDEO_MS, SECOND_MS), (IMAGE, _C.IMAGES, 1)):
        if match := pattern.fullmatch(field):
            return Rate(component, amount, per=per, variant=match["variant"])
    for name in sorted(fields, key=len, reverse=True):
        if field.startswith(name) and (match := SUFFIX.fullmatch(field.removeprefix(name))):
            component, per = fields[name]
            tier = match["tier"] or STANDARD
            return Rate(
                component, amount, int(match["thousands"] or 0) * 1_000, per,
                BATCH if tier == "batches" else tier,
            )  # fmt: skip
    return None


def _tables(row: Mapping[str, Any]) -> Iterator[Rate]:
    """Yield the rates of ``tiered_pricing``: each range of input tokens is a tier."""
    table = row.get("tiered_pricing")
    for entry in table if isinstance(table, list) else []:
        bounds = entry.get("range")
        start = int(bounds[0]) if isinstance(bounds, list) and bounds else 0
        for field, value in entry.items():
            if field in FIELDS and _is_price(field, value):
                component, per = FIELDS[field]
                yield Rate(component, _amount(value), start, per)


def _searches(row: Mapping[str, Any]) -> Iterator[Rate]:
    """Yield what a web search costs: by default that with a context of medium size."""
    costs = row.get(SEARCH)
    if not isinstance(costs, dict):
        return
    by_request = row.get("litellm_provider") in BY_SEARCHED_REQUEST and (
        row.get("web_search_billing_unit") != "per_query"
    )
    component = _C.SEARCHED_REQUEST if by_request else _C.WEB_SEARCH
    medium = costs.get("search_context_size_medium")
    if _is_price(SEARCH, medium):
        yield Rate(component, _amount(medium))
    for size in SEARCH_SIZES:
        value = costs.get(f"search_context_size_{size}")
        if _is_price(SEARCH, value) and value != medium:
            yield Rate(component, _amount(value), variant=size)


def _made(name: str, row: Mapping[str, Any]) -> Iterator[Rate]:
    """Yield what an image costs in a row that is named by its size, by image or by pixels."""
    match = ROW_NAME.fullmatch(name)
    if match is None:
        return
    if _is_price("cost", row.get("input_cost_per_image")):
        yield Rate(_C.IMAGES, _amount(row["input_cost_per_image"]))
    width, height = map(int, match["size"].split("-x-"))
    for field in PIXELS:
        if _is_price(field, row.get(field)) and row[field]:
            yield Rate(_C.IMAGES, EXACT.multiply(_amount(row[field]), width * height))


def _off_peak(row: Mapping[str, Any]) -> list[Rate]:
    """Return the rates that hold in the windows of ``off_peak_pricing``."""
    off_peak = row.get("off_peak_pricing")
    if not isinstance(off_peak, dict):
        return []
    given = [each for each in off_peak if each in FIELDS and _is_price(each, off_peak[each])]
    if not given:
        return []
    window = window_of(off_peak)
    return [Rate(FIELDS[each][0], _amount(off_peak[each]), window=window) for each in given]


def _regions(row: Mapping[str, Any]) -> dict[str, Decimal]:
    factors = {
        match["region"]: _amount(value)
        for field, value in row.items()
        if (match := REGIONS.fullmatch(field)) and _is_number(value)
    }
    own = row.get("provider_specific_entry")
    for region, value in (own if isinstance(own, dict) else {}).items():
        if _is_number(value) and len(region) == len("us"):
            factors[region] = _amount(value)
    if _is_number(uplift := row.get("regional_endpoint_uplift_multiplier")):
        factors["regional"] = _amount(uplift)
    return factors


def _by_rules_of(provider: str, rates: list[Rate]) -> list[Rate]:
    """Add what a provider's price page says of all its models, and the map does not say."""
    if provider in REACHED_AT_BOUND:
        rates = [replace(each, tier_from=max(0, each.tier_from - 1)) for each in rates]
    if provider in STATING_COST:
        rates = [*rates, Rate(_C.STATED_PICO_USD, PICO)]
    if not any(each.key == _C.OUTPUT for each in rates):
        # All that a model writes which has a rate for images alone is images.
        rates = [
            *rates,
            *(replace(each, component=_C.OUTPUT) for each in rates if each.key == _C.OUTPUT_IMAGE),
        ]
    if provider in HALF_CACHED and not any(each.key == _C.CACHED_READ for each in rates):
        rates += [
            replace(each, component=_C.CACHED_READ, rate=each.rate * HALF)
            for each in rates
            if each.key == _C.INPUT
        ]
    return rates


def _distinct(rates: list[Rate]) -> list[Rate]:
    """Keep one rate of each class and conditions: that of seconds may be given twice."""
    kept: dict[tuple[object, ...], Rate] = {}
    for rate in rates:
        conditions = (rate.key, rate.tier_from, rate.service_tier)
        if conditions not in kept or kept[conditions].rate == 0:
            kept[conditions] = rate
    return list(kept.values())


def _complete(rates: list[Rate]) -> list[Rate]:
    """Write out what a service tier leaves unsaid: see above."""
    added: list[Rate] = []
    for tier in sorted({rate.service_tier for rate in rates} - {STANDARD}):
        own = {rate.key for rate in rates if rate.service_tier == tier}
        if tier == BATCH:
            added += _batch_kinds(rates, own)
        else:
            added += [*_standard_tiers(rates, tier, own), *_reasoning(rates, tier, own)]
    return rates + added


def _batch_kinds(rates: list[Rate], own: set[Any]) -> Iterator[Rate]:
    """
    A class without a batch rate is charged the batch rate of the input or output; images that
    are made half of their own.
    """
    for component, kinds in FALLBACKS.items():
        if component in own or kinds[-1] not in own:
            continue
        if component is _C.OUTPUT_IMAGE:
            yield from (
                replace(rate, rate=rate.rate * HALF, service_tier=BATCH)
                for rate in rates
                if rate.key == component and rate.service_tier == STANDARD
            )
            continue
        for rate in rates:
            if rate.key == kinds[-1] and rate.service_tier == BATCH:
                yield replace(rate, component=component)


def _standard_tiers(rates: list[Rate], tier: str, own: set[Any]) -> Iterator[Rate]:
    """Rates for long requests hold for every service tier that has none of its own for them."""
    given = {(rate.key, rate.tier_from) for rate in rates if rate.service_tier == tier}
    for rate in rates:
        is_long = rate.service_tier == STANDARD and rate.tier_from > 0 and rate.key in own
        if is_long and (rate.key, rate.tier_from) not in given:
            yield replace(rate, service_tier=tier)


def _reasoning(rates: list[Rate], tier: str, own: set[Any]) -> Iterator[Rate]:
    """Reasoning costs what other output does in a service tier that has no rate for it."""
    if _C.OUTPUT in own and _C.REASONING not in own:
        for rate in rates:
            if rate.key == _C.OUTPUT and rate.service_tier == tier:
                yield replace(rate, component=_C.REASONING)


def _has_tokens(row: Mapping[str, Any]) -> bool:
    return any(
        _is_number(row.get(name)) and row[name]
        for name in ("input_cost_per_token", "output_cost_per_token")
    )


def _is_price(field: str, value: object) -> bool:
    return "cost" in field and _is_number(value)


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 <= value <= RATE_MAX
    )


def _amount(value: Any) -> Decimal:
    return Decimal(value)


def _count(value: object) -> int | None:
    try:
        number = int(Decimal(str(value)))
    except (InvalidOperation, ValueError, OverflowError):
        return None
    return number if 0 < number < 2**31 else None
