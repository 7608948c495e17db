"""
Recomputes invariant 1 (no drift) from the ledger, row by row.

Every live counter = ledger + events not yet recorded, and what it holds = the open reservations;
every period total = ledger; every roll-up = its events. Resets are rows of the ledger that count
in one period of one account, and in no roll-up.
"""

import time
from collections import Counter as Sums
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from budgets import storekeeper
from budgets.models import Partition, Reload
from budgets.money import UNITS_MAX
from budgets.periods import Period
from budgets.storekeeper import PARTITION, Counter, StoreView
from spend import ledger
from spend.models import Verification

_CHARGES = ledger.charges_of("spend_event")
_RESETS = """
    SELECT coalesce(sum(reset.amount_units), 0)::bigint AS units FROM budgets_reset reset
    WHERE reset.account_id = {account}
          AND reset.period_start = {start} AND reset.period_end = {end}
"""
QUIET_TRIES_MAX = 50
VERIFICATIONS_KEPT = 1_000
PAUSE_SECONDS = 0.2


class NeverQuiet(Exception):
    """Recorder and store kept moving: no instant could be compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    what: str
    is_units: int
    should_be_units: int

    def __str__(self) -> str:
        drift = self.is_units - self.should_be_units
        return f"{self.what}: is {self.is_units}, should be {self.should_be_units} (drift {drift})"


@dataclass(frozen=True, slots=True)
class Report:
    """How much was compared, and what differs."""

    ledger_rows: int
    orphans: int
    counters: int
    totals: int
    rollup_rows: int
    differences: tuple[Difference, ...]

    @property
    def drift_units(self) -> int:
        """The sum of all differences, whichever way: none makes up for another."""
        return sum(abs(each.is_units - each.should_be_units) for each in self.differences)


def verify_and_keep(*, now: datetime) -> Report:
    """
    Compare everything at one instant, and keep what came out for whoever watches.

    :raises NeverQuiet: if no such instant came
    """
    report = verify()
    Verification.objects.create(
        at=now,
        ledger_rows=report.ledger_rows,
        differences=len(report.differences),
        drift_units=min(report.drift_units, UNITS_MAX),
    )
    newest = Verification.objects.order_by("-id").values("id")[:VERIFICATIONS_KEPT]
    Verification.objects.exclude(id__in=newest).delete()
    return report


def verify() -> Report:
    """
    Compare everything at one instant.

    :raises NeverQuiet: if no such instant came
    """
    for _ in range(QUIET_TRIES_MAX):
        try:
            return _verify_once()
        except storekeeper.NotQuiet:
            time.sleep(PAUSE_SECONDS)
    raise NeverQuiet


def _verify_once() -> Report:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        partition = Partition.objects.get(number=PARTITION)
        view = storekeeper.view()
        # Above the recorded position the stream must still be whole, and no counter known wrong.
        if view.position != partition.position or Reload.objects.exists():
            raise storekeeper.NotQuiet
        differences = [*_counters(view, partition.position), *_totals(), *_rollups()]
        return Report(
            ledger_rows=_count("SELECT count(*) FROM spend_event"),
            orphans=_count("SELECT count(*) FROM spend_event WHERE kind = 'orphan'"),
            counters=sum(map(len, view.counters.values())),
            totals=_count("SELECT count(*) FROM budgets_periodtotal"),
            rollup_rows=sum(_count(f"SELECT count(*) FROM {table}") for table in _ROLLUPS),
            differences=tuple(differences),
        )


def _counters(view: StoreView, position: str) -> Iterator[Difference]:
    wanted = [
        (account, counter) for account, counters in view.counters.items() for counter in counters
    ]
    recorded = _ledger_sums([(account, counter.period) for account, counter in wanted])
    for (account, counter), in_ledger in zip(wanted, recorded, strict=True):
        unrecorded = sum(
            entry.amount
            for entry in view.entries
            if account in entry.all_accounts
            and entry.admitted_at in counter.period
            and entry.is_after(position)
        )
        where = f"account {account}, {counter.period.start:%Y-%m-%d}–{counter.period.end:%Y-%m-%d}"
        if counter.spent != in_ledger + unrecorded:
            yield Difference(f"counter spent of {where}", counter.spent, in_ledger + unrecorded)
        yield from _held(account, counter, view, where)
    for account, in_flight in view.in_flight.items():
        open_now = sum(account in each.accounts for each in view.reservations)
        if in_flight != open_now:
            yield Difference(f"requests in flight of account {account}", in_flight, open_now)


def _held(account: UUID, counter: Counter, view: StoreView, where: str) -> Iterator[Difference]:
    """Compare what a counter holds, in either way of counting, with the open reservations."""
    open_now = [
        each
        for each in view.reservations
        if account in each.accounts and each.admitted_at in counter.period
    ]
    ceilings, expected = (
        sum(each.ceiling for each in open_now), sum(each.expected for each in open_now),
    )  # fmt: skip
    if counter.reserved != ceilings:
        yield Difference(f"counter reserved of {where}", counter.reserved, ceilings)
    if counter.expected != expected:
        yield Difference(f"counter expected of {where}", counter.expected, expected)


def _ledger_sums(wanted: list[tuple[UUID, Period]]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT coalesce(sum(event.amount_units), 0)::bigint + min(taken.units)
            FROM unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[])
                     WITH ORDINALITY AS wanted(account, first, last, n)
            CROSS JOIN LATERAL ({
                _RESETS.format(account="wanted.account", start="wanted.first", end="wanted.last")
            }) taken
            LEFT JOIN ({_CHARGES}) event ON event.account = wanted.account
                 AND event.admitted_at >= wanted.first AND event.admitted_at < wanted.last
            GROUP BY wanted.n ORDER BY wanted.n
            """,
            [
                [account for account, _ in wanted],
                [period.start for _, period in wanted],
                [period.end for _, period in wanted],
            ],
        )
        return [amount for (amount,) in cursor.fetchall()]


