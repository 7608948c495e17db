"""
Period totals: what the ledger says each account has spent in a period.

A total is exact from the moment its row exists: the recorder adds every event to all rows whose
period holds it, and a row that is missing is made by summing the ledger, in one transaction with
the recorder locked out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Sum

from budgets import in_force
from budgets.models import Book, Budget, Partition, PeriodTotal, Reload, Reset
from budgets.periods import FOREVER, Period
from budgets.storekeeper import PARTITION

AccountPeriod = tuple[UUID, Period]
SUMS_PER_QUERY: Final = 1_000
LedgerSums = Callable[[Iterable[AccountPeriod]], Mapping[AccountPeriod, tuple[int, int]]]
"""Returns (amount in units, events) that the ledger has for each account in its period."""

_ledger_sums: list[LedgerSums] = []


def use_ledger(ledger_sums: LedgerSums) -> None:
    """Be told by the app above how to sum the ledger; dependencies point downwards only."""
    _ledger_sums[:] = [ledger_sums]


def lock_partition() -> Partition:
    """Lock out the recorder until the transaction ends."""
    return Partition.objects.select_for_update().get(number=PARTITION)


def begin(*, account_ids: Sequence[UUID], at: datetime) -> None:
    """
    Make the totals of the running periods of these accounts' budgets where they are missing, and
    have the counters loaded anew. Within the transaction that attached or changed the budgets.

    The periods that run now are the next to be closed; those that have ended stay due.
    """
    partition = lock_partition()
    make_missing(wanted=running_periods(account_ids=account_ids, at=at))
    Book.objects.filter(link__account__in=account_ids, closes_at__gt=at).update(
        open_at=at, closes_at=at
    )
    note_reloads(partition=partition, account_ids=account_ids)


def running_periods(*, account_ids: Iterable[UUID], at: datetime) -> set[AccountPeriod]:
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


def make_missing(*, wanted: Iterable[AccountPeriod]) -> None:
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
    (ledger_sums,) = _ledger_sums
    missing = sorted(wanted - present, key=lambda each: (each[0], each[1].start, each[1].end))
    for first in range(0, len(missing), SUMS_PER_QUERY):
        some = missing[first : first + SUMS_PER_QUERY]
        sums, taken_off = ledger_sums(some), _taken_off(some)
        PeriodTotal.objects.bulk_create(
            _total(*each, *of_ledger, reset_units=taken_off.get(each, 0))
            for each, of_ledger in sums.items()
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


def ledger_sum(account: UUID, period: Period) -> tuple[int, int]:
    """Return (amount in units, rows) that the ledger has of an account in a period."""
    (ledger_sums,) = _ledger_sums
    return ledger_sums([(account, period)])[account, period]


def _total(
    account: UUID, period: Period, amount: int, events: int, *, reset_units: int
) -> PeriodTotal:
    return PeriodTotal(
        account_id=account,
        period_start=period.start,
        period_end=period.end,
        amount_units=amount - reset_units,
        reset_units=reset_units,
        events=events,
    )


def _taken_off(wanted: Sequence[AccountPeriod]) -> dict[AccountPeriod, int]:
    """Return what resets of these very periods took off, which is never negative."""
    rows = Reset.objects.filter(account_id__in={account for account, _ in wanted})
    bounds = rows.order_by().values_list("account_id", "period_start", "period_end")
    return {
        (account, Period(start, end)): -int(units)
        for account, start, end, units in bounds.annotate(units=Sum("amount_units"))
    }
