"""A reset counts on the next request of every process, and not a unit is lost beside settles."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db.models import Sum

from budgets import storekeeper
from budgets.models import Account, PeriodTotal, Reload, Reset
from budgets.periods import Period
from spend import ledger, verification
from tests.api_client import master
from tests.conftest import Cast
from tests.gateway.support import HELLO, Answer, post
from tests.scopes import SCOPES, Passing, limited, strict
from tests.stack import Stack, wait_until

ASKED = 8
"""Requests to each door: with two processes behind it, both have answered some."""
CENT = 10**7


def ask(url: str, passing: Passing) -> Answer:
    return post(url, passing.secret, {"messages": HELLO} | passing.fields)


def ask_everywhere(stack: Stack, passing: Passing) -> list[int]:
    urls = (stack.lane, stack.views)
    return [ask(url, passing).status for url in urls for _ in range(ASKED)]


def reset_of(account_id: object) -> str:
    return f"/api/v1/accounts/{account_id}/reset"


@pytest.mark.parametrize("scope", SCOPES)
def test_the_next_request_on_every_process_counts_from_the_new_number(
    scope: str, stack: Stack, cast: Cast
) -> None:
    passing = limited(scope, cast=cast, terms=strict("0.16"))
    spent = ask_everywhere(stack, passing)
    refused = ask_everywhere(stack, passing)
    wait_until(Account.objects.filter(pk=passing.account_id).exists, seconds=15)

    told = master().made(reset_of(passing.account_id), reset_to="0", reason="again")
    again = ask_everywhere(stack, passing)
    beyond = ask_everywhere(stack, passing)

    assert (set(spent), set(refused)) == ({200}, {429})
    assert told["periods"][-1]["taken_off"] == "0.16"
    assert (set(again), set(beyond)) == ({200}, {429})
    stack.settle_down()
    assert verification.verify().differences == ()


def test_resets_under_a_load_of_settles_are_exact(stack: Stack, cast: Cast) -> None:
    passing = limited("key", cast=cast, terms=strict("1000"))
    requests, resets = 200, 12

    with ThreadPoolExecutor(8) as clients:
        asked = [
            clients.submit(ask, (stack.lane, stack.views)[n % 2], passing) for n in range(requests)
        ]
        for _ in range(resets):
            master().made(reset_of(passing.account_id), reset_to="0", reason="under load")
        statuses = {each.result().status for each in asked}
    stack.settle_down()
    # The recorder drops the counter once more; then the last request loads it.
    wait_until(lambda: not Reload.objects.exists(), seconds=15)
    ask(stack.lane, passing)
    stack.settle_down()

    total = PeriodTotal.objects.filter(account=passing.account).latest("period_start")
    period = Period(total.period_start, total.period_end)
    charged, events = ledger.sum_of(passing.account_id, period)
    taken_off = Reset.objects.filter(account_id=passing.account_id).aggregate(
        units=Sum("amount_units")
    )["units"]
    (counter,) = storekeeper.counters_of([passing.account_id])[passing.account_id]
    assert statuses == {200}
    assert (charged, events) == ((requests + 1) * CENT, requests + 1)
    assert taken_off < 0
    assert counter.spent == total.amount_units == charged + taken_off
    assert verification.verify().differences == ()


def test_what_is_reserved_stays_so_and_is_charged_after_the_reset(stack: Stack, cast: Cast) -> None:
    passing = limited("key", cast=cast, terms=strict("0.02"))
    ask(stack.lane, passing)
    slow = {"sandbox": {"delay_ms": 1_500}}

    with ThreadPoolExecutor(1) as client:
        under_way = client.submit(
            post, stack.lane, passing.secret, {"messages": HELLO} | passing.fields | slow
        )
        wait_until(lambda: is_reserved(passing), seconds=5)
        master().made(reset_of(passing.account_id), reset_to="0", reason="meanwhile")
        beside, third = ask(stack.views, passing), ask(stack.views, passing)
        first = under_way.result()

    assert (beside.status, third.status, first.status) == (200, 429, 200)
    key = master().told("/key/info", key=passing.digest)
    assert key["info"]["spend"] == Decimal("0.02")


def is_reserved(passing: Passing) -> bool:
    return any(passing.account_id in each.accounts for each in storekeeper.reservations())
