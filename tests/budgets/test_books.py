"""
The books of ended periods are closed once each, whoever does it how often, and money is not asked.

Time goes on by ``STORE_CLOCK_OFFSET_MS``: the live store's clock is the one that counts.
"""

import asyncio
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db import DatabaseError, connections, transaction

from budgets import failpoints, storekeeper, totals
from budgets.changes import change
from budgets.contexts import PathAccount
from budgets.livestore import LiveStore
from budgets.models import (
    Account,
    Book,
    Budget,
    BudgetTemplate,
    Closing,
    EndUser,
    Organization,
    PeriodTotal,
)
from budgets.periods import FOREVER, Period, period_at
from budgets.services import accounts, books, budgets
from budgets.services.accounts import Terms
from budgets.tasks import close_ended_periods
from spend.components import Component
from tests.budgets.support import Bench, account, context, record_everything, store_of_another_run
from tests.conftest import Cast
from tests.spend.support import apply, entry
from tests.spend.test_rerating import (
    NOON,
    WRONG,
    WRONG_UNITS,
    charge,
    new_book,
)

pytestmark = pytest.mark.usefixtures("alone")

DAY = timedelta(days=1)
CHEAPER = {Component.INPUT: "0.000001", Component.OUTPUT: "0.00001"}
CHEAPER_UNITS = 2_000_000
DAILY = Terms(max_budget=Decimal(10), duration="1d")
MONTHLY = Terms(max_budget=Decimal(300), duration="1mo")
Goes = Callable[..., None]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(autouse=True)
def nothing_is_due_yet() -> None:
    """Leave out what other tests have made: there may be a year of it to close."""
    Book.objects.update(closes_at=FOREVER.end)
    PeriodTotal.objects.exclude(period_end=FOREVER.end).update(is_closed=True)


