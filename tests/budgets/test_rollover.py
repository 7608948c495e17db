"""What a period has left is carried into the next, once, up to the most, and corrected."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from budgets import changes, snapshots
from budgets.contexts import limits_at
from budgets.errors import InvalidInput
from budgets.models import ApiKey, Book, Closing, Increase, IncreaseState
from budgets.services import accounts, books, increases
from budgets.services.accounts import Terms
from budgets.services.increases import Person, Wanted
from tests.admin_site import raises_version
from tests.api_client import master, spend
from tests.conftest import Cast

NONE, HOUR, DAY = timedelta(), timedelta(hours=1), timedelta(days=1)
NANO = 10**9
DAILY = Terms(max_budget=Decimal(10), duration="1d", rollover_max=Decimal(4))


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Until when the ledger knows everything: the last midnight, or what a test adds."""
    until = [midnight()]
    monkeypatch.setattr("budgets.storekeeper.recorded_until", lambda: until[-1])
    return until


def with_budget(cast: Cast, terms: Terms = DAILY, *, days: int = 1) -> ApiKey:
    """Return a key whose budget was put on it at the midnight so many days before the last."""
    key, since = cast.key().key, midnight() - days * DAY
    with changes.change(scope=cast.organization.pk):
        accounts.set_private_budget(account=key.account, terms=terms, now=since)
    Book.objects.filter(link__account=key.account_id).update(open_at=since, closes_at=since)
    return key


def close() -> None:
    while books.close_due(now=datetime.now(UTC), count=10_000):
        pass


def carried(key: ApiKey) -> list[tuple[datetime, Decimal]]:
    rows = Increase.objects.filter(
        account=key.account_id, is_rollover=True, state=IncreaseState.APPROVED
    )
    return [(row.starts_at, row.amount) for row in rows.order_by("starts_at")]


def of(*carried: tuple[timedelta, str]) -> list[tuple[datetime, Decimal]]:
    """Return what was carried into periods that began so long before the last midnight."""
    return [(midnight() - ago, Decimal(amount)) for ago, amount in carried]


def limits_of(key: ApiKey, *, at: datetime) -> Sequence[int]:
    found = snapshots.read_key(digest=key.digest, legacy_digest="")
    assert found is not None
    return [each.limit for each in limits_at(terms=found.terms, currency="USD", at=at)]


def test_what_is_left_is_carried_into_the_next_period_up_to_the_most(cast: Cast) -> None:
    thrifty, less_so = with_budget(cast, days=2), with_budget(cast, days=2)
    spend(cast.organization, [less_so.account_id], "13.5", at=midnight() - HOUR)

    close()

    now = datetime.now(UTC)
    assert carried(thrifty) == of((DAY, "4"), (NONE, "4"))
    assert carried(less_so) == of((DAY, "4"), (NONE, "0.5"))
    assert limits_of(thrifty, at=now) == [14 * NANO]
    assert limits_of(thrifty, at=midnight() + DAY) == [10 * NANO]


def test_what_was_carried_is_part_of_what_is_left(cast: Cast) -> None:
    terms = Terms(max_budget=Decimal(10), duration="1d", rollover_max=Decimal(100))
    key = with_budget(cast, terms, days=2)
    spend(cast.organization, [key.account_id], "7", at=midnight() - 2 * DAY)
    spend(cast.organization, [key.account_id], "12", at=midnight() - DAY)

    close()
    close()

    rooms = Closing.objects.filter(account=key.account_id).order_by("period_end")
    assert [row.room for row in rooms] == [Decimal(10), Decimal(13)]
    assert carried(key) == of((DAY, "3"), (NONE, "1"))


def test_a_period_that_was_overspent_hands_nothing_on_and_owes_nothing(cast: Cast) -> None:
    key = with_budget(cast)
    spend(cast.organization, [key.account_id], "25", at=midnight() - HOUR)

    close()

    assert carried(key) == []
    assert limits_of(key, at=datetime.now(UTC)) == [10 * NANO]


def test_temporary_increases_are_told_as_the_limit_and_not_carried(cast: Cast) -> None:
    key = with_budget(cast)
    increases.grant(
        account=key.account, budget=None, by=Person(), now=midnight() - 5 * HOUR,
        wanted=Wanted(Decimal(50), "a launch", ends_at=midnight() + HOUR),
    )  # fmt: skip
    spend(cast.organization, [key.account_id], "9", at=midnight() - HOUR)

    close()

    closing = Closing.objects.get(account=key.account_id)
    assert (closing.limit, closing.room, closing.carries) == tuple(map(Decimal, (60, 10, 4)))
    assert carried(key) == of((NONE, "1"))


@pytest.mark.parametrize(
    ("late", "then"), [("0.5", ["2.5"]), ("3", []), ("-1", ["4"])], ids=["less", "none", "more"]
)
def test_what_comes_late_corrects_what_was_carried(late: str, then: list[str], cast: Cast) -> None:
    key, at = with_budget(cast), midnight() - HOUR
    spend(cast.organization, [key.account_id], "7", at=at)
    close()
    before = carried(key)

    spend(cast.organization, [key.account_id], late, at=at)
    with raises_version(cast.organization.pk):
        close()
    close()

    assert before == of((NONE, "3"))
    assert carried(key) == of(*((NONE, amount) for amount in then))


def test_what_was_overspent_and_then_corrected_is_carried_after_all(cast: Cast) -> None:
    key, at = with_budget(cast), midnight() - HOUR
    spend(cast.organization, [key.account_id], "12", at=at)
    close()

    spend(cast.organization, [key.account_id], "-3", at=at)
    close()

    assert carried(key) == of((NONE, "1"))


def test_without_a_rollover_nothing_is_carried(cast: Cast) -> None:
    key = with_budget(cast, Terms(max_budget=Decimal(10), duration="1d"))

    close()

    closing = Closing.objects.get(account=key.account_id)
    assert (closing.room, closing.carries, closing.next_end) == (Decimal(10), None, None)
    assert carried(key) == []


def test_until_all_of_a_period_is_recorded_nothing_is_carried(
    cast: Cast, recorded: list[datetime]
) -> None:
    key = with_budget(cast)
    recorded.append(midnight() - timedelta(seconds=1))

    close()

    assert carried(key) == []
    assert limits_of(key, at=datetime.now(UTC)) == [10 * NANO]


@pytest.mark.parametrize(
    "terms",
    [
        Terms(max_budget=Decimal(1), rollover_max=Decimal(1)),
        Terms(duration="1d", rollover_max=Decimal(1)),
        Terms(max_budget=Decimal(1), duration="1d", rollover_max=Decimal(-1)),
    ],
)
def test_a_rollover_that_does_not_fit_is_refused(terms: Terms) -> None:
    with pytest.raises(InvalidInput) as refused:
        terms.checked()

    assert refused.value.field == "rollover_max"


def test_a_rollover_is_given_told_and_taken_away_by_the_api() -> None:
    made = master().made("/key/generate", max_budget=9, budget_duration="1mo", rollover_max=2)
    cleared = master().made("/key/update", key=made["key"], rollover_max=None)

    assert (made["rollover_max"], cleared["rollover_max"]) == (2, None)
