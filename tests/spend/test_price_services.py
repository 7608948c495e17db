"""Prices, discounts and margins are checked once, and what was charged is never edited."""

import time
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from budgets import changes
from budgets.errors import Conflict, InvalidInput
from budgets.snapshots import GLOBAL_SCOPE
from spend import price_terms, pricebook
from spend.models import Model, PriceAdjustment, PriceRate, PriceVersion
from spend.price_terms import NotConfirmed
from spend.services import adjustments, prices
from tests.admin_site import newest_change, raises_version
from tests.conftest import Cast
from tests.spend.price_support import BAD_VALUES, DAY, new_model, now, priced, rate, wanted


@pytest.fixture
def model() -> Model:
    return new_model()


def price_of(model: Model, **who: Any) -> str:
    listed = pricebook.listed(provider=model.provider.slug, name=model.name)
    assert listed is not None
    price = listed.price_at(now(), **who)
    return price.reference if price else ""


def refused(field: str, *rates: dict[str, Any], model: Model, **values: Any) -> None:
    before = PriceVersion.objects.count(), PriceRate.objects.count()

    with pytest.raises(InvalidInput) as refusal:
        prices.create_version(wanted=wanted(model, *rates, **values))

    assert refusal.value.field == field
    assert (PriceVersion.objects.count(), PriceRate.objects.count()) == before


# --- What is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD_VALUES, ids=repr)
@pytest.mark.parametrize("name", ["rate", "tier_from", "per"])
def test_no_bad_number_is_taken_in_a_rate(name: str, bad: Any, model: Model) -> None:
    if bad is None and name != "rate":
        pytest.skip("left out: the default")
    refused(f"rates[1].{name}", rate(), rate("output", **{name: bad}), model=model)


@pytest.mark.parametrize("bad", BAD_VALUES, ids=repr)
def test_no_bad_number_is_taken_as_a_region_factor(bad: Any, model: Model) -> None:
    refused("region_factors.us", model=model, region_factors={"us": bad})


@pytest.mark.parametrize("bad", BAD_VALUES, ids=repr)
@pytest.mark.parametrize("name", ["discount_percent", "margin_percent", "margin_per_request"])
def test_no_bad_number_is_taken_in_an_adjustment(name: str, bad: Any) -> None:
    before = PriceAdjustment.objects.count()

    with pytest.raises(InvalidInput) as refusal:
        adjustments.create_adjustment(
            wanted=adjustments.Wanted(effective_from=now(), **{name: bad})
        )

    assert refusal.value.field == name
    assert PriceAdjustment.objects.count() == before


@pytest.mark.parametrize("zero", ["-0", "0", Decimal("-0"), 0, "-0.00"])
def test_minus_nought_is_nought(zero: Any) -> None:
    found = price_terms.number(zero, field="rate", most=Decimal(1))

    assert str(found).lstrip("-") == str(found)
    assert found == 0


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("rates[0].rate", rate(rate="1000001")),
        ("rates[0].rate", rate(rate="0.0000000000000000001")),
        ("rates[0].per", rate(per=0)),
        ("rates[0].component", rate("inputs")),
        ("rates[0].tier_from", rate(tier_from=200_000)),
        ("rates[0].service_tier", rate(service_tier="Batch")),
        ("rates[0].service_tier", rate(service_tier="standard")),
        ("rates[0].service_tier", rate(service_tier=7)),
        ("rates[0].variant", rate(variant="x" * 65)),
        ("rates[0].window", rate(window="Mo-Fr 25:00-26:00")),
        ("rates[0].window", rate(window=["Mo"])),
    ],
)
def test_what_does_not_fit_is_named(field: str, given: dict[str, Any], model: Model) -> None:
    refused(field, given, model=model)


def test_a_rate_for_large_requests_needs_one_under_the_same_conditions(model: Model) -> None:
    large = rate("input", "5", tier_from=200_000, service_tier="batch")
    refused("rates[1].tier_from", rate(), large, model=model)

    made = priced(model, rate(), rate(service_tier="batch"), large)

    assert made.rates.count() == 3


def test_a_class_is_not_priced_twice_under_the_same_conditions(model: Model) -> None:
    refused("rates[1].component", rate(), rate(rate="3"), model=model)


OVERLAPPING = [
    ("Mo-Fr 08:00-12:00", "Fr 11:59-13:00"),
    ("22:00-02:00", "01:00-03:00"),
    ("Mo 00:00-24:00", "Mo,Tu 00:00-24:00"),
    ("Mo@Asia/Shanghai 00:00-24:00", "Su 16:00-24:00"),
    ("Mo@America/New_York 04:00-05:00", "Mo 04:30-04:45"),
    ("Mo@America/New_York 04:00-05:00", "Mo@Europe/Berlin 04:00-05:00"),
]


