"""
Temporary increases in every scope: they count from the next request on, in every process, and end
by the clock of the live store. No worker runs here.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from budgets.models import Account, Increase
from budgets.services import increases
from budgets.services.increases import Person, Wanted
from spend.models import SpendEvent
from tests.conftest import Cast
from tests.gateway.support import HELLO, PER_REQUEST, Answer, chat, get, post
from tests.scopes import SCOPES, Passing, limited, strict
from tests.spend.support import now
from tests.stack import Stack, wait_until

ASKED = 6
"""Requests in a row: with two processes behind a door, both have answered some."""
ONE = "0.01"
"""What a request costs."""


def given(account: Account, amount: str, **times: datetime) -> Increase:
    return increases.grant(
        account=account,
        budget=None,
        wanted=Wanted(Decimal(amount), "a test", **{"ends_at": now() + timedelta(hours=1)} | times),
        by=Person(),
        now=now(),
    )


def statuses(url: str, passing: Passing) -> list[int]:
    body = {"messages": HELLO} | passing.fields
    return [post(url, passing.secret, body).status for _ in range(ASKED)]


def account_of(passing: Passing) -> Account:
    """Return the account, as soon as the recorder has made it."""
    rows = Account.objects.filter(pk=passing.account_id)
    wait_until(rows.exists, seconds=15)
    return rows.get()


@pytest.mark.parametrize("scope", SCOPES)
def test_an_increase_counts_on_the_next_request_of_every_process_and_so_does_its_end(
    scope: str, stack: Stack, cast: Cast
) -> None:
    passing = limited(scope, cast=cast, terms=strict(ONE, duration="1mo"))
    before = statuses(stack.lane, passing)

    increase = given(account_of(passing), "5")
    within = statuses(stack.lane, passing)
    increases.cancel(increase_id=increase.pk, by=Person(), now=now())
    after = statuses(stack.lane, passing)

    assert before == [200] + [429] * (ASKED - 1)
    assert within == [200] * ASKED
    assert after == [429] * ASKED


def test_both_doors_tell_the_limit_in_force_and_its_end(door: str, cast: Cast) -> None:
    issued = cast.key(ONE)
    increase = given(issued.key.account, ONE)

    first = chat(door, issued.secret, model=PER_REQUEST)
    chat(door, issued.secret, model=PER_REQUEST)
    refused = chat(door, issued.secret, model=PER_REQUEST)
    (told,) = get(door, issued.secret, "/v1/key").json["limits"]

    assert first.headers["x-litellm-key-max-budget"] == "0.02"
    assert first.headers["x-costplatform-remaining"] == "0.01"
    assert refused.error["budget"]["limit"] == "0.02"
    assert (told["limit"], told["max_budget"], told["remaining"]) == ("0.02", "0.01", "0")
    assert datetime.fromisoformat(told["increased_until"]) == increase.ends_at


def test_an_increase_to_come_begins_by_the_clock(stack: Stack, cast: Cast) -> None:
    issued = cast.key("0")
    starts_at = now() + timedelta(seconds=2)
    given(issued.key.account, "5", starts_at=starts_at)
    before = chat(stack.lane, issued.secret, model=PER_REQUEST)
    answered_at = now()

    wait_until(lambda: chat(stack.lane, issued.secret, model=PER_REQUEST).status == 200, seconds=10)

    first = SpendEvent.objects.filter(key_digest=issued.key.digest).order_by("admitted_at")
    wait_until(first.exists, seconds=15)
    assert answered_at < starts_at, "the first answer came too late to tell anything"
    assert before.status == 429
    assert first[0].admitted_at >= starts_at


def test_under_load_nothing_above_the_limit_is_admitted_once_the_increase_has_ended(
    stack: Stack, cast: Cast
) -> None:
    issued = cast.key(ONE)
    ends_at = now() + timedelta(seconds=3)
    given(issued.key.account, "1000", ends_at=ends_at)
    stop = ends_at + timedelta(seconds=2)

    answers = asked_until(stop, stack.lane, issued.secret)

    admitted = admissions(issued.key.digest, len([each for each in answers if each.status == 200]))
    last_moment = ends_at - timedelta(milliseconds=500)
    assert len([at for at in admitted if last_moment <= at]) > 5, "there was load until the end"
    assert [at for at in admitted if at >= ends_at] == []
    assert answers[-1].error["budget"]["limit"] == ONE


def asked_until(stop: datetime, url: str, secret: str) -> list[Answer]:
    """Ask without a pause, eight at a time; return the answers as they came."""
    answers: list[Answer] = []
    lock = threading.Lock()

    def ask(_: int) -> None:
        while now() < stop:
            answer = chat(url, secret, model=PER_REQUEST)
            with lock:
                answers.append(answer)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    return answers


def admissions(digest: str, expected: int) -> list[datetime]:
    """Return when the requests of a key were admitted, as soon as the ledger has them all."""
    rows = SpendEvent.objects.filter(key_digest=digest)
    wait_until(lambda: rows.count() == expected, seconds=30)
    return list(rows.values_list("admitted_at", flat=True))
