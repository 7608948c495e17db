"""
Closing the books of periods that have ended: what was spent in each, as a row that stays.

It is history. No limit, counter or request depends on it: a new period begins by the clock, and
whether its predecessor was closed in time, late, or five times at once, changes no money.

Two things tell what is to be closed. A budget that is attached to an account has a
:class:`~budgets.models.Book`, which knows the end of its next period, so that a period in which
nothing was spent is closed too. One that a template gives has no row; there the period totals of
accounts that have spent are looked through, of which only those that are not closed are indexed.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from budgets import book_metrics, failpoints, in_force, money, storekeeper, totals
from budgets.models import Book, Budget, Closing, Increase, IncreaseState, PeriodTotal
from budgets.periods import FOREVER, Period, UnknownDuration, UnknownZone
from budgets.services import rollover
from budgets.totals import AccountPeriod

log = logging.getLogger(__name__)

BATCH: Final = 500
"""So many are closed under one lock; the recorder waits for it."""
PERIODS_PER_BOOK_MAX: Final = 10
"""Of one book in a batch: after a year without a worker there are more."""
SHORTEST: Final = timedelta(hours=20)
"""A day has at least 23 hours; shorter periods are not closed: the roll-ups have their sums."""
PUT_OFF: Final = timedelta(hours=1)
_LOCK_NAMESPACE: Final = 0x626F6F6B
_COLUMNS: Final = 10
"""So many of a closing's are known beforehand: its sums are the ledger's."""
_LIMITS: Final = (
    # Who is stopped in the middle must not keep the recorder waiting.
    "SET LOCAL idle_in_transaction_session_timeout = '10s';"
    "SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '5s'"
)

Step = Callable[[datetime, datetime], "Batch"]


class AlreadyClosing(Exception):
    """Another process is closing books right now."""


@dataclass(frozen=True, slots=True)
class Batch:
    """How many books or totals were looked at, and how many periods were closed."""

    seen: int
    closed: int


@dataclass(frozen=True, slots=True)
class Due:
    """A period of a budget on an account that has ended."""

    account_id: UUID
    budget: Budget
    period: Period


def close_due(*, now: datetime, count: int) -> int:
    """
    Close every period that has ended and is recorded, the oldest first; return how many.

    It stops after about ``count``, and the next call goes on. Safe to run twice, at the same time,
    and again after it was broken off: each batch is a transaction, and each period has one closing.

    :raises AlreadyClosing: if another process is at it
    :raises Closed: if the live store is not open: nobody knows then what is still to be recorded
    """
    until = storekeeper.recorded_until()
    closed = 0
    for step in (_close_books, _close_totals):
        goes_on = True
        while goes_on and closed < count:
            batch = _run(step, until, now)
            # Until none is left, not until a batch is small: a book may have more to close.
            goes_on, closed = batch.seen > 0, closed + batch.closed
    rollover.correct(now=now)
    return closed


def oldest_due(*, at: datetime) -> datetime | None:
    """Return when the oldest period ended that is not closed; None if all are."""
    books = Book.objects.filter(closes_at__lte=at).order_by("closes_at")
    unclosed = PeriodTotal.objects.filter(is_closed=False, period_end__lte=at)
    firsts = (
        books.values_list("closes_at", flat=True).first(),
        unclosed.order_by("period_end").values_list("period_end", flat=True).first(),
    )
    return min((each for each in firsts if each is not None), default=None)


def _run(step: Step, until: datetime, now: datetime) -> Batch:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_LIMITS)
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, 0)", [_LOCK_NAMESPACE])
            if cursor.fetchone() != (True,):
                raise AlreadyClosing
        totals.lock_partition()
        batch = step(until, now)
        failpoints.hit(failpoints.CLOSING_BEFORE_COMMIT)
    book_metrics.closed(periods=batch.closed)
    return batch


def _close_books(until: datetime, now: datetime) -> Batch:
    rows = Book.objects.filter(closes_at__lte=until).order_by("closes_at", "pk")
    books = list(rows.select_related("link__budget")[:BATCH])
    due = [each for book in books for each in _ended(book, until)]
    spending = _have_spent(each.account_id for each in due)
    wanted = {(each.account_id, each.period) for each in due}
    totals.make_missing(wanted=[each for each in wanted if each[0] in spending])
    closed = _write(due, now)
    _close_off(wanted)
    _turn_over(books)
    return Batch(len(books), closed)


def _close_totals(until: datetime, now: datetime) -> Batch:
    """Close what templates have given, and take the rest off the index: nobody's period."""
    rows = PeriodTotal.objects.filter(is_closed=False, period_end__lte=until)
    found = {
        (total.account_id, Period(total.period_start, total.period_end))
        for total in rows.order_by("period_end", "pk")[:BATCH]
    }
    budgets = in_force.by_templates(account for account, _ in found)
    due = [
        Due(account, budget, period)
        for account, period in found
        for budget in budgets.get(account, ())
        if _lasts(period) and budget.period_at(period.start) == period
    ]
    closed = _write(due, now)
    _close_off(found)
    return Batch(len(found), closed)


