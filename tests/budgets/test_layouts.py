"""Budgets whose periods lie where they say: by API, in the admin, in totals and at the gateway."""

import time as clock
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from budgets.admin import figures
from budgets.models import ApiKey, Budget
from budgets.periods import Period
from budgets.services import accounts
from budgets.services.accounts import Terms
from budgets.services.keys import Owner, issue_key
from spend import ledger
from tests import admin_site
from tests.admin_site import Pages, errors_of, login, save, text_of
from tests.api_client import master, new_id, spend
from tests.conftest import Cast
from tests.gateway.support import PER_REQUEST, chat
from tests.stack import Stack, wait_until

api = master
NANO = 10**9


def made_key(**fields: object) -> dict[str, Any]:
    return dict(api().made("/key/generate", **({"max_budget": 1} | fields)))


# --- The API -----------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["2031-01-31T09:30:00Z", "2031-01-31T10:30:00.000+01:00"])
def test_a_reset_time_that_is_given_is_when_a_period_begins(said: str) -> None:
    made = made_key(budget_duration="1mo", budget_reset_at=said)

    assert datetime.fromisoformat(made["budget_anchor"]) == datetime(2031, 1, 31, 9, 30, tzinfo=UTC)
    reset = datetime.fromisoformat(made["budget_reset_at"])
    assert (reset.hour, reset.minute) == (9, 30)
    assert timedelta() < reset - datetime.now(UTC) <= timedelta(days=31)


def test_null_takes_an_anchor_away_and_other_changes_leave_it() -> None:
    key = made_key(budget_duration="1d", budget_reset_at="2031-01-31T09:30:00Z")["key"]

    raised = api().made("/key/update", key=key, max_budget=2)
    cleared = api().made("/key/update", key=key, budget_reset_at=None)

    assert raised["budget_anchor"] is not None
    assert cleared["budget_anchor"] is None
    assert datetime.fromisoformat(cleared["budget_reset_at"]).hour == 0


def test_what_lies_where_is_told_as_it_was_given() -> None:
    said = {
        "budget_duration": "quarterly", "budget_week_start": "sunday", "budget_year_start": 4,
        "budget_reset_time": "06:30:00",
    }  # fmt: skip

    made = made_key(**said)

    assert {name: made[name] for name in said} == said
    reset = datetime.fromisoformat(made["budget_reset_at"])
    assert (reset.month % 3, reset.day, reset.hour, reset.minute) == (1, 1, 6, 30)


