"""Prices, discounts and margins by the API."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from budgets.models import Change
from spend.models import Model, PriceAdjustment, PriceVersion, Provider
from tests.admin_site import few_queries, newest_change
from tests.api_client import Api, master
from tests.conftest import Cast
from tests.spend.price_support import BAD_VALUES, DAY, new_model, now, priced, rate

PRICES, ADJUSTMENTS = "/api/v1/prices", "/api/v1/price-adjustments"
DISCOUNTS, MARGINS = "/config/cost_discount_config", "/config/cost_margin_config"


@pytest.fixture
def model() -> Model:
    return new_model()


def body(model: Model, **values: Any) -> dict[str, Any]:
    rates = [rate(), rate("output", "10")]
    return {"provider": model.provider.slug, "model": model.name, "rates": rates, **values}


def listed(model: Model, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = master().told(PRICES, provider=model.provider.slug, **query)
    return found


# --- Prices ------------------------------------------------------------------------------------


def test_a_price_is_made_and_told_as_it_was_given(model: Model) -> None:
    made = master().made(PRICES, **body(model, region_factors={"us": "1.10"}, reason="a contract"))

    assert made["rates"][0] == {
        "component": "input", "rate": "2.5", "per": 1_000_000, "tier_from": 0,
        "service_tier": None, "variant": None, "window": None,
    }  # fmt: skip
    assert made["region_factors"] == {"us": "1.1"}
    assert made["sample_cost"] == "0.0075"
    assert (made["state"], made["source"], made["currency"]) == ("now", "manual", "USD")
    change = newest_change("spend_priceversion")
    assert (change.actor, change.reason) == ("master key", "a contract")
    assert listed(model) == [made]


@pytest.mark.parametrize("bad", [each for each in BAD_VALUES if each is not None], ids=repr)
@pytest.mark.parametrize("name", ["rate", "per", "tier_from"])
def test_no_bad_number_is_taken_in_a_rate(name: str, bad: Any, model: Model) -> None:
    before = Change.objects.count()

    reply = master().post(PRICES, body(model, rates=[{**rate(), name: bad}]))

    assert reply.status == 400
    assert reply.error["param"] == f"rates[0].{name}"
    assert Change.objects.count() == before


@pytest.mark.parametrize("bad", [each for each in BAD_VALUES if each is not None], ids=repr)
@pytest.mark.parametrize("name", ["discount_percent", "margin_percent", "margin_per_request"])
def test_no_bad_number_is_taken_in_an_adjustment(name: str, bad: Any) -> None:
    before = PriceAdjustment.objects.count()

    reply = master().post(ADJUSTMENTS, {name: bad})

    assert (reply.status, reply.error["param"]) == (400, name)
    assert PriceAdjustment.objects.count() == before


def test_a_slip_of_units_is_refused_and_can_be_confirmed(model: Model) -> None:
    slip = body(model, rates=[rate(per=1_000)])
    priced(model)

    reply = master().post(PRICES, slip)

    assert (reply.status, reply.error["code"]) == (400, "not_confirmed")
    assert reply.error["param"] == "rates[0].rate"
    assert len(listed(model)) == 1
    master().made(PRICES, **slip, confirm=True)
    assert len(listed(model)) == 2


def test_a_model_that_is_unknown_is_added_only_where_that_is_asked_for(model: Model) -> None:
    new = body(model) | {"model": "new", "rates": [rate(per=1)]}

    assert master().post(PRICES, new).error["param"] == "model"
    assert master().post(PRICES, {**new, "create_model": True}).error["code"] == "not_confirmed"
    assert not Model.objects.filter(provider=model.provider, name="new").exists()
    made = master().made(PRICES, **new, create_model=True, confirm=True)

    assert made["model"] == "new"


def test_a_correction_leaves_the_charged_price_as_it_is(model: Model) -> None:
    old = priced(model, region_factors={"us": "1.1"})

    made = master().made(f"{PRICES}/correct", price_id=old.pk, rates=[rate(rate="3")])

    rows = {row["price_id"]: row for row in listed(model)}
    assert rows[old.pk]["state"] == "replaced"
    assert rows[old.pk]["replaced_by"] == made["price_id"]
    assert rows[old.pk]["rates"][0]["rate"] == "2.5"
    assert made["rates"][0]["rate"] == "3"
    assert made["region_factors"] == {"us": "1.1"}
    assert made["effective_from"] == rows[old.pk]["effective_from"]


def test_what_is_left_out_of_a_correction_stays_and_null_takes_an_end_away(model: Model) -> None:
    old = priced(model, effective_until=now() + DAY)
    rates = [rate(rate="3")]

    kept = master().made(f"{PRICES}/correct", price_id=old.pk, rates=rates)
    freed = master().made(
        f"{PRICES}/correct", price_id=kept["price_id"], rates=rates, effective_until=None
    )

    assert kept["effective_until"] is not None
    assert freed["effective_until"] is None


def test_a_price_ends_and_one_that_has_not_begun_is_deleted(model: Model) -> None:
    begun, later = priced(model), priced(model, effective_from=now() + DAY)

    ended = master().made(f"{PRICES}/end", price_id=begun.pk)
    master().made(f"{PRICES}/delete", price_id=later.pk)
    refusal = master().post(f"{PRICES}/delete", {"price_id": begun.pk})

    assert ended["state"] == "ended"
    assert refusal.error["param"] == "price_id"
    assert list(PriceVersion.objects.filter(model=model)) == [begun]


@pytest.mark.parametrize("path", ["correct", "end", "delete"])
def test_a_price_that_there_is_not_is_not_found(path: str) -> None:
    rates = {"rates": [rate()]} if path == "correct" else {}

    reply = master().post(f"{PRICES}/{path}", {"price_id": 2**40, **rates})

    assert (reply.status, reply.error["param"]) == (404, "price_id")


def test_prices_are_listed_by_organization_and_by_time(model: Model, cast: Cast) -> None:
    for_all = priced(model, effective_from=now() - 3 * DAY)
    newer = priced(model, effective_from=now() - DAY)
    own = priced(model, organization=cast.organization)
    others = priced(model, organization=cast.outsider)

    def ids(**query: Any) -> set[int]:
        return {row["price_id"] for row in listed(model, **query)}

    whose = cast.organization.public_id
    assert ids() == {for_all.pk, newer.pk, own.pk, others.pk}
    assert ids(organization_id=whose) == {for_all.pk, newer.pk, own.pk}
    assert ids(organization_id=whose, at=now().isoformat().replace("+00:00", "Z")) == {
        newer.pk,
        own.pk,
    }
    assert ids(at=f"{now() - 2 * DAY:%Y-%m-%dT%H:%M:%SZ}") == {for_all.pk}


def test_a_long_list_asks_the_database_a_few_times(model: Model) -> None:
    for days in range(12):
        priced(model, effective_from=now() - timedelta(days=days + 1))

    with few_queries(6):
        assert len(listed(model, size=10)) == 10


def test_no_virtual_key_sees_or_writes_prices(model: Model, cast: Cast) -> None:
    api = Api(cast.key().secret)
    before = Change.objects.count()

    replies = [
        api.get(PRICES), api.post(PRICES, body(model)), api.get(ADJUSTMENTS),
        api.post(ADJUSTMENTS, {"discount_percent": "5"}), api.get(DISCOUNTS),
        api.patch(DISCOUNTS, {}), api.get(MARGINS), api.patch(MARGINS, {}),
    ]  # fmt: skip

    assert {reply.status for reply in replies} == {403}
    assert Change.objects.count() == before


# --- Discounts and margins ---------------------------------------------------------------------


def test_an_adjustment_is_made_told_and_ended(model: Model, cast: Cast) -> None:
    made = master().made(
        ADJUSTMENTS, provider=model.provider.slug, team_id=cast.team.public_id,
        discount_percent="12.5", margin_per_request="0.001", reason="a contract",
    )  # fmt: skip
    (told,) = master().told(ADJUSTMENTS, team_id=cast.team.public_id)
    ended = master().made(f"{ADJUSTMENTS}/end", adjustment_id=made["adjustment_id"])

    assert told == made
    assert made["organization_id"] == cast.organization.public_id
    assert (made["discount_percent"], made["margin_percent"]) == ("12.5", "0")
    assert made["margin_per_request"] == "0.001"
    assert ended["state"] == "ended"
    assert newest_change("spend_priceadjustment").actor == "master key"


def test_an_organization_sees_its_own_adjustments_and_those_for_everybody(
    model: Model, cast: Cast
) -> None:
    for organization in (cast.organization, cast.outsider):
        master().made(
            ADJUSTMENTS, provider=model.provider.slug, organization_id=organization.public_id
        )
    for_all = master().made(ADJUSTMENTS, provider=model.provider.slug)

    told = master().told(
        ADJUSTMENTS, provider=model.provider.slug, organization_id=cast.organization.public_id
    )

    assert {row["organization_id"] for row in told} == {cast.organization.public_id, None}
    assert for_all["adjustment_id"] in {row["adjustment_id"] for row in told}


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("provider", {"provider": "nobody-knows-it"}),
        ("discount_percent", {"discount_percent": "100.000001"}),
        ("margin_percent", {"margin_percent": "1000.1"}),
        ("effective_until", {"effective_until": "2020-01-01T00:00:00Z"}),
    ],
)
def test_what_does_not_fit_is_named(field: str, sent: dict[str, Any]) -> None:
    reply = master().post(ADJUSTMENTS, sent)

    assert (reply.status, reply.error["param"]) == (400, field)


def test_an_adjustment_that_has_not_begun_is_deleted(cast: Cast) -> None:
    whose = {"organization_id": cast.organization.public_id}
    later = master().made(ADJUSTMENTS, **whose, effective_from="2098-01-01T00:00:00Z")
    begun = master().made(ADJUSTMENTS, **whose)

    master().made(f"{ADJUSTMENTS}/delete", adjustment_id=later["adjustment_id"])
    reply = master().post(f"{ADJUSTMENTS}/delete", {"adjustment_id": begun["adjustment_id"]})

    assert reply.status == 400
    rows = PriceAdjustment.objects.filter(organization=cast.organization)
    assert [row.pk for row in rows] == [begun["adjustment_id"]]


# --- LiteLLM's endpoints -----------------------------------------------------------------------


@pytest.fixture
def providers() -> Any:
    """Two providers; and nothing is left behind that other tests would be charged."""
    made = [new_model().provider for _ in range(2)]
    yield made
    master().patch(MARGINS, {})
    master().patch(DISCOUNTS, {})
    assert not _for_all_in_force()


def _for_all_in_force() -> list[Provider | None]:
    rows = PriceAdjustment.objects.filter(organization=None, team=None, effective_until=None)
    return [row.provider for row in rows if row.provider is None]


def patched(path: str, **values: Any) -> Any:
    reply = master().patch(path, values)
    assert reply.status == 200, reply.text
    assert reply.content["status"] == "success"
    return reply.content["values"]


def test_litellms_discounts_and_margins_are_kept_side_by_side(providers: list[Provider]) -> None:
    one, other = (each.slug for each in providers)

    assert patched(DISCOUNTS, **{one: 0.05}) == {one: Decimal("0.05")}
    margins = patched(MARGINS, **{one: {"percentage": 0.1, "fixed_amount": 0.001}, other: 0.2})

    assert margins == {
        one: {"percentage": Decimal("0.1"), "fixed_amount": Decimal("0.001")},
        other: Decimal("0.2"),
    }
    assert master().told(DISCOUNTS) == {"values": {one: Decimal("0.05")}}
    row = PriceAdjustment.objects.get(provider=providers[0], effective_until=None)
    assert (row.discount_percent, row.margin_percent) == (Decimal(5), Decimal(10))
    assert row.margin_per_request == Decimal("0.001")


def test_a_global_margin_is_that_of_every_other_provider(providers: list[Provider]) -> None:
    one, other = (each.slug for each in providers)
    patched(DISCOUNTS, **{one: 0.05})

    margins = patched(MARGINS, **{"global": 0.3, other: 0})

    assert margins == {"global": Decimal("0.3"), other: Decimal(0)}
    row = PriceAdjustment.objects.get(provider=providers[0], effective_until=None)
    assert (row.discount_percent, row.margin_percent) == (Decimal(5), Decimal(30))
    assert master().told(DISCOUNTS)["values"] == {one: Decimal("0.05")}


def test_what_is_sent_replaces_all_of_its_kind(providers: list[Provider]) -> None:
    one, other = (each.slug for each in providers)
    patched(DISCOUNTS, **{one: 0.05})
    patched(MARGINS, **{one: 0.1})

    assert patched(DISCOUNTS, **{other: 0.07}) == {other: Decimal("0.07")}

    assert master().told(MARGINS)["values"] == {one: Decimal("0.1")}
    assert master().told(DISCOUNTS)["values"] == {other: Decimal("0.07")}


def test_what_stays_as_it_was_is_not_written_again(providers: list[Provider]) -> None:
    one = providers[0].slug
    patched(DISCOUNTS, **{one: 0.05})
    before = Change.objects.count()

    patched(DISCOUNTS, **{one: 0.05})

    assert Change.objects.count() == before


def test_a_provider_that_is_not_in_the_price_book_is_refused_by_name() -> None:
    reply = master().patch(DISCOUNTS, {"nobody-knows-it": 0.05})

    assert (reply.status, reply.error["param"]) == (400, "nobody-knows-it")
