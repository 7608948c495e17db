"""The price that applies is the one in force when the request began."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError

from spend import pricebook, pricing
from spend.components import Component
from spend.models import Model, PriceRate, PriceVersion, Provider
from spend.rates import Rate

JANUARY, JUNE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
FAR = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture
def provider() -> Provider:
    return Provider.objects.create(slug=f"p-{uuid.uuid4().hex[:12]}", name="P")


def model(of: Provider, name: str, **fields: Any) -> Model:
    return Model.objects.create(provider=of, name=name, **fields)


def version(of: Model, at: datetime, rates: Mapping[tuple[Component, int], str]) -> PriceVersion:
    made = PriceVersion.objects.create(model=of, effective_from=at, source="test")
    for (component, tier), rate in rates.items():
        PriceRate.objects.create(
            version=made, component=component, tier_from=tier, rate=Decimal(rate)
        )
    return made


def found(provider: Provider, name: str) -> str | None:
    match = pricebook.find_model(provider=provider.slug, name=name)
    return None if match is None else match.name


# --- Which model -------------------------------------------------------------------------


def test_model_is_found_by_its_name_before_another_name_before_a_prefix(
    provider: Provider,
) -> None:
    model(provider, "gpt", prefixes=["gpt"])
    model(provider, "gpt-5", prefixes=["gpt-5"])
    model(provider, "gpt-5-mini", other_names=["gpt-5-small"], prefixes=["gpt-5-mini"])

    names = ["gpt-5-mini", "gpt-5-small", "gpt-5-mini-2026", "gpt-5-large", "gpt-4", "claude"]

    assert [found(provider, name) for name in names] == [
        "gpt-5-mini", "gpt-5-mini", "gpt-5-mini", "gpt-5", "gpt", None,
    ]  # fmt: skip


def test_model_of_another_provider_is_not_found(provider: Provider) -> None:
    other = Provider.objects.create(slug=f"q-{uuid.uuid4().hex[:12]}", name="Q")
    model(other, "theirs", prefixes=["the"])

    assert found(provider, "theirs") is None
    assert pricebook.listed(provider=provider.slug, name="theirs") is None
    assert pricebook.listed(provider="nobody", name="theirs") is None


def test_name_is_no_pattern(provider: Provider) -> None:
    model(provider, "gpt_5", prefixes=["gpt_5%"])

    assert found(provider, "gptx5") is None
    assert found(provider, "gpt_5-mini") is None


# --- Which price -------------------------------------------------------------------------


def test_price_in_force_is_the_last_that_has_begun(provider: Provider) -> None:
    of = model(provider, "m")
    first = version(of, JANUARY, {(Component.INPUT, 0): "1"})
    second = version(of, JUNE, {(Component.INPUT, 0): "2"})

    listed = pricebook.listed(provider=provider.slug, name="m")

    assert listed is not None
    moments = [JANUARY, JUNE - timedelta(microseconds=1), JUNE, FAR]
    prices = [listed.price_at(at) for at in moments]
    assert [price.reference for price in prices if price] == [
        f"price:{each.pk}" for each in (first, first, second, second)
    ]
    assert listed.price_at(JANUARY - timedelta(microseconds=1)) is None


def test_price_of_the_future_is_known_and_not_yet_applied(provider: Provider) -> None:
    """A snapshot of today is right tomorrow, without another look at the database."""
    of = model(provider, "m")
    version(of, FAR, {(Component.INPUT, 0): "9"})
    version(of, JANUARY, {(Component.INPUT, 0): "1"})

    listed = pricebook.listed(provider=provider.slug, name="m")

    assert listed is not None
    rates = [listed.price_at(at) for at in (datetime.now(UTC), FAR)]
    assert [each.rates[0].rate for each in rates if each] == [1, 9]


def test_model_without_a_price_is_known_and_has_none(provider: Provider) -> None:
    model(provider, "m", context_window=1_000, output_tokens_max=10)

    listed = pricebook.listed(provider=provider.slug, name="m")

    assert listed is not None
    assert (listed.context_window, listed.output_tokens_max) == (1_000, 10)
    assert listed.price_at(datetime.now(UTC)) is None


def test_rates_come_with_their_tiers_and_to_the_last_decimal(provider: Provider) -> None:
    of = model(provider, "m")
    version(of, JANUARY, {
        (Component.INPUT, 0): "0.000000000000000001",
        (Component.INPUT, 200_000): "999999999999.999999999999999999",
        (Component.REQUEST, 0): "0",
    })  # fmt: skip

    listed = pricebook.listed(provider=provider.slug, name="m")

    assert listed is not None
    price = listed.price_at(JUNE)
    assert price is not None
    assert price.currency == "USD"
    assert set(price.rates) == {
        Rate(Component.INPUT, Decimal("1E-18")),
        Rate(Component.INPUT, Decimal("999999999999.999999999999999999"), 200_000),
        Rate(Component.REQUEST, Decimal(0)),
    }


def test_all_prices_of_a_model_take_a_fixed_number_of_queries(
    provider: Provider, django_assert_num_queries: object
) -> None:
    of = model(provider, "m")
    for month in range(1, 9):
        version(of, datetime(2026, month, 1, tzinfo=UTC), {(Component.INPUT, 0): "1"})

    with django_assert_num_queries(3):  # type: ignore[operator]  # pytest-django's fixture
        listed = pricebook.listed(provider=provider.slug, name="m")

    assert listed is not None
    assert len(listed.versions) == 8


@pytest.mark.parametrize(
    ("constraint", "again"),
    [
        ("model_once_per_provider", lambda of: model(of.provider, of.name)),
        ("price_once_per_model_organization_and_date", lambda of: version(of, JANUARY, {})),
        ("rate_not_negative", lambda of: version(of, JUNE, {(Component.INPUT, 0): "-1E-18"})),
        ("rate_once_per_component_and_conditions", lambda of: [
            PriceRate.objects.create(
                version=PriceVersion.objects.get(model=of), component="input", rate=1
            ) for _ in "ab"
        ]),
    ],
)  # fmt: skip
def test_price_book_is_kept_in_order_by_the_database(
    constraint: str, again: object, provider: Provider
) -> None:
    of = model(provider, "m")
    version(of, JANUARY, {})

    with pytest.raises(IntegrityError, match=constraint):
        again(of)  # type: ignore[operator]


# --- A deployment's own price ------------------------------------------------------------


@pytest.mark.no_servers
def test_price_fields_of_a_deployment_make_a_price_of_their_own() -> None:
    fields = {"input_cost_per_token": "0.0000015", "output_cost_per_token": "2e-06"}

    price = pricebook.overriding(fields, reference="deployment:d")

    assert price is not None
    assert (price.currency, price.reference) == ("USD", "deployment:d")
    usage = {Component.INPUT: 2, Component.OUTPUT: 3, Component.CACHED_READ: 1}
    assert pricing.cost(price=price, usage=usage).amount == Decimal("0.0000105")


@pytest.mark.no_servers
def test_deployment_without_price_fields_has_no_price_of_its_own() -> None:
    assert pricebook.overriding({}, reference="deployment:d") is None
