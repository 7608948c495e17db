"""The imported catalogue prices as the package itself does, or has no price; it is never wrong."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ModelInfo,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Usage as TheirUsage
from hypothesis import given, settings
from hypothesis import strategies as st

from spend import pricebook, pricing
from spend.catalogues import genai, importing
from spend.catalogues.listing import ListedModel
from spend.components import FALLBACKS, MILLISECONDS, Component, Usage
from spend.models import Model, PriceRate, PriceVersion
from spend.pricebook import Listed, Version
from spend.rates import BATCH, Conditions

SNAPSHOT = data_snapshot.get_snapshot()
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
LISTING = genai.read()
INFOS = {
    (provider.id, info.id): info for provider in SNAPSHOT.providers for info in provider.models
}
TOLERANCE = Decimal("1E-20")
"""Theirs keep 28 digits at each step, ours are exact."""

_C = Component
# Their counts hold what they are made of: input tokens the cached ones, these the cached audio.
THEIR_COUNTS = {
    "input_tokens": (
        _C.INPUT, _C.CACHED_READ, _C.CACHED_READ_AUDIO, _C.CACHED_READ_IMAGE, _C.CACHE_WRITE_5M,
        _C.CACHE_WRITE_1H, _C.INPUT_AUDIO, _C.INPUT_IMAGE, _C.INPUT_VIDEO,
    ),
    "cache_read_tokens": (_C.CACHED_READ, _C.CACHED_READ_AUDIO, _C.CACHED_READ_IMAGE),
    "cache_write_tokens": (_C.CACHE_WRITE_5M, _C.CACHE_WRITE_1H),
    "cache_write_1h_tokens": (_C.CACHE_WRITE_1H,),
    "input_audio_tokens": (_C.INPUT_AUDIO, _C.CACHED_READ_AUDIO),
    "cache_audio_read_tokens": (_C.CACHED_READ_AUDIO,),
    "input_image_tokens": (_C.INPUT_IMAGE, _C.CACHED_READ_IMAGE),
    "cache_image_read_tokens": (_C.CACHED_READ_IMAGE,),
    "input_video_tokens": (_C.INPUT_VIDEO,),
    "output_tokens": (
        _C.OUTPUT, _C.REASONING, _C.OUTPUT_AUDIO, _C.OUTPUT_IMAGE, _C.OUTPUT_VIDEO, _C.CITATION,
    ),
    "output_reasoning_tokens": (_C.REASONING,),
    "output_audio_tokens": (_C.OUTPUT_AUDIO,),
    "output_image_tokens": (_C.OUTPUT_IMAGE,),
    "output_video_tokens": (_C.OUTPUT_VIDEO,),
    "output_citation_tokens": (_C.CITATION,),
    "input_characters": (_C.INPUT_CHARACTERS,),
    "audio_seconds": (_C.INPUT_AUDIO_MS,),
    "input_audio_seconds": (_C.INPUT_AUDIO_MS,),
    "input_document_pages": (_C.PAGE, _C.ANNOTATED_PAGE),
    "input_annotated_document_pages": (_C.ANNOTATED_PAGE,),
    "web_searches": (_C.WEB_SEARCH,),
    "storage_searches": (_C.FILE_SEARCH,),
}  # fmt: skip


def as_listed(model: ListedModel) -> Listed:
    versions = [
        Version(price.effective_from, None, None, price.currency, price.rates, model.name)
        for price in reversed(model.prices)
    ]
    return Listed(model.context_window, model.output_tokens_max, tuple(versions))


OURS = {(model.provider, model.name): as_listed(model) for model in LISTING.models}
PRICED = sorted(key for key, listed in OURS.items() if listed.versions)


def theirs(
    info: ModelInfo, usage: Usage, at: datetime, context: dict[str, str] | None = None
) -> Decimal:
    counts: dict[str, int | Decimal] = {}
    for name, components in THEIR_COUNTS.items():
        number = sum(usage.get(component, 0) for component in components)
        is_time = components[0] in MILLISECONDS
        counts[name] = Decimal(number) / 1_000 if is_time else number
    price = info.get_prices(at, context)
    total: Decimal = price.calc_price(TheirUsage(**counts))["total_price"]
    return total


def contexts(info: ModelInfo, at: datetime) -> list[tuple[str, dict[str, str] | None]]:
    """Return the service tiers of a model, ours beside theirs."""
    tiers = [
        (tier, dict(variant.when))
        for variant in info.price_variants or ()
        if (tier := genai._tier(variant)) not in {None, genai.STANDARD_VARIANT}
        and genai._start(variant) <= at
    ]
    return [("", None), *((str(tier), when) for tier, when in tiers)]


def moments(info: ModelInfo) -> list[datetime]:
    """Return instants on either side of every bound of a model's prices, by date and by clock."""
    found = [NOON]
    constraints = [getattr(each, "constraint", None) for each in info.price_variants or ()]
    if isinstance(info.prices, list):
        constraints += [each.constraint for each in info.prices]
    for constraint in constraints:
        if isinstance(constraint, StartDateConstraint):
            day = datetime.combine(constraint.start_date, time(), tzinfo=UTC)
            found += [day - timedelta(microseconds=1), day, day + timedelta(hours=17)]
        elif isinstance(constraint, TimeOfDateConstraint):
            for bound in (constraint.start_time, constraint.end_time):
                at = datetime.combine(NOON.date(), bound.replace(tzinfo=UTC))
                found += [at - timedelta(microseconds=1), at]
    return found


