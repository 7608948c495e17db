"""Rows of the ledger and their sums, as LiteLLM's clients read them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from budgets.models import Account
from spend import queries
from spend.api import SpendDay, SpendLog
from tests.api_client import master, new_id, spend
from tests.conftest import Cast

api = master
DAY = datetime(2026, 3, 4, 12, tzinfo=UTC)


def spend_by(cast: Cast, amount: str, **described: Any) -> str:
    account: Account = cast.organization.account
    return str(spend(cast.organization, [account.id], amount, **described))


def test_a_row_tells_what_a_request_was_and_cost(cast: Cast) -> None:
    request_id = spend_by(cast, "0.00000125", user="ada", tags=("a",), model="gpt")

    (row,) = api().told("/spend/logs", request_id=request_id)

    assert set(row) == set(SpendLog().fields)
    assert row["spend"] == Decimal("0.00000125")
    assert row["organization_id"] == cast.organization.public_id
    assert (row["user"], row["model_group"], row["request_tags"]) == ("ada", "gpt", ["a"])
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (3, 0, 3)
    assert row["status"] == "success"


def test_rows_are_filtered_by_user_and_come_newest_first(cast: Cast) -> None:
    user = new_id("user")
    old = spend_by(cast, "1", user=user, at=DAY)
    new = spend_by(cast, "2", user=user, at=DAY + timedelta(hours=1))
    spend_by(cast, "3", user=new_id("user"))

    rows = api().told("/spend/logs", user_id=user)

    assert [row["request_id"] for row in rows] == [new, old]


def test_rows_are_filtered_by_secret_or_token_of_a_key(cast: Cast) -> None:
    issued = cast.key()
    request_id = spend_by(cast, "1", key_digest=issued.key.digest)

    by_secret = api().told("/spend/logs", api_key=issued.secret)
    by_token = api().told("/spend/logs", api_key=issued.key.digest)

    assert [row["request_id"] for row in by_secret] == [request_id]
    assert by_token == by_secret


def test_a_form_of_id_that_no_request_has_finds_nothing() -> None:
    assert api().told("/spend/logs", request_id="chatcmpl-123") == []
    assert api().told("/spend/logs", api_key="no-key") == []


def test_between_two_dates_each_day_is_summed(cast: Cast) -> None:
    user, digest = new_id("user"), new_id("digest")
    for hours, model in ((0, "a"), (1, "b"), (24, "a")):
        spend_by(
            cast, "0.1", user=user, key_digest=digest, model=model, at=DAY + timedelta(hours=hours)
        )

    days = api().told("/spend/logs", user_id=user, start_date="2026-03-04", end_date="2026-03-05")

    first = {
        "startTime": "2026-03-04", "spend": Decimal("0.2"), "currency": "USD",
        "users": {user: Decimal("0.2")}, "models": {"a": Decimal("0.1"), "b": Decimal("0.1")},
        digest: Decimal("0.2"),
    }  # fmt: skip
    assert days[0] == first
    assert days[1]["spend"] == Decimal("0.1")
    assert set(SpendDay().fields) <= set(days[0])


def test_days_are_days_of_utc_and_the_last_counts(cast: Cast) -> None:
    user = new_id("user")
    for at in (datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 3, 5, 23, 59, 59, tzinfo=UTC)):
        spend_by(cast, "1", user=user, at=at)
    spend_by(cast, "1", user=user, at=datetime(2026, 3, 6, tzinfo=UTC))

    days = api().told("/spend/logs", user_id=user, start_date="2026-03-04", end_date="2026-03-05")

    assert [day["startTime"] for day in days] == ["2026-03-04", "2026-03-05"]


def test_rows_between_two_dates_are_given_on_request(cast: Cast) -> None:
    user = new_id("user")
    request_id = spend_by(cast, "1", user=user, at=DAY)

    rows = api().told(
        "/spend/logs",
        user_id=user,
        start_date="2026-03-04",
        end_date="2026-03-04",
        summarize="false",
    )

    assert [row["request_id"] for row in rows] == [request_id]


def test_money_of_two_currencies_is_never_added_up(cast: Cast) -> None:
    user = new_id("user")
    spend_by(cast, "1", user=user, at=DAY)
    spend_by(cast, "1", user=user, at=DAY, currency="JPY")

    days = api().told("/spend/logs", user_id=user, start_date="2026-03-04", end_date="2026-03-04")

    assert [(day["currency"], day["spend"]) for day in days] == [("JPY", 100), ("USD", 1)]


def test_more_rows_than_are_given_are_told_of(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    user = new_id("user")
    for _ in range(3):
        spend_by(cast, "1", user=user)
    whole = api().get("/spend/logs", {"user_id": user})
    monkeypatch.setattr(queries, "ROWS_MAX", 2)
    monkeypatch.setattr("spend.api.logs.ROWS_MAX", 2)

    cut = api().get("/spend/logs", {"user_id": user})

    assert (len(whole.content), whole.headers["x-rows-cut"]) == (3, "false")
    assert (len(cut.content), cut.headers["x-rows-cut"]) == (2, "true")
    assert cut.headers["x-rows-max"] == "2"


@pytest.mark.parametrize(
    ("first", "last"), [("2026-03-05", "2026-03-04"), ("2024-01-01", "2026-01-01")]
)
def test_dates_must_be_in_order_and_within_a_year(first: str, last: str) -> None:
    reply = api().get("/spend/logs", {"start_date": first, "end_date": last})

    assert (reply.status, reply.error["param"]) == (400, "end_date")
