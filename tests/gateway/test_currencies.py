"""Organizations that count in another currency than prices do, through both doors."""

from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from budgets import money
from budgets.figures import figures_of
from budgets.models import Organization
from budgets.services import tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Owner, issue_key
from spend import events
from spend.currencies.exchange import Source
from spend.models import RateState, SpendEvent
from spend.services import exchange_rates
from tests import rates
from tests.gateway.support import PER_REQUEST, Answer, chat, get, recorded

EUR_IN_USD = "1.0825"


def organization_in(currency: str) -> Organization:
    name = f"org-{uuid4().hex}"
    values = {"public_id": name, "name": name[:12], "currency": currency}
    return tenancy.create_organization(values=values, terms=Terms(), now=rates.now())


def key_in(currency: str, limit: str | None = None) -> str:
    terms = Terms()
    if limit is not None:
        terms = Terms(max_budget=Decimal(limit), duration="1mo", enforcement="strict")
    owner = Owner(organization_in(currency))
    return issue_key(owner=owner, values={}, terms=terms, now=rates.now()).secret


def row_of(answer: Answer) -> SpendEvent:
    assert answer.status == 200, answer
    return recorded(answer.headers["x-request-id"])


def using(prompt: int, output: int) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return {"sandbox": {"reply": "Hi!", "usage": usage}}


def test_an_organization_in_euros_is_charged_a_dollar_price_to_the_last_unit(door: str) -> None:
    rates.add(("EUR", "USD"), EUR_IN_USD)
    secret = key_in("EUR", "1")

    answer = chat(door, secret, **using(999, 101))

    row = row_of(answer)
    # 999 × 0.0000005 + 101 × 0.000002 dollars, at 1/1.0825 to 15 decimals
    assert row.cost == Decimal("0.0007015")
    assert row.exchange_rate == Decimal("0.923787528868360")
    assert row.amount_units == 648_037  # 0.000648036951…
    assert (row.cost_currency, row.currency) == ("USD", "EUR")
    assert (row.exchange_rate_date, row.flags) == (rates.today(), [])
    assert answer.headers["x-costplatform-cost"] == "0.0007015"
    assert answer.headers["x-costplatform-currency"] == "USD"
    assert answer.headers["x-costplatform-remaining"] == "0.999351963"


def test_a_limit_holds_in_the_organizations_currency(door: str, currency: str) -> None:
    rates.add(("USD", currency), "0.5")
    secret = key_in(currency, "0.0125")

    answers = [chat(door, secret, model=PER_REQUEST) for _ in range(3)]

    assert [each.status for each in answers] == [200, 200, 429]
    assert answers[0].headers["x-costplatform-remaining"] == "0.0075"
    told = answers[2].error["budget"]
    assert (told["needed"], told["spent"], told["currency"]) == ("0.005", "0.01", currency)


def test_a_cross_rate_is_as_exact_and_dated_as_the_older_of_its_rates(
    door: str, pair: tuple[str, str]
) -> None:
    currency, third = pair
    rates.adding(((third, "USD"), "3", rates.today()), ((third, currency), "7", rates.days_ago(2)))

    row = row_of(chat(door, key_in(currency), model=PER_REQUEST))

    assert row.exchange_rate == Decimal("2.333333333333333")
    assert row.amount_units == 23_333_333
    assert row.exchange_rate_date == rates.days_ago(2)


def test_without_a_rate_a_request_is_refused_and_with_one_the_next_is_served(
    door: str, currency: str
) -> None:
    secret = key_in(currency)

    refused = chat(door, secret)
    rates.add(("USD", currency), "2")
    served = chat(door, secret)

    assert (refused.status, refused.error["code"]) == (400, "no_exchange_rate")
    assert refused.error["param"] == "model"
    assert served.status == 200


def test_a_rate_of_tomorrow_is_not_used_today(door: str, currency: str) -> None:
    rates.add(("USD", currency), "2", on=rates.days_ago(-2))

    refused = chat(door, key_in(currency))

    assert (refused.status, refused.error["code"]) == (400, "no_exchange_rate")


