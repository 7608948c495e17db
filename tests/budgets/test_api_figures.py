"""What is told about spend: live where it can be, of the ledger where not, for many at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from redis.exceptions import ConnectionError as StoreAway

from budgets import storekeeper
from budgets.models import ApiKey, Organization, Partition
from budgets.money import Units
from budgets.periods import FOREVER, Period, period_at, zone_of
from budgets.storekeeper import Entry
from tests.api_client import live_counter, master, new_id, spend
from tests.conftest import Cast

api = master
NANO = 10**9


def account_of(token: str) -> UUID:
    return ApiKey.objects.get(digest=token).account_id


def told_of(key: dict[str, str]) -> dict[str, object]:
    info: dict[str, object] = api().told("/key/info", key=key["token"])["info"]
    return info


def this_month() -> Period:
    return period_at(duration="1mo", zone=zone_of("UTC"), at=datetime.now(UTC))


@contextmanager
def queries() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connection) as captured:
        yield captured


def test_spend_is_the_live_counter_of_the_running_period(cast: Cast) -> None:
    key = api().made("/key/generate", max_budget=9, budget_duration="1mo")

    with live_counter(account_of(key["token"]), this_month(), 2 * NANO + 1):
        told = told_of(key)

    assert told["spend"] == Decimal("2.000000001")
    assert told["total_spend"] == 0
    as_of = datetime.fromisoformat(str(told["spend_as_of"]))
    assert abs(as_of - datetime.now(UTC)) < timedelta(seconds=20)


def test_without_a_counter_spend_is_the_periods_total(cast: Cast) -> None:
    default = Organization.objects.get(public_id="default")
    key = api().made("/key/generate", max_budget=9, budget_duration="1mo")

    spend(default, [account_of(key["token"])], "0.25")
    spend(default, [account_of(key["token"])], "1", at=datetime.now(UTC) - timedelta(days=40))

    told = told_of(key)
    assert told["spend"] == Decimal("0.25")
    assert told["total_spend"] == Decimal("1.25")


def test_without_a_counter_what_the_ledger_does_not_have_yet_counts_too(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Organization.objects.get(public_id="default")
    key = api().made("/key/generate", max_budget=9, budget_duration="1mo")
    account, now = account_of(key["token"]), datetime.now(UTC)
    spend(default, [account], "0.25")
    recorded = Partition.objects.get(number=storekeeper.PARTITION).position
    stream = [
        settled(recorded, account, 10, at=now),
        settled("9999999999998-1", account, 2, at=now),
        settled("9999999999998-2", account, 5, at=now - timedelta(days=40)),
        settled("9999999999999-0", uuid4(), 7, at=now),
    ]
    monkeypatch.setattr(storekeeper, "read_stream", lambda *, after, count: stream[:count])

    assert told_of(key)["spend"] == Decimal("2.25")


def settled(position: str, account: UUID, amount: int, *, at: datetime) -> Entry:
    """Return an event of the stream; the amount is in whole dollars."""
    return Entry(
        position=position, id=str(uuid4()), amount=Units(amount * NANO), admitted_at=at,
        path=(account,), kind="usage", payload=b"{}",
    )  # fmt: skip


def test_without_a_duration_spend_is_the_lifetime(cast: Cast) -> None:
    default = Organization.objects.get(public_id="default")
    key = api().made("/key/generate", max_budget=9)
    spend(default, [account_of(key["token"])], "0.25", at=datetime.now(UTC) - timedelta(days=40))

    without_counter = told_of(key)
    with live_counter(account_of(key["token"]), FOREVER, NANO):
        with_counter = told_of(key)

    assert without_counter["spend"] == without_counter["total_spend"] == Decimal("0.25")
    assert with_counter["spend"] == 1


def test_a_counter_of_another_period_is_not_told(cast: Cast) -> None:
    key = api().made("/key/generate", max_budget=9, budget_duration="1d")

    with live_counter(account_of(key["token"]), this_month(), NANO):
        assert told_of(key)["spend"] == 0


def test_a_linked_budgets_period_is_that_of_the_spend(cast: Cast) -> None:
    organization_id, budget_id = cast.organization.public_id, new_id("budget")
    api().made(
        "/budget/new",
        budget_id=budget_id,
        max_budget=9,
        budget_duration="1mo",
        organization_id=organization_id,
    )
    key = api().made("/key/generate", organization_id=organization_id, budget_id=budget_id)

    with live_counter(account_of(key["token"]), this_month(), NANO):
        assert told_of(key)["spend"] == 1


def test_spend_is_in_the_currency_of_the_organization() -> None:
    organization_id = new_id("org")
    api().made(
        "/organization/new",
        organization_id=organization_id,
        organization_alias="Kyoto",
        currency="JPY",
    )
    key = api().made("/key/generate", organization_id=organization_id, max_budget=9)

    with live_counter(account_of(key["token"]), FOREVER, 15):
        told = told_of(key)

    assert told["currency"] == "JPY"
    assert told["spend"] == Decimal("0.0000015")


def test_a_store_that_is_away_leaves_the_totals(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Organization.objects.get(public_id="default")
    key = api().made("/key/generate", max_budget=9)
    spend(default, [account_of(key["token"])], "0.25")

    def away(*_: object) -> None:
        raise StoreAway

    monkeypatch.setattr(storekeeper, "is_open", away)
    told = told_of(key)

    assert told["spend"] == Decimal("0.25")
    recorded = Partition.objects.get(number=storekeeper.PARTITION).position.partition("-")[0]
    assert (told["spend_as_of"] is None) == (recorded == "0")


def test_a_store_that_was_lost_is_not_believed(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    key = api().made("/key/generate", max_budget=9)
    monkeypatch.setattr(storekeeper, "is_open", lambda _: False)

    with live_counter(account_of(key["token"]), FOREVER, NANO):
        assert told_of(key)["spend"] == 0


def make_many(cast: Cast, count: int) -> None:
    organization_id = cast.organization.public_id
    for n in range(count):
        api().made(
            "/key/generate",
            team_id=cast.team.public_id,
            user_id=cast.user.public_id,
            max_budget=n,
            budget_duration="1d",
        )
        api().made(
            "/team/new",
            organization_id=organization_id,
            max_budget=n,
            members_with_roles=[{"user_id": cast.user.public_id}],
        )
        api().made("/user/new", organization_id=organization_id, max_budget=n)
        api().made("/budget/new", organization_id=organization_id, max_budget=n)


@pytest.mark.parametrize(
    ("path", "query", "most"),
    [
        ("/key/list", {"return_full_object": "true", "organization_id": "organization"}, 12),
        ("/key/list", {"organization_id": "organization"}, 2),
        ("/team/list", {"organization_id": "organization"}, 14),
        ("/team/info", {"team_id": "team"}, 39),
        ("/user/list", {"organization_ids": "organization"}, 16),
        ("/user/info", {"user_id": "user"}, 36),
        ("/organization/info", {"organization_id": "organization"}, 40),
        ("/budget/list", {"organization_id": "organization"}, 2),
    ],
)
def test_more_rows_take_no_more_queries(
    cast: Cast, path: str, query: dict[str, str], most: int
) -> None:
    asked = {
        name: getattr(cast, value).public_id if hasattr(cast, value) else value
        for name, value in query.items()
    }
    make_many(cast, 1)
    with queries() as of_few:
        api().told(path, **asked)
    make_many(cast, 3)

    with queries() as of_more:
        api().told(path, **asked)

    assert len(of_more) == len(of_few) <= most, [each["sql"] for each in of_more]


def test_one_page_asks_the_store_once_however_many_rows(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_many(cast, 3)
    asked: list[int] = []
    real = storekeeper.counters_of

    def counted(ids: Sequence[UUID]) -> dict[UUID, list[storekeeper.Counter]]:
        asked.append(len(ids))
        return real(ids)

    monkeypatch.setattr(storekeeper, "counters_of", counted)

    api().told("/key/list", return_full_object="true", organization_id=cast.organization.public_id)

    # Three keys made here, three of new users.
    assert asked == [6]
