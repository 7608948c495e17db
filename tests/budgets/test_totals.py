"""Period totals are exact from the moment their row exists, whenever the budget came."""

import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, connections, transaction

from budgets import snapshots, totals
from budgets.changes import change
from budgets.contexts import PathAccount
from budgets.livestore import LiveStore
from budgets.models import Account, Budget, PeriodTotal, Reload
from budgets.periods import FOREVER, Period, period_at
from budgets.services import accounts, budgets
from budgets.services.accounts import Terms
from spend import ledger
from spend.models import QuarterHour
from tests.budgets.support import (
    Bench,
    account,
    bench,
    context,
    counted,
    counter_of,
    is_loaded,
    limit_on,
    load,
    partition,
    record_everything,
)
from tests.conftest import Cast

pytestmark = pytest.mark.usefixtures("alone")

DAILY = Terms(max_budget=Decimal(10), duration="1d")
MONTHLY = Terms(max_budget=Decimal(10), duration="1mo")


def now() -> datetime:
    return datetime.now(UTC)


def row(of: PathAccount) -> Account:
    return Account.objects.get(pk=of.id)


def give(of: PathAccount, terms: Terms) -> Budget:
    """Give an account limits of its own, as the services do."""
    holder = row(of)
    assert holder.organization_id is not None
    with change(scope=holder.organization_id):
        budget = accounts.set_private_budget(account=holder, terms=terms, now=now())
    assert budget is not None
    return budget


def period_of(duration: str, zone: str = "UTC") -> Period:
    return period_at(duration=duration, zone=ZoneInfo(zone), at=now())


def total_of(of: PathAccount, period: Period) -> tuple[int, int] | None:
    kept = PeriodTotal.objects.filter(
        account=of.id, period_start=period.start, period_end=period.end
    )
    return kept.values_list("amount_units", "events").first()


async def spend(store: LiveStore, cast: Cast, of: PathAccount, amounts: Iterable[int]) -> None:
    for amount in amounts:
        await Bench(store, of, context(cast.organization, [of])).spend(amount)


async def test_every_account_that_spends_has_its_lifetime_total(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)

    await spend(store, cast, of, [5, 7])
    record_everything()

    top = PathAccount(cast.organization.account_id, "", "")
    assert total_of(of, FOREVER) == (12, 2)
    assert total_of(top, FOREVER) == (12, 2)