@pytest.fixture
def time_goes_on(monkeypatch: pytest.MonkeyPatch) -> Goes:
    """Let the store's clock be so much ahead."""

    def go(by: timedelta) -> None:
        monkeypatch.setattr(settings, "STORE_CLOCK_OFFSET_MS", by // timedelta(milliseconds=1))

    return go


def give(of: PathAccount, terms: Terms) -> Budget:
    row = Account.objects.select_related("organization").get(pk=of.id)
    assert row.organization_id is not None
    with change(scope=row.organization_id):
        budget = accounts.set_private_budget(account=row, terms=terms, now=now())
    assert budget is not None
    return budget


def limited(organization: Organization, terms: Terms = DAILY) -> PathAccount:
    of = account(organization)
    give(of, terms)
    return of


async def spend(store: LiveStore, cast: Cast, of: PathAccount, cost: int) -> None:
    await Bench(store, of, context(cast.organization, [of])).spend(cost)


def close() -> int:
    return books.close_due(now=now(), count=1_000_000)


def closings(of: PathAccount) -> list[Closing]:
    return list(Closing.objects.filter(account=of.id).order_by("pk"))


def figures(of: PathAccount) -> list[tuple[int, int, int, int]]:
    """Return (spent, events, late, late events) of each closing."""
    return [(c.spent_units, c.events, c.late_units, c.late_events) for c in closings(of)]


def periods_closed(of: PathAccount) -> list[Period]:
    return [Period(each.period_start, each.period_end) for each in closings(of)]


def day_of(at: datetime, zone: str = "UTC") -> Period:
    return period_at(duration="1d", zone=ZoneInfo(zone), at=at)


def days_from(first: Period, *, until: datetime, zone: str = "UTC") -> list[Period]:
    found, day = [], first
    while day.end <= until:
        found.append(day)
        day = day_of(day.end, zone)
    return found


async def test_ended_period_has_what_was_spent_and_the_limit_that_held(
    store: LiveStore, cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization)
    for cost in (5, 7):
        await spend(store, cast, of, cost)
    record_everything()

    time_goes_on(DAY)
    close()

    (closing,) = closings(of)
    assert figures(of) == [(12, 2, 0, 0)]
    assert periods_closed(of) == [day_of(now())]
    assert (closing.limit, closing.time_zone) == (Decimal(10), "UTC")
    assert closing.closed_at - now() < timedelta(minutes=1)


def test_period_in_which_nothing_was_spent_is_closed_too(cast: Cast, time_goes_on: Goes) -> None:
    of = limited(cast.organization)

    time_goes_on(DAY)
    close()

    assert figures(of) == [(0, 0, 0, 0)]


def test_period_that_runs_is_left_open(cast: Cast) -> None:
    of = limited(cast.organization)

    close()

    assert closings(of) == []
    assert Book.objects.get(link__account=of.id).closes_at == day_of(now()).end


def test_lifetime_is_never_closed(cast: Cast, time_goes_on: Goes) -> None:
    of = limited(cast.organization, Terms(max_budget=Decimal(1)))

    time_goes_on(40 * DAY)
    close()

    assert closings(of) == []


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Pacific/Kiritimati"])
def test_every_period_of_a_long_downtime_is_closed_once_and_in_order(
    zone: str, cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization, Terms(max_budget=Decimal(10), duration="1d", time_zone=zone))
    first = day_of(now(), zone)

    time_goes_on(26 * timedelta(hours=1))
    close()
    after_26_hours = periods_closed(of)
    expected = days_from(first, until=now() + 26 * timedelta(hours=1), zone=zone)
    time_goes_on(25 * DAY)
    close()

    assert after_26_hours == expected
    assert periods_closed(of) == days_from(first, until=now() + 25 * DAY, zone=zone)
    assert len(periods_closed(of)) > books.PERIODS_PER_BOOK_MAX


async def test_period_is_not_closed_before_all_that_was_settled_in_it_is_recorded(
    store: LiveStore, cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization)
    await spend(store, cast, of, 5)
    settled = now()
    await asyncio.sleep(0.2)

    time_goes_on(day_of(settled).end - settled - timedelta(milliseconds=50))
    close()
    while_unrecorded = closings(of)
    record_everything()
    close()

    assert while_unrecorded == []
    assert figures(of) == [(5, 1, 0, 0)]


def test_nothing_is_closed_while_the_store_is_not_the_one_that_postgres_knows(
    cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization)
    time_goes_on(DAY)

    with store_of_another_run(), pytest.raises(storekeeper.Closed):
        close()

    assert closings(of) == []


def test_what_comes_after_the_close_stands_beside_it(cast: Cast, time_goes_on: Goes) -> None:
    of = limited(cast.organization)
    path, at = context(cast.organization, [of]), now()
    apply(entry(path, 5, at=at))
    time_goes_on(DAY)
    close()

    apply(entry(path, 7, at=at), entry(path, 1, at=at + DAY))
    apply(entry(path, 20, at=at))

    assert figures(of) == [(5, 1, 27, 2)]


def test_what_comes_late_into_a_quiet_period_stands_beside_it(
    cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization)
    path, at = context(cast.organization, [of]), now()
    apply(entry(path, 9, at=at - 3 * DAY))
    Book.objects.filter(link__account=of.id).update(open_at=at - DAY, closes_at=at - DAY)
    close()

    apply(entry(path, 7, at=at - DAY))
    apply(entry(path, 4, at=at - DAY))
    close()

    assert figures(of) == [(0, 0, 11, 2)]


def test_closing_and_what_came_late_are_the_total(cast: Cast, time_goes_on: Goes) -> None:
    of = limited(cast.organization)
    path, at = context(cast.organization, [of]), now()
    apply(*(entry(path, 5, at=at) for _ in range(10)))
    time_goes_on(DAY)
    close()
    apply(*(entry(path, 3, at=at) for _ in range(10)))

    (closing,) = closings(of)
    total = PeriodTotal.objects.get(account=of.id, period_end=closing.period_end)

    assert total.amount_units == closing.spent_units + closing.late_units == 80
    assert total.events == closing.events + closing.late_events == 20


def test_what_a_re_rating_corrects_in_a_closed_period_stands_beside_it(
    cast: Cast, time_goes_on: Goes
) -> None:
    of, models = limited(cast.organization), new_book()
    Book.objects.filter(link__account=of.id).update(open_at=NOON, closes_at=NOON)
    old = models.price(WRONG)
    charge(models, cast.organization, of)
    with transaction.atomic():
        totals.lock_partition()
        totals.make_missing(wanted=[(of.id, day_of(NOON))])
    while close():
        pass
    of_that_day = Closing.objects.get(account=of.id, period_end=day_of(NOON).end)

    models.correct(old, CHEAPER)
    models.rerate()
    of_that_day.refresh_from_db()

    assert (of_that_day.spent_units, of_that_day.events) == (WRONG_UNITS, 1)
    assert of_that_day.late_units == CHEAPER_UNITS - WRONG_UNITS
    assert of_that_day.late_events == 1


def test_five_that_close_at_once_make_one_closing(cast: Cast, time_goes_on: Goes) -> None:
    several = [limited(cast.organization) for _ in range(20)]
    time_goes_on(DAY)

    in_parallel(5, close_ended_periods)
    close()

    assert [len(closings(of)) for of in several] == [1] * 20


def test_tick_that_the_broker_delivers_three_times_makes_one_closing(
    cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization)
    time_goes_on(DAY)

    for _ in range(3):
        close_ended_periods(of_a_newer_version="ignored")

    assert len(closings(of)) == 1


def test_close_that_breaks_off_goes_on_where_it_was(
    cast: Cast, time_goes_on: Goes, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [limited(cast.organization) for _ in range(25)]
    monkeypatch.setattr(books, "BATCH", 10)
    hits: list[str] = []

    def break_off(point: str) -> None:
        hits.append(point)
        if len(hits) == 2:
            raise DatabaseError

    time_goes_on(DAY)
    monkeypatch.setattr(failpoints, "hit", break_off)
    with pytest.raises(DatabaseError):
        close()
    close()

    assert [len(closings(of)) for of in several] == [1] * 25


def test_a_call_stops_after_as_many_as_it_may_close(
    cast: Cast, time_goes_on: Goes, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [limited(cast.organization) for _ in range(30)]
    monkeypatch.setattr(books, "BATCH", 10)
    time_goes_on(DAY)

    closed = books.close_due(now=now(), count=15)
    close()

    assert closed == 20
    assert [len(closings(of)) for of in several] == [1] * 30


def test_budgets_of_one_account_are_closed_each_at_its_own_end(
    cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization)
    shared = budgets.create_budget(organization=cast.organization, terms=MONTHLY)
    other = budgets.create_budget(organization=cast.organization, terms=DAILY, name="Other")
    row = Account.objects.get(pk=of.id)
    with change(scope=cast.organization.pk):
        accounts.link_budgets(account=row, budgets=[shared, other], now=now())
    apply(entry(context(cast.organization, [of]), 5, at=now()))
    month = period_at(duration="1mo", zone=ZoneInfo("UTC"), at=now())

    time_goes_on(month.end - now() + timedelta(seconds=1))
    close()

    today = [c for c in closings(of) if c.period_start == day_of(now()).start]
    of_month = [c for c in closings(of) if c.budget_id == shared.pk]
    assert sorted(each.spent_units for each in today if each.budget_id != shared.pk) == [5, 5]
    assert [(each.period_end, each.spent_units) for each in of_month] == [(month.end, 5)]


def test_budget_that_becomes_monthly_leaves_the_day_that_ran_uncounted(
    cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization)
    give(of, MONTHLY)
    month = period_at(duration="1mo", zone=ZoneInfo("UTC"), at=now())

    time_goes_on(month.end - now() + timedelta(seconds=1))
    close()

    assert periods_closed(of) == [month]


def test_budget_that_becomes_daily_begins_with_the_day_that_runs(
    cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization, Terms(max_budget=Decimal(9), duration="1y"))
    Book.objects.filter(link__account=of.id).update(open_at=now() - 90 * DAY)
    close()
    give(of, DAILY)

    time_goes_on(DAY)
    close()

    assert periods_closed(of) == [day_of(now())]


def test_period_that_had_ended_before_its_zone_changed_is_not_left_out(
    cast: Cast, time_goes_on: Goes
) -> None:
    of, at = limited(cast.organization), now()
    Book.objects.filter(link__account=of.id).update(open_at=at - 2 * DAY, closes_at=at - DAY)

    give(of, Terms(max_budget=Decimal(10), duration="1d", time_zone="Asia/Kolkata"))
    close()

    first = day_of(at - 2 * DAY, "Asia/Kolkata")
    assert periods_closed(of) == days_from(first, until=now(), zone="Asia/Kolkata")


def test_end_user_under_a_template_has_closings_of_the_periods_in_which_it_spent(
    cast: Cast, time_goes_on: Goes
) -> None:
    budget = budgets.create_budget(organization=cast.organization, terms=DAILY, name="Customers")
    with change(scope=cast.organization.pk):
        accounts.set_template(
            holder=cast.organization.account,
            applies_to=BudgetTemplate.AppliesTo.END_USER,
            budgets=[budget],
            now=now(),
        )
    spending, quiet = (end_user(cast.organization) for _ in range(2))
    path, at = context(cast.organization, [spending]), now()
    apply(entry(path, 5, at=at))

    time_goes_on(2 * DAY)
    close()
    close()
    apply(entry(path, 2, at=at))

    assert figures(spending) == [(5, 1, 2, 1)]
    assert closings(spending)[0].budget_id == budget.pk
    assert closings(quiet) == []


def test_closing_outlives_its_budget(cast: Cast, time_goes_on: Goes) -> None:
    of = account(cast.organization)
    budget = budgets.create_budget(organization=cast.organization, terms=DAILY, name="Gone")
    row = Account.objects.get(pk=of.id)
    with change(scope=cast.organization.pk):
        accounts.link_budgets(account=row, budgets=[budget], now=now())
    time_goes_on(DAY)
    close()

    with change(scope=cast.organization.pk):
        accounts.link_budgets(account=row, budgets=[], now=now())
    budgets.delete_budget(budget=budget)

    (closing,) = closings(of)
    assert (closing.budget_id, closing.budget_name) == (None, "Gone")
    assert not Book.objects.filter(link__account=of.id).exists()


@pytest.mark.parametrize("wanted", [{"spent_units": 1}, {"limit": 1}, {"closed_at": now()}])
def test_closing_is_never_altered(
    wanted: dict[str, object], cast: Cast, time_goes_on: Goes
) -> None:
    of = limited(cast.organization)
    time_goes_on(DAY)
    close()

    for forbidden in (
        lambda: Closing.objects.filter(account=of.id).update(**wanted),
        lambda: Closing.objects.filter(account=of.id).delete(),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            forbidden()

    assert figures(of) == [(0, 0, 0, 0)]


def test_budget_whose_zone_nobody_knows_keeps_no_other_open(cast: Cast, time_goes_on: Goes) -> None:
    odd, fine = limited(cast.organization), limited(cast.organization)
    Budget.objects.filter(accounts=odd.id).update(time_zone="Atlantis/Centre")

    time_goes_on(DAY)
    close()
    Budget.objects.filter(accounts=odd.id).update(time_zone="UTC")
    time_goes_on(DAY + 2 * books.PUT_OFF)
    close()

    assert [len(closings(fine)), len(closings(odd))] == [1, 1]


def test_what_is_due_tells_how_late_the_books_are(cast: Cast) -> None:
    of = limited(cast.organization)
    end = day_of(now()).end
    close()

    before = books.oldest_due(at=end - timedelta(seconds=1))
    after = books.oldest_due(at=end + timedelta(seconds=1))
    spent = PeriodTotal.objects.create(
        account_id=of.id, period_start=end - 2 * DAY, period_end=end - DAY
    )

    assert (before, after) == (None, end)
    assert books.oldest_due(at=end) == spent.period_end


def in_parallel(count: int, do: Callable[[], object]) -> None:
    def in_a_thread() -> None:
        try:
            do()
        finally:
            connections.close_all()

    threads: Sequence[threading.Thread] = [
        threading.Thread(target=in_a_thread) for _ in range(count)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)


def end_user(organization: Organization) -> PathAccount:
    text = uuid.uuid4().hex
    row = accounts.new_account(organization=organization, kind="end_user", label=text)  # type: ignore[arg-type]  # a choice is its text
    EndUser.objects.create(organization=organization, external_id=text, account=row)
    return PathAccount(row.id, row.kind, row.label)
