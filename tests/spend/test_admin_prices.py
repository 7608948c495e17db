"""Prices, discounts and margins in the admin: entered as people read them, slips caught."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from budgets.models import Change
from budgets.snapshots import GLOBAL_SCOPE
from spend.models import Model, PriceAdjustment, PriceVersion
from tests import admin_site
from tests.admin_site import Pages, errors_of, few_queries, form_of, login, raises_version, text_of
from tests.conftest import Cast
from tests.spend.price_support import BAD_TEXTS, DAY, new_model, now, priced, rate

ADD = Pages(PriceVersion).url("add")
PREVIEW = "/admin/spend/priceversion/preview/"


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def model() -> Model:
    return new_model()


def rates(*given: dict[str, Any]) -> dict[str, str]:
    sent = {"rates-TOTAL_FORMS": str(len(given)), "rates-INITIAL_FORMS": "0"}
    for index, each in enumerate(given):
        sent |= {f"rates-{index}-{name}": str(value) for name, value in each.items()}
    return sent


def add(root: Client, model: Model, *given: dict[str, Any], **changed: Any) -> Any:
    sent = form_of(root, ADD) | {"model": str(model.pk)} | rates(*given)
    return root.post(ADD, {**sent, **changed})


def errors_of_rates(answer: Any) -> list[dict[str, Any]]:
    (formset,) = (each.formset for each in answer.context["inline_admin_formsets"])
    return [dict(each) for each in formset.errors]


# --- Entering ----------------------------------------------------------------------------------


def test_a_price_made_here_counts_at_once_and_keeps_who_made_it(root: Client, model: Model) -> None:
    with raises_version(GLOBAL_SCOPE):
        answer = add(
            root, model, {"component": "input", "rate": "2.50"},
            {"component": "input_audio_ms", "rate": "0.0001"},
            {"component": "images", "rate": "0.04", "variant": "high/1024x1024"},
            region_factors="us 1.10\neu 1.05", reason="a contract",
        )  # fmt: skip

    made = PriceVersion.objects.get(model=model)
    assert answer.status_code == 302
    assert (made.source, made.region_factors) == ("manual", {"us": "1.1", "eu": "1.05"})
    assert sorted(made.rates.values_list("component", "per")) == [
        ("images", 1),
        ("input", 1_000_000),
        ("input_audio_ms", 1_000),
    ]
    change = admin_site.newest_change("spend_priceversion")
    assert change.actor.startswith("admin:")
    assert change.reason == "a contract"


@pytest.mark.parametrize("bad", BAD_TEXTS)
@pytest.mark.parametrize("name", ["rate", "per", "tier_from"])
def test_no_bad_number_is_taken_in_a_rate(name: str, bad: str, root: Client, model: Model) -> None:
    if not bad and name != "rate":
        pytest.skip("left empty: the usual number")
    before = Change.objects.count()

    answer = add(root, model, {"component": "input", "rate": "1", name: bad})

    assert answer.status_code == 200
    assert list(errors_of_rates(answer)[0]) == [name]
    assert Change.objects.count() == before


@pytest.mark.parametrize("bad", [*BAD_TEXTS, "true", "[]"])
def test_no_bad_number_is_taken_as_a_region_factor(bad: str, root: Client, model: Model) -> None:
    answer = add(root, model, {"component": "input", "rate": "1"}, region_factors=f"us {bad}")

    assert list(errors_of(answer)) == ["region_factors"]
    assert not PriceVersion.objects.filter(model=model).exists()


@pytest.mark.parametrize("bad", [*BAD_TEXTS, "true", "[]"])
@pytest.mark.parametrize("name", ["discount_percent", "margin_percent", "margin_per_request"])
def test_no_bad_number_is_taken_in_an_adjustment(name: str, bad: str, root: Client) -> None:
    before = Change.objects.count()

    answer = admin_site.save(root, Pages(PriceAdjustment).url("add"), **{name: bad})

    assert list(errors_of(answer)) == [name]
    assert Change.objects.count() == before


def test_what_does_not_fit_together_stands_at_its_rate(root: Client, model: Model) -> None:
    answer = add(
        root, model, {"component": "input", "rate": "1"},
        {"component": "output", "rate": "2", "tier_from": "200000"},
    )  # fmt: skip

    assert [list(each) for each in errors_of_rates(answer)] == [[], ["tier_from"]]


def test_a_price_needs_a_rate(root: Client, model: Model) -> None:
    answer = add(root, model)

    assert answer.status_code == 200
    assert not PriceVersion.objects.filter(model=model).exists()


def test_two_prices_from_one_moment_are_refused_at_the_field(root: Client, model: Model) -> None:
    at = (now() - DAY).replace(microsecond=0)
    priced(model, effective_from=at)

    answer = add(
        root, model, {"component": "input", "rate": "2.50"},
        effective_from_0=f"{at:%Y-%m-%d}", effective_from_1=f"{at:%H:%M:%S}",
    )  # fmt: skip

    assert errors_of(answer) == {"effective_from": ["Is taken."]}


# --- Slips of units ----------------------------------------------------------------------------


def test_a_rate_that_jumps_needs_a_tick(root: Client, model: Model) -> None:
    priced(model)
    slip = {"component": "input", "rate": "2.50", "per": "1000"}

    refused = add(root, model, slip)
    ticked = add(root, model, slip, confirm="on")

    (told,) = errors_of(refused)["confirm"]
    assert "2.50 per 1,000,000 tokens" in told
    assert "× 1000" in told
    assert ticked.status_code == 302
    assert PriceVersion.objects.filter(model=model).count() == 2


def test_the_preview_tells_a_sample_and_the_factor(root: Client, model: Model) -> None:
    priced(model)
    sent = form_of(root, ADD) | {"model": str(model.pk)}
    given = ({"component": "input", "rate": "5"}, {"component": "output", "rate": "100.1"})

    page = text_of(root.post(PREVIEW, {**sent, **rates(*given)}))

    assert "USD 0.05505" in page
    assert "5.00 per 1,000,000 tokens" in page
    assert "× 2<" in page
    assert page.count("check this") == 1
    assert PriceVersion.objects.filter(model=model).count() == 1


def test_the_preview_of_a_half_filled_form_tells_nothing(root: Client, model: Model) -> None:
    page = root.post(PREVIEW, {"rates-TOTAL_FORMS": "0", "rates-INITIAL_FORMS": "0"})

    assert page.status_code == 200
    assert "as soon as" in text_of(page)


def test_only_who_may_add_prices_has_a_preview(model: Model) -> None:
    reader = login(admin_site.staff("spend.view_priceversion"))

    assert reader.post(PREVIEW, {}).status_code == 403


# --- Correcting --------------------------------------------------------------------------------


def test_a_price_that_has_begun_is_shown_in_words_and_not_written(
    root: Client, model: Model
) -> None:
    version = priced(model, rate(), rate("output_audio_ms", "0.06", per=60_000))

    page = text_of(root.get(Pages(PriceVersion).url("change", version.pk)))
    answer = root.post(Pages(PriceVersion).url("change", version.pk), {"currency": "EUR"})

    assert 'name="_save"' not in page
    assert "2.50 per 1,000,000 tokens" in page
    assert "0.001 per second of audio" in page
    assert "Correct this price" in page
    assert answer.status_code == 403
    version.refresh_from_db()
    assert version.currency == "USD"


def test_a_correction_is_a_filled_form_and_makes_a_new_price(
    root: Client, model: Model, cast: Cast
) -> None:
    old = priced(model, organization=cast.organization)
    lead = root.get(reverse("admin:spend_priceversion_correct", args=[old.pk]))
    url = lead.headers["location"]

    sent = form_of(root, url)
    answer = root.post(url, {**sent, "rates-0-rate": "3"})

    assert answer.status_code == 302
    assert {sent["rates-0-rate"], sent["rates-1-rate"]} == {"2.5", "10"}
    old.refresh_from_db()
    new = old.replaced_by
    assert new is not None
    assert (new.model, new.organization) == (model, cast.organization)
    assert sorted(new.rates.values_list("rate", flat=True)) == [Decimal(3), Decimal(10)]


def test_a_price_that_begins_later_is_changed_on_its_own_page(root: Client, model: Model) -> None:
    version = priced(model, effective_from=now() + DAY)
    url = Pages(PriceVersion).url("change", version.pk)

    answer = admin_site.save(root, url, **{"rates-0-rate": "4", "currency": "USD"})

    assert answer.status_code == 302
    assert PriceVersion.objects.filter(model=model).count() == 1
    assert Decimal(4) in set(version.rates.values_list("rate", flat=True))


def test_a_price_ends_where_somebody_says_so(root: Client, model: Model) -> None:
    version = priced(model)
    url = reverse("admin:spend_priceversion_end", args=[version.pk])

    page = root.get(url)
    refused = root.post(url, {"effective_until": "2020-01-01 00:00"})
    ended = root.post(url, {})

    assert page.status_code == 200
    assert "Must not be in the past." in text_of(refused)
    assert ended.status_code == 302
    version.refresh_from_db()
    assert version.effective_until is not None
    assert admin_site.newest_change("spend_priceversion").actor.startswith("admin:")


# --- Lists -------------------------------------------------------------------------------------


def test_which_price_is_in_force_is_told_apart(root: Client, model: Model, cast: Cast) -> None:
    past, current, future = (
        priced(model, effective_from=now() + days * DAY) for days in (-9, -1, 9)
    )
    own = priced(model, effective_from=now() - 2 * DAY, organization=cast.organization)
    ended = priced(
        model, effective_from=now() - 3 * DAY, effective_until=now() - DAY,
        organization=cast.outsider,
    )  # fmt: skip
    PriceVersion.objects.filter(pk=past.pk).update(replaced_by=current)
    url, asked = Pages(PriceVersion).url("changelist"), {"q": model.provider.slug}

    expected = {"now": {current, own}, "past": {ended}, "future": {future}, "replaced": {past}}
    for state, versions in expected.items():
        page = root.get(url, {**asked, "in_force": state})
        assert set(page.context["cl"].result_list) == versions, state
    assert "USD 2.5 in · 10 out" in text_of(root.get(url, asked))


@pytest.mark.parametrize("kind", [PriceVersion, PriceAdjustment, Model])
def test_lists_ask_the_database_a_few_times(kind: Any, root: Client, cast: Cast) -> None:
    for days in range(1, 8):
        model = new_model()
        priced(model, effective_from=now() - days * DAY, organization=cast.organization)
        PriceAdjustment.objects.create(
            provider=model.provider, organization=cast.organization, team=cast.team,
            effective_from=now() - timedelta(days=days),
        )  # fmt: skip

    with few_queries():
        assert root.get(Pages(kind).url("changelist")).status_code == 200


def test_a_models_page_has_its_prices_by_organization(
    root: Client, model: Model, cast: Cast
) -> None:
    priced(model)
    priced(model, rate(rate="2.25"), organization=cast.organization)

    page = text_of(root.get(Pages(Model).url("change", model.pk)))

    assert page.index("For everybody") < page.index(f"For {cast.organization}")
    assert "USD 2.25 in" in page


# --- Discounts and margins ---------------------------------------------------------------------


def test_a_discount_is_made_told_and_ended(root: Client, cast: Cast) -> None:
    answer = admin_site.save(
        root, Pages(PriceAdjustment).url("add"), team=cast.team.pk, discount_percent="12.5",
        margin_per_request="0.001", reason="a contract",
    )  # fmt: skip
    made = PriceAdjustment.objects.get(team=cast.team)
    page = text_of(root.get(Pages(PriceAdjustment).url("change", made.pk)))
    ended = root.post(reverse("admin:spend_priceadjustment_end", args=[made.pk]), {})

    assert answer.status_code == 302
    assert made.organization == cast.organization
    assert "12.5 % off, then 0.001 more each request" in page
    assert 'name="_save"' not in page
    assert ended.status_code == 302
    made.refresh_from_db()
    assert made.effective_until is not None


def test_a_team_of_another_organization_is_refused_at_its_field(root: Client, cast: Cast) -> None:
    answer = admin_site.save(
        root, Pages(PriceAdjustment).url("add"), organization=cast.outsider.pk, team=cast.team.pk
    )

    assert errors_of(answer) == {"team": ["Is no team of that organization."]}
    assert not PriceAdjustment.objects.filter(team=cast.team).exists()