async def test_budget_that_comes_in_mid_period_counts_what_was_spent_before(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    await spend(store, cast, of, [5, 7])
    record_everything()

    give(of, DAILY)
    await spend(store, cast, of, [11])
    record_everything()

    assert total_of(of, period_of("1d")) == (23, 3)


async def test_counter_of_a_budget_that_comes_in_mid_period_holds_what_was_spent_before(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    await spend(store, cast, of, [5])
    record_everything()
    await spend(store, cast, of, [7])

    give(of, DAILY)
    limit = limit_on(of, 100, period=period_of("1d"))
    await load(store, [limit])

    assert counter_of(of, period_of("1d")).spent == 12


@pytest.mark.parametrize(
    "terms",
    [
        Terms(max_budget=Decimal(10), duration="1mo"),
        Terms(max_budget=Decimal(10), duration="1y"),
        Terms(max_budget=Decimal(10)),
        Terms(max_budget=Decimal(10), duration="1d", time_zone="Asia/Kathmandu"),
        Terms(max_budget=Decimal(10), duration="1d", time_zone="Pacific/Kiritimati"),
    ],
)
async def test_budget_whose_period_changes_counts_what_was_spent_in_the_new_one(
    terms: Terms, store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    budget = give(of, DAILY)
    await spend(store, cast, of, [5, 7])
    record_everything()

    budgets.update_budget(budget=budget, terms=terms, now=now())
    await spend(store, cast, of, [11])
    record_everything()

    period = period_of(terms.duration, terms.time_zone)
    assert total_of(of, period) == (23, 3)


async def test_budget_that_is_taken_off_and_put_on_again_has_missed_nothing(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    budget = budgets.create_budget(organization=cast.organization, terms=DAILY)
    steps = [accounts.attach, accounts.detach, accounts.attach]

    for amount, step in enumerate(steps, start=1):
        with change(scope=cast.organization.pk):
            step(account=row(of), budget=budget, now=now())
        await spend(store, cast, of, [amount])
        record_everything()

    assert total_of(of, period_of("1d")) == (1 + 2 + 3, 3)


async def test_change_of_a_shared_budget_reaches_every_account_that_has_it(
    store: LiveStore, cast: Cast
) -> None:
    holders = [account(cast.organization) for _ in range(2)]
    budget = budgets.create_budget(organization=cast.organization, terms=DAILY)
    for of in holders:
        with change(scope=cast.organization.pk):
            accounts.attach(account=row(of), budget=budget, now=now())
        await spend(store, cast, of, [5])
    record_everything()

    budgets.update_budget(budget=budget, terms=MONTHLY, now=now())

    assert [total_of(of, period_of("1mo")) for of in holders] == [(5, 1), (5, 1)]


async def test_several_budgets_of_one_account_each_have_their_total(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    give(of, DAILY)
    shared = budgets.create_budget(organization=cast.organization, terms=MONTHLY)
    with change(scope=cast.organization.pk):
        accounts.attach(account=row(of), budget=shared, now=now())

    await spend(store, cast, of, [5])
    record_everything()

    periods = [period_of("1d"), period_of("1mo"), FOREVER]
    assert [total_of(of, period) for period in periods] == [(5, 1)] * 3


async def test_attaching_has_the_counters_of_the_account_loaded_anew(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    before = partition().revision

    give(team.account, DAILY)
    listed = Reload.objects.filter(account_id=team.account.id).values_list("revision", flat=True)
    listed_at = list(listed)
    record_everything()

    assert listed_at == [partition().revision]
    assert partition().revision == before + 1
    assert not is_loaded(team.account)
    assert not Reload.objects.filter(account_id=team.account.id).exists()


async def test_total_that_has_no_row_yet_is_summed_and_not_taken_for_0(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    await spend(store, cast, of, [5])
    record_everything()
    limit = limit_on(of, 100, period=period_of("1d"))

    (total,) = snapshots.ledger_totals(counted([limit]))

    assert total.spent == 5
    assert await store.load(total)


def test_making_what_is_missing_twice_makes_it_once(cast: Cast) -> None:
    of = account(cast.organization)
    wanted = {(of.id, FOREVER), (of.id, period_of("1d"))}

    for _ in range(2):
        with transaction.atomic():
            totals.lock_partition()
            totals.make_missing(wanted=wanted)

    assert PeriodTotal.objects.filter(account=of.id).count() == 2


async def test_missing_total_is_made_by_summing_the_ledger(store: LiveStore, cast: Cast) -> None:
    of = account(cast.organization)
    await spend(store, cast, of, [5, 7])
    record_everything()
    PeriodTotal.objects.filter(account=of.id).delete()

    await spend(store, cast, of, [11])
    record_everything()

    assert total_of(of, FOREVER) == (23, 3)


def test_sum_of_a_period_has_its_start_and_not_its_end(cast: Cast) -> None:
    """Half-open: what is admitted at the very end belongs to the next period."""
    of = account(cast.organization)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for bucket, amount in ((start - timedelta(minutes=15), 1), (start, 10),
                           (start + timedelta(days=1), 100)):  # fmt: skip
        QuarterHour.objects.create(
            account_id=of.id, bucket_start=bucket, model="", provider="", deployment="",
            amount_units=amount, events=1, input_tokens=0, output_tokens=0,
        )  # fmt: skip

    summed = ledger.sum_of(of.id, Period(start, start + timedelta(days=1)))
    QuarterHour.objects.filter(account_id=of.id).delete()

    assert summed == (10, 1)


def test_running_periods_are_those_of_the_budgets_and_the_lifetime(cast: Cast) -> None:
    with_budget, without = account(cast.organization), account(cast.organization)
    give(with_budget, DAILY)
    at = now()

    running = totals.running_periods(account_ids=[with_budget.id, without.id], at=at)

    day = period_at(duration="1d", zone=ZoneInfo("UTC"), at=at)
    assert running == {(with_budget.id, FOREVER), (with_budget.id, day), (without.id, FOREVER)}


def test_recorder_waits_while_a_budget_is_being_attached(cast: Cast) -> None:
    """Else an event recorded between sum and commit would be in neither."""
    waited: list[float] = []
    with transaction.atomic():
        totals.lock_partition()
        rival = threading.Thread(target=_lock_and_tell, args=[waited, time.monotonic()])
        rival.start()
        time.sleep(0.2)
        nothing_yet = list(waited)
    rival.join(5)

    assert nothing_yet == []
    assert waited[0] >= 0.2


def test_totals_of_one_snapshot_name_position_and_revision(cast: Cast) -> None:
    of = account(cast.organization)
    limits = [limit_on(of, 1), limit_on(of, 1, period=period_of("1d"))]

    read = snapshots.ledger_totals(counted(limits))

    current = partition()
    assert {(t.position, t.revision) for t in read} == {(current.position, current.revision)}
    assert [(t.start_ms, t.end_ms) for t in read] == [
        (period.start_ms, period.end_ms) for _, period in counted(limits)
    ]


def _lock_and_tell(waited: list[float], began: float) -> None:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE budgets_partition SET revision = revision")
            waited.append(time.monotonic() - began)
    finally:
        connections.close_all()
