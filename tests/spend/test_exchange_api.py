"""``/api/v1/exchange-rates``: who adds what, what is in doubt, and who decides."""

import json
from typing import Any

import pytest

from budgets.models import Change
from budgets.snapshots import GLOBAL_SCOPE, version_of
from spend.models import ExchangeRate
from tests import rates
from tests.api_client import Api, Reply, master
from tests.conftest import Cast

PATH = "/api/v1/exchange-rates"
BAD_RATES = (
    '"NaN"', '"sNaN"', '"Infinity"', '"-Infinity"', '"1e400"', '"1e308"', '"-1"', '"-0"',
    '"1e-30"', '"１２"', '"٣"', '"1,000"', '"0x10"', "true", "[]", '""', "1.5", "null", "{}",
)  # fmt: skip


def add(currency: str, rate: str, **fields: Any) -> dict[str, Any]:
    given = {"base": "USD", "quote": currency, "date": str(rates.today()), "rate": rate}
    return master().made(PATH, **given | fields)


def refused(reply: Reply) -> tuple[int, str, str | None]:
    return reply.status, reply.error["code"], reply.error["param"]


def test_a_rate_is_added_exactly_and_listed(currency: str) -> None:
    made = add(currency, "0.123456789012345")

    assert made | {"base": "USD", "quote": currency, "rate": "0.123456789012345"} == made
    assert (made["source"], made["state"], made["doubt"]) == ("manual", "in_force", "")
    assert master().told(PATH, quote=currency) == [made]
    assert master().told(PATH, quote=currency, state="quarantined") == []


@pytest.mark.parametrize("rate", BAD_RATES)
def test_a_bad_rate_is_a_400_that_names_it_and_changes_nothing(currency: str, rate: str) -> None:
    version = version_of(GLOBAL_SCOPE)
    given = {"base": "USD", "quote": currency, "date": str(rates.today()), "rate": "@"}

    reply = master().post(PATH, json.dumps(given).replace('"@"', rate))

    assert refused(reply) == (400, "invalid_value", "rate")
    assert not ExchangeRate.objects.filter(quote=currency).exists()
    assert version_of(GLOBAL_SCOPE) == version


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base", "ZZZ"), ("base", "usd"), ("quote", "BTC"), ("quote", "USD"),
        ("date", "2026-02-30"), ("date", "1998-12-31"), ("date", str(rates.days_ago(-40))),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(currency: str, field: str, value: str) -> None:
    given = {"base": "USD", "quote": currency, "date": str(rates.today()), "rate": "1.5"}

    assert refused(master().post(PATH, given | {field: value})) == (400, "invalid_value", field)


def test_a_rate_that_jumps_is_quarantined_until_it_is_approved(currency: str) -> None:
    add(currency, "2", date=str(rates.days_ago(1)))
    doubtful = add(currency, "20")

    approved = master().made(f"{PATH}/approve", id=doubtful["id"], reason="a new currency")

    assert doubtful["state"] == "quarantined"
    assert doubtful["doubt"] == "jumps by more than 20 %: the last rate in force is 2"
    assert (approved["state"], approved["reason"]) == ("in_force", "a new currency")
    assert approved["rate"] == "20"


def test_what_was_rejected_stays_so_however_often_it_comes(currency: str) -> None:
    add(currency, "2", date=str(rates.days_ago(1)))
    doubtful = add(currency, "20")
    master().made(f"{PATH}/reject", id=doubtful["id"], reason="a typing error")

    again = add(currency, "20")

    assert (again["id"], again["state"]) == (doubtful["id"], "rejected")


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_a_decision_needs_a_reason_and_is_made_once(currency: str, verb: str) -> None:
    add(currency, "2", date=str(rates.days_ago(1)))
    id = add(currency, "20")["id"]
    decide = f"{PATH}/{verb}"

    without = master().post(decide, {"id": id, "reason": " "})
    master().made(decide, id=id, reason="so it is")
    again = master().post(decide, {"id": id, "reason": "so it is"})

    assert refused(without) == (400, "invalid_value", "reason")
    assert refused(again) == (400, "invalid_value", "id")


def test_a_rate_that_there_is_not_is_not_found() -> None:
    reply = master().post(f"{PATH}/approve", {"id": 10**12, "reason": "why not"})

    assert refused(reply) == (404, "not_found", "id")


def test_the_history_tells_who_decided_and_why(currency: str) -> None:
    add(currency, "2", date=str(rates.days_ago(1)))
    id = add(currency, "20")["id"]
    master().made(f"{PATH}/approve", id=id, reason="devalued overnight")

    kept = Change.objects.filter(table_name="spend_exchangerate", object_id=str(id)).latest("id")

    assert (kept.actor, kept.reason, kept.action) == ("master key", "devalued overnight", "update")


def test_only_the_master_key_gets_in(cast: Cast) -> None:
    for path in (PATH, f"{PATH}/approve", f"{PATH}/reject"):
        assert Api().post(path, {}).status == 401
        assert Api(cast.key().secret).post(path, {}).status == 403
    assert Api(cast.key().secret).get(PATH).status == 403
