"""The admin's pages of exchange rates: add, look at, approve, reject."""

from typing import Any

import pytest
from django.test import Client

from budgets.models import Change
from spend.models import ExchangeRate, RateFetch, RateState
from spend.services import exchange_rates
from tests import admin_site, rates
from tests.admin_site import Pages, errors_of, login, save, text_of
from tests.spend.test_exchange import BAD_RATES

PAGES = Pages(ExchangeRate)
TYPED = [rate for rate in BAD_RATES if rate == rate.strip()]
"""A form takes blanks around a text away."""


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def doubtful(currency: str) -> ExchangeRate:
    rates.add(("EUR", currency), "2", on=rates.days_ago(1))
    return rates.add(("EUR", currency), "20")


def form(currency: str, **fields: str) -> dict[str, str]:
    return {"base": "EUR", "quote": currency, "date": str(rates.today()), "rate": "2.5"} | fields


def decide(client: Client, verb: str, rate: ExchangeRate, reason: str) -> Any:
    url = f"/admin/spend/exchangerate/{rate.pk}/{verb}/"
    return client.post(url, {"reason": reason}, follow=True)


def test_a_rate_is_added_by_hand(root: Client, currency: str) -> None:
    save(root, PAGES.url("add"), **form(currency, rate="2.500000000000001"))

    made = ExchangeRate.objects.get(quote=currency)
    assert f"{made.rate:f}" == "2.500000000000001"
    assert (made.source, made.state) == ("manual", "in_force")
    assert f"1 EUR = 2.500000000000001 {currency}" in text_of(root.get(PAGES.url("changelist")))


@pytest.mark.parametrize("rate", [*TYPED, "9" * 100])
def test_a_bad_rate_is_refused_at_its_field(root: Client, currency: str, rate: str) -> None:
    answer = root.post(PAGES.url("add"), form(currency, rate=rate))

    assert answer.status_code == 200
    assert "rate" in errors_of(answer)
    assert not ExchangeRate.objects.filter(quote=currency).exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base", "ZZZ"), ("quote", "EUR"), ("quote", "BTC"), ("date", "1998-12-31"),
        ("date", "soon"), ("date", str(rates.days_ago(-40))),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_its_field(
    root: Client, currency: str, field: str, value: str
) -> None:
    answer = root.post(PAGES.url("add"), form(currency, **{field: value}))

    assert field in errors_of(answer)


def test_a_doubtful_rate_is_told_and_approved_with_a_reason(
    root: Client, currency: str, doubtful: ExchangeRate
) -> None:
    asked = text_of(root.get(f"/admin/spend/exchangerate/{doubtful.pk}/approve/"))

    without = decide(root, "approve", doubtful, " ")
    done = decide(root, "approve", doubtful, "devalued overnight")

    assert "jumps by more than 20 %: the last rate in force is 2" in asked
    assert "required" in text_of(without)
    assert "is in force now" in text_of(done)
    doubtful.refresh_from_db()
    assert (doubtful.state, doubtful.reason) == (RateState.IN_FORCE, "devalued overnight")
    kept = Change.objects.filter(table_name="spend_exchangerate", object_id=str(doubtful.pk))
    assert kept.latest("id").actor.startswith("admin:")


def test_a_rate_is_rejected_once(root: Client, doubtful: ExchangeRate) -> None:
    decide(root, "reject", doubtful, "a typing error")
    again = decide(root, "reject", doubtful, "a typing error")

    doubtful.refresh_from_db()
    assert doubtful.state == RateState.REJECTED
    assert "Not done: it is rejected already." in text_of(again)


def test_a_rate_is_never_edited_or_deleted(root: Client, doubtful: ExchangeRate) -> None:
    page = PAGES.url("change", doubtful.pk)

    saved = root.post(page, form(doubtful.quote, rate="3"))
    deleted = root.post(PAGES.url("delete", doubtful.pk), {"post": "yes"})

    assert (saved.status_code, deleted.status_code) == (403, 403)
    assert "20" in text_of(root.get(page))


def test_who_may_only_look_decides_nothing(doubtful: ExchangeRate) -> None:
    viewer = login(admin_site.staff("spend.view_exchangerate"))
    nobody = login(admin_site.staff())

    assert viewer.get(PAGES.url("changelist")).status_code == 200
    assert viewer.get(PAGES.url("change", doubtful.pk)).status_code == 200
    assert viewer.get(PAGES.url("add")).status_code == 403
    assert decide(viewer, "approve", doubtful, "why not").status_code == 403
    assert nobody.get(PAGES.url("changelist")).status_code == 403
    doubtful.refresh_from_db()
    assert doubtful.state == RateState.QUARANTINED


def test_the_list_says_how_the_rates_stand(root: Client, doubtful: ExchangeRate) -> None:
    good = RateFetch(at=rates.now(), newest=rates.today())
    exchange_rates.keep_fetch(good)
    exchange_rates.keep_fetch(RateFetch(at=rates.now(), problem="has <b>no</b> rates"))

    told = text_of(root.get(PAGES.url("changelist")))

    assert "The newest rate in force is of" in told
    assert f"Last fetched on {good.at:%Y-%m-%d %H:%M} UTC" in told
    assert "failed: the file has &lt;b&gt;no&lt;/b&gt; rates" in told
    assert "quarantined</a>" in told


def test_the_history_of_a_rate_opens(root: Client, doubtful: ExchangeRate) -> None:
    assert "20" in text_of(root.get(PAGES.url("history", doubtful.pk)))