@pytest.mark.parametrize(("one", "other"), OVERLAPPING)
def test_windows_of_one_class_and_tier_do_not_overlap(one: str, other: str, model: Model) -> None:
    special = [rate(rate="1", window=one), rate(rate="3", window=other)]
    refused("rates[2].window", rate(), *special, model=model)
    refused("rates[2].window", rate(), *reversed(special), model=model)

    others = [rate(), special[0], rate("output"), rate("output", window=other)]
    tiers = [rate(service_tier="batch"), rate(service_tier="batch", window=other)]
    made = priced(model, *others, *tiers)

    assert made.rates.count() == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mo-Fr 08:00-12:00", "Mo-Fr 12:00-08:00"),
        ("Mo-Fr 00:00-24:00", "Sa,Su 00:00-24:00"),
        ("Mo@Asia/Shanghai 00:00-24:00", "Tu@Asia/Shanghai 00:00-24:00"),
        ("Mo@America/New_York 00:00-03:00", "Mo 00:00-03:00"),
        ("00:00-00:00", "00:00-24:00"),
    ],
)
def test_windows_that_only_meet_are_taken(one: str, other: str, model: Model) -> None:
    made = priced(model, rate(), rate(window=one), rate(rate="3", window=other))

    assert made.rates.count() == 3


def test_large_requests_have_rates_of_the_same_window(model: Model) -> None:
    night = "22:00-02:00"
    large = rate(rate="5", tier_from=200_000, window=night)

    made = priced(model, rate(), rate(window=night), large)

    assert made.rates.count() == 3


def test_many_windows_are_looked_at_in_a_moment(model: Model) -> None:
    # Apart in every season, in 400 zones: the most work that a price can make.
    zones = sorted(available_timezones() - {"localtime", "Factory"})[:400]
    spans = [f"{n // 60:02}:{n % 60:02}-{(n + 1) // 60:02}:{(n + 1) % 60:02}" for n in range(400)]
    windows = [
        rate(rate="1", window=f"Mo-Fr@{zone} {span}")
        for zone, span in zip(zones, spans, strict=True)
    ]
    start = time.monotonic()

    found = price_terms.rates([rate(), *windows])

    assert len(found) == 401
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("rates", {"rates": []}),
        ("rates", {"rates": [rate()] * 501}),
        ("currency", {"currency": "usd"}),
        ("effective_until", {"effective_until": now() - 2 * DAY}),
        ("region_factors.US", {"region_factors": {"US": "1.1"}}),
        ("region_factors.us", {"region_factors": {"us": "100.1"}}),
        ("region_factors.us", {"region_factors": {"us": "0"}}),
        ("region_factors", {"region_factors": []}),
        ("source", {"source": "x" * 65}),
    ],
)
def test_terms_that_do_not_fit_are_named(field: str, values: Any, model: Model) -> None:
    refused(field, model=model, **values)


# --- Slips of units ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "per"), [("25.01", 10**6), ("0.2499", 10**6), ("2.50", 1_000), ("0", 1), ("2.50", 1)]
)
def test_a_rate_far_from_the_one_before_must_be_confirmed(new: str, per: int, model: Model) -> None:
    priced(model)
    later = wanted(model, rate(rate=new, per=per), effective_from=now())

    with pytest.raises(NotConfirmed) as refusal:
        prices.create_version(wanted=later)
    made = prices.create_version(wanted=later, confirm=True)

    assert refusal.value.field == "rates[0].rate"
    assert "2.50 per 1,000,000 tokens" in refusal.value.problem
    assert made.rates.get().rate == Decimal(new)


def test_a_class_that_loses_its_rate_is_compared_with_the_one_it_then_takes(model: Model) -> None:
    prices.create_version(wanted=wanted(model, rate(), rate("cached_read", rate="0.025")))
    later = wanted(model, rate(), effective_from=now())

    with pytest.raises(NotConfirmed) as refusal:
        prices.create_version(wanted=later)

    assert refusal.value.field == "rates"
    assert "no more of cached input, which then costs 2.50" in refusal.value.problem
    assert prices.create_version(wanted=later, confirm=True).rates.count() == 1


def test_a_class_that_gets_a_rate_is_compared_with_the_one_it_had_taken(model: Model) -> None:
    priced(model)
    slip = wanted(model, rate(), rate("cached_read", rate="250"), effective_from=now())
    usual = wanted(model, rate(), rate("cached_read", rate="0.25"), effective_from=now())

    with pytest.raises(NotConfirmed) as refusal:
        prices.create_version(wanted=slip)

    assert refusal.value.field == "rates[1].rate"
    assert "was 2.50 per 1,000,000 tokens (× 100)" in refusal.value.problem
    assert prices.check(wanted=usual).jumps == []


