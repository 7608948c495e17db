"""The imported catalogue prices as the package itself does, or has no price; it is never wrong."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
)
from genai_prices.types import Usage as TheirUsage

from spend import catalog_genai, pricebook, pricing
from spend.models import Model, PriceRate, PriceVersion
from spend.pricing import Component, Price, Usage

SNAPSHOT = data_snapshot.get_snapshot()
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)

# Each of our usages, and the same in their words.
SMALL = {Component.INPUT: 1_000, Component.OUTPUT: 500, Component.REQUEST: 1}
USAGES: dict[str, tuple[Usage, dict[str, int]]] = {
    "plain": (SMALL, {"input_tokens": 1_000, "output_tokens": 500}),
    "odd": (
        {Component.INPUT: 1, Component.OUTPUT: 7, Component.REQUEST: 1},
        {"input_tokens": 1, "output_tokens": 7},
    ),
    "cached": (
        SMALL | {Component.CACHED_READ: 9_999},
        {"input_tokens": 10_999, "cache_read_tokens": 9_999, "output_tokens": 500},
    ),
    "written": (
        SMALL | {Component.CACHE_WRITE_5M: 333},
        {"input_tokens": 1_333, "cache_write_tokens": 333, "output_tokens": 500},
    ),
    "below every tier": (
        {Component.INPUT: 31_999, Component.OUTPUT: 10, Component.REQUEST: 1},
        {"input_tokens": 31_999, "output_tokens": 10},
    ),
    "above every tier": (
        {Component.INPUT: 900_000, Component.CACHED_READ: 300_001, Component.OUTPUT: 10,
         Component.REQUEST: 1},
        {"input_tokens": 1_200_001, "cache_read_tokens": 300_001, "output_tokens": 10},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def imported(
    django_db_setup: None, django_db_blocker: pytest.FixtureRequest
) -> dict[tuple[str, str], Price]:
    """Every imported model's price at noon; the seed has imported them."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]  # no public type
        versions = (
            PriceVersion.objects.filter(source=catalog_genai.SOURCE, effective_from__lte=NOON)
            .select_related("model__provider")
            .prefetch_related("rates")
            .order_by("effective_from")
        )
        return {
            (version.model.provider.slug, version.model.name): pricebook._price(version)
            for version in versions
        }


def infos() -> Iterator[tuple[str, ModelInfo]]:
    for provider in SNAPSHOT.providers:
        for info in provider.models:
            yield provider.id, info


def theirs(info: ModelInfo, usage: dict[str, int]) -> Decimal:
    total: Decimal = info.get_prices(NOON).calc_price(TheirUsage(**usage))["total_price"]
    return total


def prices_of(info: ModelInfo) -> list[ModelPrice]:
    if isinstance(info.prices, ModelPrice):
        return [info.prices]
    return [conditional.prices for conditional in info.prices]


def is_plain(info: ModelInfo) -> bool:
    """A price that is a matter of dates alone, in units that are metered here."""
    units = {
        n for price in prices_of(info) for n, value in vars(price).items() if value is not None
    }
    by_date = isinstance(info.prices, ModelPrice) or all(
        isinstance(each.constraint, StartDateConstraint | None) for each in info.prices
    )
    return by_date and units <= catalog_genai.UNITS.keys() | catalog_genai.IGNORED


def fits(usage: dict[str, int], info: ModelInfo) -> bool:
    """Usages with a class that this model has no rate for are told apart by other tests."""
    price = info.get_prices(NOON)
    needed = {"cache_read_tokens": "cache_read_mtok", "cache_write_tokens": "cache_write_mtok"}
    return all(getattr(price, unit) is not None for name, unit in needed.items() if name in usage)


def is_same(amount: Decimal, expected: Decimal, usage: Usage) -> bool:
    """A few of their rates are floats' leavings (0.10400000000000001): ours keep 18 decimals."""
    return abs(amount - expected) <= sum(usage.values()) * Decimal("5E-19")


@pytest.mark.parametrize("name", USAGES)
def test_price_is_the_one_of_the_package_for_every_model(
    name: str, imported: dict[tuple[str, str], Price]
) -> None:
    ours, same = USAGES[name]
    compared, different = 0, []

    for provider, info in infos():
        price = imported.get((provider, info.id))
        if price is None or not fits(same, info):
            continue
        compared += 1
        cost = pricing.cost(price=price, usage=ours)
        if not is_same(cost.amount, theirs(info, same), ours):
            different.append((provider, info.id, cost.amount, theirs(info, same)))

    assert different == []
    assert compared > 200