def test_further_budgets_lie_as_the_main_one_but_for_an_anchor_of_their_own() -> None:
    made = made_key(
        budget_duration="1mo", budget_reset_time="06:30",
        budget_limits=[
            {"budget_duration": "1d", "max_budget": 1},
            {"budget_duration": "1w", "max_budget": 1, "reset_at": "2031-01-01T12:00:00Z"},
        ],
    )  # fmt: skip

    daily, weekly = (datetime.fromisoformat(each["reset_at"]) for each in made["budget_limits"])
    assert (daily.hour, daily.minute) == (6, 30)
    assert (weekly.weekday(), weekly.hour) == (2, 12)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"budget_reset_at": "2031-01-31T09:30:00"}, "budget_reset_at"),
        ({"budget_reset_at": "tomorrow"}, "budget_reset_at"),
        ({"budget_reset_at": "2031-02-30T00:00:00Z"}, "budget_reset_at"),
        ({"budget_reset_at": "1031-01-31T00:00:00Z"}, "budget_reset_at"),
        ({"budget_reset_at": 1_900_000_000}, "budget_reset_at"),
        ({"budget_duration": None, "budget_reset_at": "2031-01-31T00:00:00Z"}, "budget_reset_at"),
        ({"budget_reset_time": "25:00"}, "budget_reset_time"),
        ({"budget_reset_time": "6"}, "budget_reset_time"),
        ({"budget_week_start": "moonday"}, "budget_week_start"),
        ({"budget_year_start": 13}, "budget_year_start"),
        ({"budget_duration": "11y"}, "budget_duration"),
        ({"max_budget": None, "budget_duration": None, "budget_week_start": "sunday"},
         "budget_week_start"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_makes_no_key(said: dict[str, object], param: str) -> None:
    alias = new_id("alias")
    body = {"max_budget": 1, "budget_duration": "1d", "key_alias": alias} | said

    reply = api().post("/key/generate", body)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert not ApiKey.objects.filter(name=alias).exists()


def test_a_preview_tells_the_period_and_those_that_follow_and_makes_nothing() -> None:
    before = Budget.objects.count()

    told = api().made(
        "/api/v1/periods/preview", budget_duration="1mo", budget_time_zone="Europe/Paris",
        budget_reset_at="2031-01-31T09:30:00Z",
    )  # fmt: skip

    bounds = [told["period"], *told["following"]]
    starts = [datetime.fromisoformat(each["start"]) for each in bounds]
    ends = [datetime.fromisoformat(each["end"]) for each in bounds]
    assert starts[1:] == ends[:-1]
    assert starts[0] <= datetime.now(UTC) < ends[0]
    assert (told["budget_duration"], told["running"], told["accounts"]) == ("1mo", None, [])
    assert Budget.objects.count() == before


def test_a_preview_of_a_change_tells_what_would_count(cast: Cast) -> None:
    now, budget_id = datetime.now(UTC), new_id("budget")
    organization_id = cast.organization.public_id
    api().made(
        "/budget/new", organization_id=organization_id, budget_id=budget_id, max_budget=9,
        budget_duration="1h",
    )  # fmt: skip
    made = api().made("/key/generate", organization_id=organization_id, budget_id=budget_id)
    account = ApiKey.objects.get(digest=made["token"]).account_id
    spend(cast.organization, [account], "0.25", at=now)
    spend(cast.organization, [account], "2", at=now - timedelta(days=40))

    told = api().made("/api/v1/periods/preview", budget_id=budget_id, budget_duration="1y")
    kept = Budget.objects.get(public_id=budget_id)

    (of,) = told["accounts"]
    assert told["running"] != told["period"]
    assert (of["account_id"], of["spend"]) == (str(account), "0.25")
    assert of["spend_then"] == ("2.25" if (now - timedelta(days=40)).year == now.year else "0.25")
    assert kept.duration == "1h"


# --- The admin ---------------------------------------------------------------------------


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


def odd_budget(cast: Cast) -> Budget:
    with transaction.atomic():
        budget = accounts.set_private_budget(
            account=cast.team.account,
            terms=Terms(max_budget=Decimal(5), duration="90m", week_start=6),
            now=datetime.now(UTC),
        )
    assert budget is not None
    return budget


def test_a_duration_that_the_form_does_not_offer_stays_when_the_form_is_saved(
    cast: Cast, root: Client
) -> None:
    budget = odd_budget(cast)

    save(root, Pages(Budget).url("change", budget.pk), max_budget="7")

    budget.refresh_from_db()
    assert (budget.max_budget, budget.duration, budget.week_start) == (Decimal(7), "90m", 6)


def test_where_periods_begin_is_set_on_the_budgets_page(cast: Cast, root: Client) -> None:
    page = Pages(Budget).url("change", odd_budget(cast).pk)

    save(
        root, page, budget_duration="1mo", budget_anchor="2031-01-31 09:30",
        budget_reset_time="06:30", budget_year_start="4",
    )  # fmt: skip
    told = text_of(root.get(page))
    wrong = save(root, page, budget_reset_time="noon", budget_anchor="2131-01-31 09:30")

    kept = Budget.objects.get(private_to=cast.team.account)
    assert kept.anchor == datetime(2031, 1, 31, 9, 30, tzinfo=UTC)
    assert (f"{kept.reset_time:%H:%M}", kept.year_start) == ("06:30", 4)
    assert "The period that runs is " in told
    assert list(errors_of(wrong)) == ["budget_reset_time"]


def test_a_budget_of_any_period_is_found_when_it_is_full(cast: Cast) -> None:
    odd_budget(cast)
    # Of all that other tests have filled, none is so full.
    spend(cast.organization, [cast.team.account_id], "5000000")

    fullest = figures.fullest(share_min=80, now=datetime.now(UTC))

    assert cast.team.account_id in fullest


# --- Totals and the gateway --------------------------------------------------------------


def test_a_sum_is_exact_where_bounds_cut_a_quarter_hour(cast: Cast) -> None:
    account = cast.key().key.account_id
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    for seconds, dollars in ((0, 1), (59, 10), (60, 100), (1_000, 1_000), (3_599, 10_000)):
        spend(cast.organization, [account], str(dollars), at=noon + timedelta(seconds=seconds))

    def sum_of(first: int, last: int) -> tuple[int, int]:
        bounds = (noon + timedelta(seconds=each) for each in (first, last))
        return ledger.sum_of(account, Period(*bounds))

    assert sum_of(0, 3_600) == (11_111 * NANO, 5)
    assert sum_of(0, 59) == (1 * NANO, 1)
    assert sum_of(59, 60) == (10 * NANO, 1)
    assert sum_of(60, 3_599) == (1_100 * NANO, 2)
    assert sum_of(1, 3_600) == (11_110 * NANO, 4)
    assert sum_of(900, 1_800) == (1_000 * NANO, 1)
    assert sum_of(1_001, 1_002) == (0, 0)


def test_a_budget_of_seconds_is_full_and_then_begins_anew_by_the_clock(
    stack: Stack, cast: Cast
) -> None:
    priced = chat(stack.lane, cast.key().secret, model=PER_REQUEST)
    terms = Terms(
        max_budget=2 * Decimal(priced.headers["x-costplatform-cost"]), duration="5s",
        enforcement="strict",
    )  # fmt: skip
    issued = issue_key(
        owner=Owner(cast.organization), values={}, terms=terms, now=datetime.now(UTC)
    )
    key = issued.secret

    def first_refusal() -> Any:
        for _ in range(50):
            answer = chat(stack.lane, key, model=PER_REQUEST)
            if answer.status != 200:
                return answer.error
        raise AssertionError("nothing was refused")

    refused = first_refusal()
    resets_at = datetime.fromisoformat(refused["budget"]["resets_at"])
    clock.sleep(max(0.0, (resets_at - datetime.now(UTC)).total_seconds()) + 0.05)

    assert refused["code"] == "budget_exceeded"
    assert resets_at.second % 5 == 0
    assert chat(stack.lane, key, model=PER_REQUEST).status == 200
    wait_until(stack.is_quiet, seconds=15)