@pytest.mark.parametrize("new", ["25", "0.25", "2.50"])
def test_ten_times_as_much_is_no_jump(new: str, model: Model) -> None:
    priced(model)

    made = prices.create_version(
        wanted=wanted(model, rate(rate=new), effective_from=now()), confirm=False
    )

    assert made.rates.get().rate == Decimal(new)


def test_a_first_rate_is_measured_by_what_tokens_can_cost(model: Model) -> None:
    with pytest.raises(NotConfirmed):
        prices.create_version(wanted=wanted(model, rate(rate="2.50", per=1)))
    yen = wanted(model, rate(rate="90000"), currency="JPY")

    assert prices.create_version(wanted=yen).currency == "JPY"


def test_a_price_in_another_currency_is_not_compared(model: Model) -> None:
    priced(model)
    yen = wanted(model, rate(rate="375"), currency="JPY", effective_from=now())

    assert prices.check(wanted=yen).jumps == []


def test_an_organizations_first_price_is_compared_with_everybodys(model: Model, cast: Cast) -> None:
    priced(model)

    with pytest.raises(NotConfirmed):
        prices.create_version(
            wanted=wanted(model, rate(rate="2.50", per=1_000), organization=cast.organization)
        )


# --- Corrections -------------------------------------------------------------------------------


def test_a_price_that_has_begun_is_replaced_not_edited(model: Model) -> None:
    wrong = priced(model)

    with raises_version(GLOBAL_SCOPE), changes.acting(by="somebody"):
        right = prices.correct_version(
            version=wrong,
            wanted=wanted(model, rate(rate="3"), effective_from=wrong.effective_from),
            now=now(),
            reason="misread",
        )

    wrong.refresh_from_db()
    assert right.pk != wrong.pk
    assert wrong.replaced_by_id == right.pk
    assert sorted(wrong.rates.values_list("rate", flat=True)) == [Decimal("2.5"), Decimal(10)]
    assert price_of(model) == f"price:{right.pk}"
    change = newest_change("spend_priceversion")
    assert (change.actor, change.reason) == ("somebody", "misread")


def test_a_price_that_begins_later_is_changed_itself(model: Model) -> None:
    future = priced(model, effective_from=now() + DAY)

    changed = prices.correct_version(
        version=future,
        wanted=wanted(model, rate(rate="3"), effective_from=now() + 2 * DAY),
        now=now(),
    )

    assert changed.pk == future.pk
    assert PriceVersion.objects.filter(model=model).count() == 1
    future.refresh_from_db()
    assert future.replaced_by_id is None
    assert future.effective_from > now() + DAY
    assert future.rates.get().rate == 3


def test_a_price_is_corrected_once(model: Model) -> None:
    wrong = priced(model)
    again = wanted(model, rate(rate="3"), effective_from=wrong.effective_from)
    right = prices.correct_version(version=wrong, wanted=again, now=now())

    with pytest.raises(InvalidInput) as refusal:
        prices.correct_version(version=wrong, wanted=again, now=now())

    assert refusal.value.field == "price_id"
    assert price_of(model) == f"price:{right.pk}"
    assert PriceVersion.objects.filter(model=model).count() == 2


def test_a_correction_can_be_corrected(model: Model) -> None:
    first = priced(model)
    for text in ("3", "4"):
        first = prices.correct_version(
            version=first,
            wanted=wanted(model, rate(rate=text), effective_from=first.effective_from),
            now=now(),
        )

    assert price_of(model) == f"price:{first.pk}"
    assert first.rates.get().rate == 4


def test_a_correction_keeps_model_and_organization(model: Model, cast: Cast) -> None:
    version = priced(model)

    with pytest.raises(InvalidInput):
        prices.correct_version(
            version=version, wanted=wanted(model, organization=cast.organization), now=now()
        )

    assert PriceVersion.objects.filter(model=model).count() == 1


def corrected(version: PriceVersion, at: datetime, **values: Any) -> PriceVersion:
    return prices.correct_version(
        version=version,
        wanted=wanted(version.model, rate(rate="3"), **values),
        now=at,
    )


@pytest.mark.parametrize("has_older", [True, False])
def test_a_correction_takes_no_price_out_of_force(has_older: bool, model: Model) -> None:
    if has_older:
        priced(model, rate(rate="1"), effective_from=now() - 9 * DAY)
    version, at = priced(model), now()
    later = version.effective_from + timedelta(microseconds=1)

    with pytest.raises(InvalidInput) as beginning:
        corrected(version, at, effective_from=later)
    with pytest.raises(InvalidInput) as end:
        corrected(
            version, at,
            effective_from=version.effective_from, effective_until=at - timedelta(seconds=1),
        )  # fmt: skip

    assert (beginning.value.field, end.value.field) == ("effective_from", "effective_until")
    assert "add a price" in beginning.value.problem
    assert price_of(model) == f"price:{version.pk}"