def test_tiers_are_crossed_by_the_first_token_above_and_not_at_them(
    imported: dict[tuple[str, str], Price],
) -> None:
    checked = 0

    for provider, info in infos():
        price = imported.get((provider, info.id))
        tiered = getattr(info.get_prices(NOON), "input_mtok", None)
        if price is None or not isinstance(tiered, TieredPrices):
            continue
        for tier in tiered.tiers:
            for tokens in (tier.start - 1, tier.start, tier.start + 1):
                cost = pricing.cost(price=price, usage={Component.INPUT: tokens})
                expected = theirs(info, {"input_tokens": tokens, "output_tokens": 0})
                assert (provider, info.id, tokens, cost.amount) == (
                    provider, info.id, tokens, expected + _request(price),
                )  # fmt: skip
                checked += 1

    assert checked > 20


def test_cached_tokens_without_a_rate_of_their_own_cost_what_input_costs(
    imported: dict[tuple[str, str], Price],
) -> None:
    checked = 0

    for provider, info in infos():
        price, their_price = imported.get((provider, info.id)), info.get_prices(NOON)
        if (
            price is None
            or their_price.cache_read_mtok is not None
            or their_price.input_mtok is None
        ):
            continue
        checked += 1
        as_input = pricing.cost(price=price, usage={Component.INPUT: 1_000})
        as_cached = pricing.cost(price=price, usage={Component.CACHED_READ: 1_000})
        assert as_cached.amount == as_input.amount

    assert checked > 200


def test_model_is_left_out_exactly_where_it_has_no_plain_price(
    imported: dict[tuple[str, str], Price],
) -> None:
    expected = {
        (provider, info.id)
        for provider, info in infos()
        if is_plain(info)
        and any(name not in catalog_genai.IGNORED and value is not None
                for name, value in vars(info.get_prices(NOON)).items())
    }  # fmt: skip

    assert imported.keys() == expected
    assert 0 < len(imported) < sum(1 for _ in infos())


def test_second_import_adds_nothing(imported: dict[tuple[str, str], Price]) -> None:
    before = Model.objects.count(), PriceVersion.objects.count(), PriceRate.objects.count()

    again = catalog_genai.import_catalogue()

    after = Model.objects.count(), PriceVersion.objects.count(), PriceRate.objects.count()
    assert after == before
    assert (again.models, again.versions) == (0, 0)
    assert again.providers == len(SNAPSHOT.providers)
    assert len(again.left_out) == sum(1 for _ in infos()) - len(imported)


def test_price_that_somebody_has_corrected_is_not_overwritten() -> None:
    rate = PriceRate.objects.filter(version__source=catalog_genai.SOURCE).first()
    assert rate is not None
    PriceRate.objects.filter(pk=rate.pk).update(rate=Decimal("0.123"))

    catalog_genai.import_catalogue()
    kept = PriceRate.objects.get(pk=rate.pk).rate
    PriceRate.objects.filter(pk=rate.pk).update(rate=rate.rate)

    assert kept == Decimal("0.123")


def test_dated_prices_apply_from_their_dates_on() -> None:
    dated = [
        (provider, info)
        for provider, info in infos()
        if is_plain(info) and not isinstance(info.prices, ModelPrice)
    ]

    for provider, info in dated:
        listed = pricebook.listed(provider=provider, name=info.id)
        assert listed is not None
        starts = [_start(each) for each in _conditional(info)]
        assert [start for start, _ in listed.prices] == sorted(set(starts))
        for start in starts:
            price = listed.price_at(start)
            assert price is not None
            expected = info.get_prices(start).calc_price(
                TheirUsage(input_tokens=7, output_tokens=3)
            )
            usage = {Component.INPUT: 7, Component.OUTPUT: 3, Component.REQUEST: 1}
            cost = pricing.cost(price=price, usage=usage)
            assert is_same(cost.amount, expected["total_price"], usage)

    assert dated


def test_name_finds_the_model_that_the_package_finds_or_none(
    imported: dict[tuple[str, str], Price],
) -> None:
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


def _conditional(info: ModelInfo) -> list[ConditionalPrice]:
    assert not isinstance(info.prices, ModelPrice)
    return info.prices


def _start(price: ConditionalPrice) -> datetime:
    assert isinstance(price.constraint, StartDateConstraint | None)
    return catalog_genai._start(price.constraint)


def _request(price: Price) -> Decimal:
    return price.rate_of(Component.REQUEST, input_tokens=0) or Decimal(0)
