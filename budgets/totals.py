"""
Period totals: what the ledger says each account has spent in a period.

A total is exact from the moment its row exists: the recorder adds every event to all rows whose
period holds it, and a row that is missing is made by summing the ledger, in one transaction with
the recorder locked out.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Sum

from budgets import in_force
from budgets.models import Budget, Partition, PeriodTotal, Reload, Reset
from budgets.periods import FOREVER, Period
from budgets.storekeeper import PARTITION

LedgerSum = Callable[[UUID, Period], tuple[int, int]]
"""Returns (amount in units, events) that the ledger has for an account in a period."""

_ledger_sum: list[LedgerSum] = []


def use_ledger(ledger_sum: LedgerSum) -> None:
    """Be told by the app above how to sum the ledger; dependencies point downwards only."""
    _ledger_sum[:] = [ledger_sum]


def lock_partition() -> Partition:
    """Lock out the recorder until the transaction ends."""
    return Partition.objects.select_for_update().get(number=PARTITION)


def begin(*, account_ids: Sequence[UUID], at: datetime) -> None:
    """
    Make the totals of the running periods of these accounts' budgets where they are missing, and
    have the counters loaded anew. Within the transaction that attached or changed the budgets.
    """
    partition = lock_partition()
    make_missing(wanted=running_periods(account_ids=account_ids, at=at))
    note_reloads(partition=partition, account_ids=account_ids)


def running_periods(*, account_ids: Iterable[UUID], at: datetime) -> set[tuple[UUID, Period]]:
    """Return (account, period) of every budget in force, and each account's lifetime."""
    accounts = set(account_ids)
    budgets = in_force.budgets_on(accounts)
    return {
        (account, period)
        for account in accounts
        for period in periods_of(budgets.get(account, ()), at=at)
    }


def periods_of(budgets: Iterable[Budget], *, at: datetime) -> set[Period]:
    """Return the periods in which an account with these budgets counts at ``at``."""
    return {FOREVER} | {budget.period_at(at) for budget in budgets}


def make_missing(*, wanted: Iterable[tuple[UUID, Period]]) -> None:
    """Make rows that do not exist by summing the ledger; the recorder must be locked out."""
    wanted = set(wanted)
    kept = PeriodTotal.objects.filter(
        account__in={account for account, _ in wanted},
        period_start__in={period.start for _, period in wanted},
    )
    present = {
        (account, Period(start, end))
        for account, start, end in kept.values_list("account_id", "period_start", "period_end")
    }
    PeriodTotal.objects.bulk_create(
        [_summed(account, period) for account, period in wanted - present], batch_size=1_000
    )


def note_reloads(*, partition: Partition, account_ids: Iterable[UUID]) -> None:
    """Raise the revision and list counters that must be dropped from the live store."""
    partition.revision += 1
    partition.save(update_fields=["revision"])
    list_reloads(account_ids, revision=partition.revision)


def list_reloads(account_ids: Iterable[UUID], *, revision: int) -> None:
    """List counters that the recorder must drop from the live store after the commit."""
    ids = sorted(set(account_ids))
    if not ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO budgets_reload (account_id, revision) SELECT unnest(%s::uuid[]), %s"
            " ON CONFLICT (account_id) DO UPDATE SET revision = excluded.revision",
            [ids, revision],
        )


def reloads_due() -> list[Reload]:
    return list(Reload.objects.all()[:10_000])


def _summed(account: UUID, period: Period) -> PeriodTotal:
    (ledger_sum,) = _ledger_sum
    amount, events = ledger_sum(account, period)
    reset_units = _taken_off(account, period)
    return PeriodTotal(
        account_id=account,
        period_start=period.start,
        period_end=period.end,
        amount_units=amount - reset_units,
        reset_units=reset_units,
        events=events,
    )


def _taken_off(account: UUID, period: Period) -> int:
    """Return what resets of this very period took off, which is never negative."""
    rows = Reset.objects.filter(
        account_id=account, period_start=period.start, period_end=period.end
    )
    return -int(rows.aggregate(units=Sum("amount_units"))["units"] or 0)
