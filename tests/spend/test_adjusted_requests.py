"""Whoever asks what a request or a day cost is told the corrected sum."""

import uuid
from decimal import Decimal
from typing import Any

import pytest

from gateway import queries
from spend.components import Component
from tests.api_client import master, new_id, spend
from tests.budgets.support import account
from tests.conftest import Cast
from tests.spend.test_rerating import NOON, WRONG, Book, charge, new_book
from tests.spend.test_reratings import CORRECT

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def book() -> Book:
    return new_book()


def report(id: str, **fields: Any) -> dict[str, Any]:
    told = queries.request_report(request_id=uuid.UUID(id), **{"key_digest": None, **fields})
    assert told is not None
    return told


def test_a_request_that_was_re_rated_costs_the_sum_of_its_rows(book: Book, cast: Cast) -> None:
    old = book.price(WRONG)
    id = charge(book, cast.organization, account(cast.organization))
    before = report(id)
    newer = book.correct(old, {Component.INPUT: "0.000009", Component.OUTPUT: "0.00001"})
    book.rerate()
    newest = book.correct(newer, CORRECT)
    book.rerate()

    told = report(id)

    assert (before["amount"], before["cost"], before["adjustments"]) == ("0.003", "0.003", [])
    assert (told["amount"], told["cost"], told["cost_currency"]) == ("0.004", "0.004", "USD")
    assert told["price"] == f"price:{newest.pk}"
    assert sum(Decimal(amount) for *_, amount in told["lines"]) == Decimal("0.004")
    assert [each["amount"] for each in told["adjustments"]] == ["0.007", "-0.006"]
    assert {each["reason"] for each in told["adjustments"]} == {"the list was wrong"}
    assert told["usage"] == before["usage"]


def test_a_request_that_is_paid_back_costs_nothing(book: Book, cast: Cast) -> None:
    old = book.price(WRONG)
    id = charge(book, cast.organization, account(cast.organization))
    book.correct(old, {Component.INPUT: "0", Component.OUTPUT: "0"})
    book.rerate()

    told = report(id)

    assert (told["amount"], told["cost"], told["cost_currency"]) == ("0", "0", "USD")


def test_another_key_is_told_nothing_of_it_also_after_a_re_rating(book: Book, cast: Cast) -> None:
    old = book.price(WRONG)
    id = charge(book, cast.organization, account(cast.organization))
    book.correct(old, CORRECT)
    book.rerate()

    other = queries.request_report(request_id=uuid.UUID(id), key_digest=new_id("digest"))

    assert other is None


def test_spend_logs_have_every_row_of_a_request_and_they_add_up(book: Book, cast: Cast) -> None:
    old = book.price(WRONG)
    id = charge(book, cast.organization, account(cast.organization))
    book.correct(old, CORRECT)
    made = book.rerate()

    rows = master().told("/spend/logs", request_id=id)

    assert sum(row["spend"] for row in rows) == Decimal("0.004")
    assert {row["request_id"] for row in rows} == {id}
    by_kind = {row["metadata"]["kind"]: row for row in rows}
    assert by_kind["adjustment"]["metadata"]["rerating_id"] == made.pk
    assert by_kind["usage"]["metadata"]["rerating_id"] is None
    assert by_kind["adjustment"]["total_tokens"] == 0


def test_sums_by_day_hold_what_was_added_on_the_day_of_the_request(book: Book, cast: Cast) -> None:
    user = new_id("user")
    old = book.price({Component.INPUT: "0.1"})
    spend_at(book, cast, "0.3", user=user)
    book.correct(old, {Component.INPUT: "0.5"})
    book.rerate()

    (day,) = master().told(
        "/spend/logs", user_id=user, start_date="2026-03-14", end_date="2026-03-14"
    )

    assert day["spend"] == day["users"][user] == Decimal("1.5")


def test_what_was_priced_in_another_currency_is_taken_back_in_it(book: Book, cast: Cast) -> None:
    id = spend_at(book, cast, "0.3", currency="JPY")
    book.price({Component.INPUT: "2"}, currency="JPY")

    book.rerate()

    told = report(id)
    assert (told["cost"], told["cost_currency"]) == ("6", "JPY")
    assert (told["amount"], told["currency"]) == ("6", "JPY")
    assert len(told["adjustments"]) == 2


def spend_at(book: Book, cast: Cast, amount: str, **described: Any) -> str:
    """Charge three tokens of input at noon."""
    of = account(cast.organization)
    return str(
        spend(
            cast.organization, [of.id], amount, at=NOON, provider=book.provider,
            upstream_model=book.model.name, **described,
        )
    )  # fmt: skip