def _totals() -> Iterator[Difference]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT total.account_id, total.period_start, total.amount_units, total.events,
                   coalesce(sum(event.amount_units), 0)::bigint + min(taken.units),
                   count(event.account), total.reset_units, -min(taken.units)
            FROM budgets_periodtotal total
            CROSS JOIN LATERAL ({
                _RESETS.format(
                    account="total.account_id", start="total.period_start", end="total.period_end"
                )
            }) taken
            LEFT JOIN ({_CHARGES}) event ON event.account = total.account_id
                 AND event.admitted_at >= total.period_start
                 AND event.admitted_at < total.period_end
            GROUP BY total.id
            HAVING total.amount_units <> coalesce(sum(event.amount_units), 0) + min(taken.units)
                OR total.reset_units <> -min(taken.units)
                OR total.events <> count(event.account)
            ORDER BY total.id
            """
        )
        for account, start, amount, events, sum_, count, reset, taken in cursor.fetchall():
            where = f"account {account} from {start:%Y-%m-%d}"
            if amount != sum_:
                yield Difference(f"period total of {where}", amount, sum_)
            elif reset != taken:
                yield Difference(f"what resets took off of {where}", reset, taken)
            else:
                yield Difference(f"number of events of {where}", events, count)


_ROLLUPS = ("spend_quarterhour", "spend_labelquarterhour", "spend_day", "spend_labelday")


def _rollups() -> Iterator[Difference]:
    """Compare each account's sum over all buckets; a bucket's own sum is a part of it."""
    truth = _by_account(
        "SELECT unnest(accounts), sum(amount_units)::bigint FROM spend_event GROUP BY 1"
    )
    for name, tables in (("quarter-hours", _ROLLUPS[:2]), ("days", _ROLLUPS[2:])):
        union = " UNION ALL ".join(f"SELECT account_id, amount_units FROM {t}" for t in tables)
        kept = _by_account(
            f"SELECT account_id, sum(amount_units)::bigint FROM ({union}) rows GROUP BY 1"
        )
        for account in sorted(truth.keys() | kept.keys()):
            if truth[account] != kept[account]:
                yield Difference(f"{name} of account {account}", kept[account], truth[account])


def _by_account(sql: str) -> "Sums[UUID]":
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return Sums(dict(cursor.fetchall()))


def _count(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        (count,) = cursor.fetchone()
    return int(count)