def priced_classes(info: ModelInfo, at: datetime) -> list[Component]:
    price = info.get_prices(at)
    given = {genai.UNITS[unit][0] for unit, value in vars(price).items()
             if value is not None and unit in genai.UNITS}  # fmt: skip
    # Their catalogue wants every class on the way to a narrower one priced, else it refuses.
    return sorted(
        component
        for component in given - {_C.REQUEST}
        if all(kind in given for kind in FALLBACKS.get(component, ()))
    )


@settings(max_examples=1_500, deadline=None)
@given(data=st.data())
def test_price_is_the_one_of_the_package_for_every_usage_that_a_model_prices(
    data: st.DataObject,
) -> None:
    key = data.draw(st.sampled_from(PRICED))
    info = INFOS[key]
    at = data.draw(st.sampled_from(moments(info)))
    tier, context = data.draw(st.sampled_from(contexts(info, at)))
    price = OURS[key].price_at(at)
    counts = st.one_of(st.integers(0, 50), st.integers(0, 2_000_000))
    usage: dict[Component, int] = {_C.REQUEST: 1}
    for component in priced_classes(info, at):
        usage[component] = data.draw(counts)

    expected = theirs(info, usage, at, context)

    assert price is not None
    cost = pricing.cost(price=price, usage=usage, conditions=Conditions(tier))
    assert abs(cost.amount - expected) <= TOLERANCE
    assert cost.unpriced == ()


def test_price_of_every_model_is_the_one_of_the_package_at_every_bound() -> None:
    different, compared = [], 0

    for key in PRICED:
        info = INFOS[key]
        for at in moments(info):
            usage = {_C.REQUEST: 1} | {
                component: 900 + 7 * index
                for index, component in enumerate(priced_classes(info, at))
            }
            for tier, context in contexts(info, at):
                price = OURS[key].price_at(at)
                assert price is not None
                cost = pricing.cost(price=price, usage=usage, conditions=Conditions(tier))
                expected = theirs(info, usage, at, context)
                compared += 1
                if abs(cost.amount - expected) > TOLERANCE:
                    different.append((key, at, tier, cost.amount, expected))

    assert different == []
    assert compared > len(PRICED)


def test_tiers_are_crossed_by_the_first_token_above_and_not_at_them() -> None:
    checked = 0

    for key in PRICED:
        tiered = getattr(INFOS[key].get_prices(NOON), "input_mtok", None)
        price = OURS[key].price_at(NOON)
        if price is None or not isinstance(tiered, TieredPrices):
            continue
        for tier in tiered.tiers:
            for tokens in (tier.start - 1, tier.start, tier.start + 1):
                usage = {_C.INPUT: tokens, _C.REQUEST: 1}
                cost = pricing.cost(price=price, usage=usage)
                assert abs(cost.amount - theirs(INFOS[key], usage, NOON)) <= TOLERANCE
                checked += 1

    assert checked > 20