@pytest.mark.parametrize(("days", "flags"), [(3, []), (4, []), (5, [events.RATE_STALE])])
def test_an_old_rate_is_used_and_flagged_as_stale(
    door: str, currency: str, days: int, flags: list[str]
) -> None:
    rates.add(("USD", currency), "2", on=rates.days_ago(days))

    row = row_of(chat(door, key_in(currency), model=PER_REQUEST))

    assert (row.amount_units, row.exchange_rate_date) == (20_000_000, rates.days_ago(days))
    assert row.flags == flags


def test_a_quarantined_rate_is_used_from_the_request_after_its_approval(
    door: str, currency: str
) -> None:
    rates.add(("USD", currency), "2", on=rates.days_ago(1))
    doubtful = rates.add(("USD", currency), "20")
    secret = key_in(currency)

    before = row_of(chat(door, secret, model=PER_REQUEST))
    exchange_rates.approve_rate(rate_id=doubtful.pk, reason="devalued", now=rates.now())
    after = row_of(chat(door, secret, model=PER_REQUEST))

    assert doubtful.state == RateState.QUARANTINED
    assert (before.amount_units, after.amount_units) == (20_000_000, 200_000_000)


def test_a_corrected_rate_holds_from_the_next_request_and_changes_no_row(
    door: str, currency: str
) -> None:
    rates.add(("USD", currency), "2")
    secret = key_in(currency)

    first = row_of(chat(door, secret, model=PER_REQUEST))
    rates.add(("USD", currency), "2.2")
    second = row_of(chat(door, secret, model=PER_REQUEST))

    first.refresh_from_db()
    assert (first.exchange_rate, second.exchange_rate) == (Decimal(2), Decimal("2.2"))
    assert (first.amount_units, second.amount_units) == (20_000_000, 22_000_000)


def test_of_two_sources_the_stronger_counts_on_one_day(door: str, currency: str) -> None:
    rates.add(("USD", currency), "2", source=Source.ECB)
    rates.add(("USD", currency), "2.1", source=Source.MANUAL)

    row = row_of(chat(door, key_in(currency), model=PER_REQUEST))

    assert row.exchange_rate == Decimal("2.1")


def test_each_row_is_rounded_once_and_their_sum_is_what_the_organization_has_spent(
    door: str, currency: str
) -> None:
    rates.add(("USD", currency), "0.333333333333333")
    organization = organization_in(currency)
    issued = issue_key(owner=Owner(organization), values={}, terms=Terms(), now=rates.now())

    for prompt, output in pairwise((1, 7, 13, 29, 101)):
        row_of(chat(door, issued.secret, **using(prompt, output)))

    rows = list(SpendEvent.objects.filter(organization_id=organization.pk))
    assert len(rows) == 4
    for row in rows:
        exact = money.EXACT.multiply(row.cost, row.exchange_rate)
        assert row.amount_units == money.to_units(exact, currency=currency)
        assert row.amount_units <= row.reserved_units
    account = organization.account_id
    total = money.to_decimal(sum(row.amount_units for row in rows), currency=currency)
    assert figures_of([account], at=rates.now())[account].total_spend == total


@pytest.mark.parametrize("fault", ["reset_before_headers", "truncate"])
def test_of_an_answer_that_nobody_saw_what_was_held_is_charged_to_the_unit(
    door: str, currency: str, fault: str
) -> None:
    rates.add(("USD", currency), "0.777777777777777")
    secret = key_in(currency, "1")

    answer = chat(door, secret, sandbox={"fault": fault})

    assert answer.status == 502
    row = recorded(answer.headers["x-request-id"])
    assert row.amount_units == row.reserved_units > 0
    converted = money.EXACT.multiply(row.cost, row.exchange_rate)
    assert money.to_units(converted, currency=currency) == row.amount_units


def test_a_request_tells_at_which_rate_it_was_converted(door: str, currency: str) -> None:
    rates.add(("USD", currency), "2.5")
    secret = key_in(currency)
    answer = chat(door, secret, model=PER_REQUEST)
    row_of(answer)

    told = get(door, secret, f"/v1/requests/{answer.headers['x-request-id']}").json

    assert (told["cost"], told["cost_currency"]) == ("0.01", "USD")
    assert (told["amount"], told["currency"]) == ("0.025", currency)
    assert (told["exchange_rate"], told["exchange_rate_date"]) == ("2.5", str(rates.today()))