def test_a_correction_may_begin_earlier_and_end_now(model: Model) -> None:
    version, at = priced(model), now()

    made = corrected(version, at, effective_from=at - 2 * DAY, effective_until=at)

    assert (made.effective_from, made.effective_until) == (at - 2 * DAY, at)


def test_a_price_that_is_over_can_be_corrected_and_stays_over(model: Model) -> None:
    version = priced(model)
    at = now()
    prices.end_version(version=version, at=at, now=at)

    made = corrected(
        version, at + DAY, effective_from=version.effective_from, effective_until=at
    )  # fmt: skip

    assert made.effective_until == at
    assert price_of(model) == ""


def test_a_price_that_begins_later_is_not_corrected_into_the_past(model: Model) -> None:
    version, at = priced(model, effective_from=now() + DAY), now()

    with pytest.raises(InvalidInput) as refusal:
        corrected(version, at, effective_from=at - 3 * DAY, effective_until=at - 2 * DAY)

    assert refusal.value.field == "effective_until"
    assert PriceVersion.objects.get(model=model).effective_from > at


def test_two_prices_do_not_begin_at_one_instant(model: Model) -> None:
    version = priced(model)

    with pytest.raises(Conflict) as refusal:
        prices.create_version(wanted=wanted(model, effective_from=version.effective_from))

    assert refusal.value.field == "effective_from"


# --- Ends --------------------------------------------------------------------------------------


def test_a_price_that_ended_prices_nothing(model: Model) -> None:
    version = priced(model)
    at = now()

    prices.end_version(version=version, at=at, now=at)

    assert price_of(model) == ""


def test_an_end_is_not_in_the_past_and_not_before_the_beginning(model: Model) -> None:
    version, later = priced(model), priced(model, effective_from=now() + 2 * DAY)

    for each, at in ((version, now() - timedelta(hours=1)), (later, now() + DAY)):
        with pytest.raises(InvalidInput) as refusal:
            prices.end_version(version=each, at=at, now=now())
        assert refusal.value.field == "effective_until"

    prices.end_version(version=version, at=now() + DAY, now=now())
    with pytest.raises(InvalidInput):
        prices.end_version(version=version, at=now() + 3 * DAY, now=now() + 2 * DAY)


def test_only_what_has_not_begun_is_deleted(model: Model) -> None:
    begun, later = priced(model), priced(model, effective_from=now() + DAY)

    prices.delete_version(version=later, now=now())
    with pytest.raises(InvalidInput):
        prices.delete_version(version=begun, now=now())

    assert list(PriceVersion.objects.filter(model=model)) == [begun]


def test_the_rates_of_a_price_are_written_in_one_statement(model: Model) -> None:
    many = [rate(), *(rate(variant=f"v{number}") for number in range(200))]

    with CaptureQueriesContext(connection) as captured:
        priced(model, *many)

    written = [each for each in captured if each["sql"].startswith('INSERT INTO "spend_pricerate"')]
    assert len(written) == 1
    assert PriceRate.objects.filter(version__model=model).count() == 201


# --- Adjustments -------------------------------------------------------------------------------


def test_a_teams_adjustment_is_its_organizations(cast: Cast) -> None:
    made = adjustments.create_adjustment(
        wanted=adjustments.Wanted(effective_from=now(), team=cast.team, discount_percent="10")
    )

    assert made.organization == cast.organization


def test_a_team_of_another_organization_is_refused(cast: Cast) -> None:
    with pytest.raises(InvalidInput) as refusal:
        adjustments.create_adjustment(
            wanted=adjustments.Wanted(
                effective_from=now(), organization=cast.outsider, team=cast.team
            )
        )

    assert refusal.value.field == "team_id"


def test_an_adjustment_is_ended_not_deleted_once_it_has_begun(cast: Cast) -> None:
    made = adjustments.create_adjustment(
        wanted=adjustments.Wanted(
            effective_from=now() - DAY, organization=cast.organization, discount_percent="10"
        )
    )

    with pytest.raises(InvalidInput):
        adjustments.delete_adjustment(adjustment=made, now=now())
    at = now()
    adjustments.end_adjustment(adjustment=made, at=at, now=at)

    made.refresh_from_db()
    assert made.effective_until == at
    with pytest.raises(InvalidInput):
        adjustments.end_adjustment(adjustment=made, at=now(), now=now())