def _ended(book: Book, until: datetime) -> list[Due]:
    """Return the periods of a book that are over, and let it go on with the next."""
    link = book.link
    found: list[Due] = []
    # What one carries is part of what the next has left: one after the other.
    most = PERIODS_PER_BOOK_MAX if link.budget.rollover_max is None else 1
    try:
        period = link.budget.period_at(book.open_at)
        while _lasts(period) and period.end <= until and len(found) < most:
            found.append(Due(link.account_id, link.budget, period))
            book.open_at = period.end
            period = link.budget.period_at(book.open_at)
    except (UnknownZone, UnknownDuration, OverflowError):
        # One budget whose zone the host does not know must not keep all others open.
        log.exception("period_not_closed", extra={"budget": link.budget.public_id})
        book_metrics.failed()
        book.closes_at = until + PUT_OFF
        return found
    book.closes_at = period.end if _lasts(period) else FOREVER.end
    return found


def _lasts(period: Period) -> bool:
    return period.end - period.start >= SHORTEST


def _have_spent(accounts: Iterable[UUID]) -> set[UUID]:
    """Return the accounts that the ledger has anything of: others need no sums."""
    lifetimes = PeriodTotal.objects.filter(account__in=set(accounts), period_end=FOREVER.end)
    return set(lifetimes.values_list("account_id", flat=True))


def _write(due: Sequence[Due], now: datetime) -> int:
    """Add a closing for each that has none, and carry on what it has left; return how many."""
    rows = _rows(due)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO budgets_closing (
                account_id, budget_id, budget_name, time_zone, period_start, period_end, "limit",
                room, carries, next_end, spent_units, events, late_units, late_events,
                corrected_units, closed_at
            )
            SELECT due.*, coalesce(total.amount_units, 0), coalesce(total.events, 0), 0, 0, 0, %s
            FROM unnest(
                %s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[],
                %s::timestamptz[], %s::numeric[], %s::numeric[], %s::numeric[], %s::timestamptz[]
            ) AS due(account_id, budget_id, name, zone, period_start, period_end, "limit", room,
                     carries, next_end)
            LEFT JOIN budgets_periodtotal total USING (account_id, period_start, period_end)
            ORDER BY due.period_end, due.account_id
            ON CONFLICT DO NOTHING
            RETURNING id, carries IS NOT NULL
            """,
            [now, *([each[n] for each in rows] for n in range(_COLUMNS))],
        )
        written = cursor.fetchall()
    carrying = [id for id, carries in written if carries]
    rollover.carry(Closing.objects.filter(pk__in=carrying).select_related("account__organization"))
    return len(written)


def _rows(due: Sequence[Due]) -> list[tuple[Any, ...]]:
    """Return what a closing says beside its sums, in the order of its columns."""
    raised = _raised(due)
    rows: list[tuple[Any, ...]] = []
    for each in due:
        budget, period = each.budget, each.period
        candidates = raised.get((each.account_id, budget.pk), ())
        of_this = [row for row in candidates if _counts_at_end(row, period)]
        carries = budget.rollover_max if budget.max_budget is not None else None
        rows.append(
            (
                each.account_id, budget.pk, str(budget), budget.time_zone, period.start, period.end,
                _with(budget.max_budget, of_this),
                _with(budget.max_budget, [row for row in of_this if row.is_rollover]),
                carries,
                None if carries is None else budget.period_at(period.end).end,
            )
        )  # fmt: skip
    return rows


def _raised(due: Sequence[Due]) -> dict[tuple[UUID, int], list[Increase]]:
    """Return the increases that may have counted at the end of these periods."""
    found: dict[tuple[UUID, int], list[Increase]] = defaultdict(list)
    if due:
        rows = Increase.objects.filter(
            account__in={each.account_id for each in due},
            state=IncreaseState.APPROVED,
            starts_at__lt=max(each.period.end for each in due),
            ends_at__gte=min(each.period.end for each in due),
        )
        for row in rows:
            found[row.account_id, row.budget_id].append(row)
    return found


def _counts_at_end(row: Increase, period: Period) -> bool:
    return row.starts_at < period.end <= row.ends_at


def _with(limit: Decimal | None, increases: Iterable[Increase]) -> Decimal | None:
    if limit is None:
        return None
    return min(limit + sum((each.amount for each in increases), Decimal(0)), money.LIMIT_MAX)


def _close_off(closed: Iterable[AccountPeriod]) -> None:
    """
    Mark totals as closed, for the recorder to say from now on what comes late; where a closing is
    older than its total, because nothing had been spent, this says so.
    """
    keys = list(closed)
    values: list[Any] = [
        [account for account, _ in keys],
        [period.start for _, period in keys],
        [period.end for _, period in keys],
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE budgets_periodtotal SET is_closed = true
            WHERE (account_id, period_start, period_end) IN (
                SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[])
            ) AND NOT is_closed
            """,
            values,
        )
        cursor.execute(
            """
            UPDATE budgets_closing closing
            SET late_units = total.amount_units - closing.spent_units,
                late_events = total.events - closing.events
            FROM unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[])
                 AS closed(account_id, period_start, period_end)
            JOIN budgets_periodtotal total USING (account_id, period_start, period_end)
            WHERE closing.account_id = closed.account_id
                  AND closing.period_start = closed.period_start
                  AND closing.period_end = closed.period_end
                  AND (closing.late_units, closing.late_events) IS DISTINCT FROM
                      (total.amount_units - closing.spent_units, total.events - closing.events)
            """,
            values,
        )


def _turn_over(books: Sequence[Book]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE budgets_book book SET open_at = next.open_at, closes_at = next.closes_at"
            " FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[])"
            " AS next(link_id, open_at, closes_at) WHERE book.link_id = next.link_id",
            [
                [book.pk for book in books],
                [book.open_at for book in books],
                [book.closes_at for book in books],
            ],
        )