def test_what_the_package_prices_at_nothing_for_want_of_a_rate_is_unpriced_here() -> None:
    checked = 0

    for key in PRICED:
        price = OURS[key].price_at(NOON)
        given = vars(INFOS[key].get_prices(NOON))
        if price is None or given.get("web_searches_kcount") is not None:
            continue
        usage = {_C.WEB_SEARCH: 3}
        assert theirs(INFOS[key], usage, NOON) == 0 or given.get("requests_kcount") is not None
        assert pricing.cost(price=price, usage=usage).unpriced == (_C.WEB_SEARCH,)
        checked += 1

    assert checked > 1_000


def test_batches_without_rates_of_their_own_cost_half() -> None:
    key = next(
        key for key in PRICED
        if len(contexts(INFOS[key], NOON)) == 1
        and priced_classes(INFOS[key], NOON) == [_C.INPUT, _C.OUTPUT]
    )  # fmt: skip
    price = OURS[key].price_at(NOON)
    assert price is not None
    usage = {_C.INPUT: 1_000}

    batch = pricing.cost(price=price, usage=usage, conditions=Conditions(BATCH))

    assert batch.amount * 2 == pricing.cost(price=price, usage=usage).amount > 0


# --- In the price book -------------------------------------------------------------------


def test_price_book_has_the_models_of_the_catalogue_with_all_their_rates() -> None:
    listed = {
        (model.provider, model.name): [
            (price.effective_from, len(price.rates)) for price in model.prices
        ]
        for model in LISTING.models
        if model.prices
    }

    versions = PriceVersion.objects.filter(source=genai.SOURCE).order_by("effective_from")
    kept: dict[tuple[str, str], list[tuple[datetime, int]]] = {}
    for version in versions.select_related("model__provider").prefetch_related("rates"):
        key = (version.model.provider.slug, version.model.name)
        kept.setdefault(key, []).append((version.effective_from, len(version.rates.all())))

    assert kept == listed


def test_stored_price_is_the_listed_one_to_eighteen_decimals() -> None:
    for key in PRICED[::40]:
        stored = pricebook.listed(provider=key[0], name=key[1])
        assert stored is not None
        usage = {_C.INPUT: 999, _C.OUTPUT: 333, _C.REQUEST: 1}
        ours, kept = OURS[key].price_at(NOON), stored.price_at(NOON)
        assert ours is not None
        assert kept is not None
        difference = (
            pricing.cost(price=ours, usage=usage).amount
            - pricing.cost(price=kept, usage=usage).amount
        )
        assert abs(difference) <= Decimal("1E-15")


def test_second_import_adds_nothing() -> None:
    before = Model.objects.count(), PriceVersion.objects.count(), PriceRate.objects.count()

    again = importing.add_unknown(LISTING)

    after = Model.objects.count(), PriceVersion.objects.count(), PriceRate.objects.count()
    assert after == before
    assert (again.models, again.versions) == (0, 0)


def test_price_that_somebody_has_corrected_is_not_overwritten() -> None:
    rate = PriceRate.objects.filter(version__source=genai.SOURCE).first()
    assert rate is not None
    PriceRate.objects.filter(pk=rate.pk).update(rate=Decimal("0.123"))

    importing.add_unknown(LISTING)
    kept = PriceRate.objects.get(pk=rate.pk).rate
    PriceRate.objects.filter(pk=rate.pk).update(rate=rate.rate)

    assert kept == Decimal("0.123")


def test_name_finds_the_model_that_the_package_finds_or_none() -> None:
    different = []

    for provider in SNAPSHOT.providers:
        for name in sorted(set(_names(provider.models)))[::5]:
            found = pricebook.find_model(provider=provider.id, name=name)
            expected = provider.find_model(name)
            if found is None or found.name == name:
                continue
            if expected is None or found.name != expected.id:
                different.append((provider.id, name, found.name, expected and expected.id))

    assert different == []


def _names(models: list[ModelInfo]) -> Iterator[str]:
    """Yield every name that a clause names, and names that only begin like one."""
    for info in models:
        yield info.id
        clauses = info.match.or_ if isinstance(info.match, ClauseOr) else [info.match]
        for clause in clauses:
            if isinstance(clause, ClauseEquals):
                yield clause.equals
            elif isinstance(clause, ClauseStartsWith):
                yield clause.starts_with
                yield f"{clause.starts_with}-20260102"
