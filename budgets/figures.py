"""
What accounts have spent, as people and programs are shown it: many accounts at once.

The live counter of the running period, else the period's total and what the stream holds beyond
it; without a duration the lifetime. A handful of queries and trips to the live store, however many
accounts. A live store that is away makes the figures older, and they say so.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Q
from redis.exceptions import RedisError

from budgets import in_force, increases, money, periods, store_answers, storekeeper
from budgets.in_force import Increases
from budgets.increases import Added
from budgets.models import Account, Budget, Partition
from budgets.periods import FOREVER, Period
from budgets.storekeeper import PARTITION, Counter, Entry, Reservation

ZERO: Final = Decimal(0)
UNRECORDED_MAX: Final = 1_000
"""So many events of the stream are read where a counter is not loaded."""


@dataclass(frozen=True, slots=True)
class BudgetView:
    """A budget, and when its running period ends."""

    budget: Budget
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class InForce:
    """A budget on an account, and what its running period holds there."""

    budget: Budget
    resets_at: datetime | None
    currency: str
    spend: Decimal
    reserved: Decimal
    as_of: datetime | None
    is_live: bool
    """False: the live store is away, and only what was recorded is known."""
    limit: Decimal | None
    """That in force now: the budget's ``max_budget`` and the increases that count."""
    increased_until: datetime | None
    """When the first of those increases ends."""

    @property
    def remaining(self) -> Decimal | None:
        """What may still be spent, 0 where more was; None without a limit."""
        if self.limit is None:
            return None
        return max(ZERO, self.limit - self.spend - self.reserved)


@dataclass(frozen=True, slots=True)
class Figures:
    """The limits of an account and what it has spent, in its organization's currency."""

    account_id: UUID
    own: BudgetView | None
    linked: BudgetView | None
    currency: str
    spend: Decimal
    total_spend: Decimal
    spend_as_of: datetime | None
    budgets: tuple[InForce, ...] = ()
    """All that are in force: the account's own, the linked ones, then the windows beside them."""
    models: Mapping[str, InForce] = field(default_factory=dict)
    """What it may spend on single models."""

    @property
    def governing(self) -> BudgetView | None:
        """The budget whose period ``spend`` is about: the account's own, else the linked one."""
        return self.own or self.linked

    @property
    def resets_at(self) -> datetime | None:
        return self.governing.resets_at if self.governing else None

    @property
    def standing(self) -> InForce | None:
        """The budget that governs, and what its running period holds."""
        governing = self.governing
        if governing is None:
            return None
        return next(each for each in self.budgets if each.budget == governing.budget)

    @property
    def windows(self) -> list[InForce]:
        return [each for each in self.budgets if each.budget.window_of_id]


@dataclass(frozen=True, slots=True)
class _Spending:
    """What is known of spending: by the live store, and by ledger and stream as of a time."""

    counters: Mapping[UUID, list[Counter]]
    totals: Mapping[tuple[UUID, Period], int]
    taken_off: Mapping[UUID, int]
    """What resets took off the lifetime of accounts."""
    unrecorded: Mapping[UUID, list[Entry]]
    """Events by account that ``totals`` do not hold yet."""
    known_until: datetime | None
    at: datetime
    is_live: bool
    held: Mapping[UUID, list[Reservation]]
    """Open reservations by account; read where a counter is not loaded."""

    def reserved(self, id: UUID, period: Period, *, enforcement: str) -> int:
        """Return what a budget holds: by its counter, else what that would be if it were loaded."""
        if (live := self.live(id, period)) is not None:
            return live.held(enforcement=enforcement)
        open_now = [each for each in self.held.get(id, ()) if each.admitted_at in period]
        return sum(each.held(enforcement=enforcement) for each in open_now)

    def live(self, id: UUID, period: Period) -> Counter | None:
        return next((each for each in self.counters.get(id, ()) if each.period == period), None)

    def lifetime(self, id: UUID, currency: str) -> Decimal:
        """Return what the ledger says that an account has spent in its life, whatever was reset."""
        units = self.totals.get((id, FOREVER), 0) + self.taken_off.get(id, 0)
        return money.to_decimal(units, currency=currency)

    def spend(self, id: UUID, period: Period, currency: str) -> tuple[Decimal, datetime | None]:
        """Return what was spent in a period, and when that was true."""
        if (live := self.live(id, period)) is not None:
            return money.to_decimal(live.spent, currency=currency), self.at
        beyond = [each for each in self.unrecorded.get(id, ()) if each.admitted_at in period]
        units = self.totals.get((id, period), 0) + sum(each.amount for each in beyond)
        return money.to_decimal(units, currency=currency), self.known_until


def view_of(budget: Budget, *, at: datetime) -> BudgetView:
    return BudgetView(budget, budget.period_at(at).end if budget.duration else None)


def figures_of(account_ids: Iterable[UUID], *, at: datetime) -> dict[UUID, Figures]:
    """Return limits and spend of each account, and of the models that are limited on it."""
    ids = set(account_ids)
    if not ids:
        return {}
    accounts = _accounts(ids)
    budgets = in_force.budgets_on(each.id for each in accounts)
    added = in_force.increases_on(each.id for each in accounts)
    periods_of = {(id, each.period_at(at)) for id, held in budgets.items() for each in held}
    spending = _spending([each.id for each in accounts], periods_of, at)
    standings = {
        each.id: _standings(each, budgets.get(each.id, []), added, spending) for each in accounts
    }
    models: dict[UUID, dict[str, InForce]] = defaultdict(dict)
    for each in accounts:
        if each.holder_id and standings[each.id]:
            models[each.holder_id][each.model] = standings[each.id][0]
    return {
        each.id: _figures(each, standings[each.id], models.get(each.id, {}), spending)
        for each in accounts
        if each.id in ids
    }


def _accounts(ids: set[UUID]) -> list[Account]:
    """Return the accounts, and those of what they spend on models that are limited."""
    wanted = Q(id__in=ids) | Q(holder__in=ids)
    rows = Account.objects.filter(wanted).select_related("organization").order_by("model", "id")
    return list(rows)


def _standings(
    account: Account, budgets: list[Budget], added: Increases, spending: _Spending
) -> tuple[InForce, ...]:
    ordered = sorted(
        budgets, key=lambda each: (not each.private_to_id, bool(each.window_of_id), each.pk)
    )
    return tuple(
        _standing(account, each, added.get((account.id, each.pk), ()), spending) for each in ordered
    )


def _standing(
    account: Account, budget: Budget, added: Sequence[Added], spending: _Spending
) -> InForce:
    at, currency = spending.at, account.currency
    period = budget.period_at(at)
    spend, as_of = spending.spend(account.id, period, currency)
    held = spending.reserved(account.id, period, enforcement=budget.enforcement)
    return InForce(
        budget=budget,
        resets_at=period.end if budget.duration else None,
        currency=currency,
        spend=spend,
        reserved=money.to_decimal(held, currency=currency),
        as_of=as_of,
        is_live=spending.is_live,
        limit=increases.limit_at(budget.max_budget, added, at=at),
        increased_until=increases.ends_first(added, at=at),
    )


def _figures(
    account: Account,
    standings: tuple[InForce, ...],
    models: Mapping[str, InForce],
    spending: _Spending,
) -> Figures:
    views = [BudgetView(each.budget, each.resets_at) for each in standings]
    own = next((each for each in views if each.budget.private_to_id), None)
    shared = [v for v in views if not v.budget.private_to_id and not v.budget.window_of_id]
    linked = shared[0] if shared else None
    governing = own or linked
    period = governing.budget.period_at(spending.at) if governing else FOREVER
    spend, as_of = spending.spend(account.id, period, account.currency)
    return Figures(
        account_id=account.id,
        own=own,
        linked=linked,
        currency=account.currency,
        spend=spend,
        total_spend=spending.lifetime(account.id, account.currency),
        spend_as_of=as_of,
        budgets=standings,
        models=models,
    )


def _spending(ids: list[UUID], wanted: Collection[tuple[UUID, Period]], at: datetime) -> _Spending:
    # The store before the totals: what is recorded in between is then counted, not missed.
    partition = Partition.objects.get(number=PARTITION)
    counters: dict[UUID, list[Counter]] = {}
    stream: list[Entry] = []
    held: dict[UUID, list[Reservation]] = {}
    known_until = _recorded_at(partition.position)
    try:
        if is_open := storekeeper.is_open(partition):
            counters = storekeeper.counters_of(ids)
            lacks_one = _lacks_one(counters, wanted)
            stream, known_until = _stream(
                after=partition.position, count=UNRECORDED_MAX if lacks_one else 1, at=at
            )
            held = _held() if lacks_one else {}
    except RedisError:
        is_open, counters = False, {}
    totals, taken_off, position = _totals(ids, at)
    return _Spending(
        counters=counters,
        totals=totals,
        taken_off=taken_off,
        unrecorded=_by_account(each for each in stream if each.is_after(position)),
        known_until=known_until,
        at=at,
        is_live=is_open,
        held=held,
    )


def _lacks_one(
    counters: Mapping[UUID, list[Counter]], wanted: Collection[tuple[UUID, Period]]
) -> bool:
    loaded = {(id, each.period) for id, of_one in counters.items() for each in of_one}
    return not loaded.issuperset(wanted)


def _held() -> dict[UUID, list[Reservation]]:
    held: dict[UUID, list[Reservation]] = defaultdict(list)
    for reservation in storekeeper.reservations():
        for account in reservation.accounts:
            held[account].append(reservation)
    return held


def _stream(*, after: str, count: int, at: datetime) -> tuple[list[Entry], datetime | None]:
    """Return the next events after a position, and up to when they and what is before tell all."""
    read = storekeeper.read_stream(after=after, count=count)
    known_until = _recorded_at(read[-1].position) if len(read) == count else at
    return [each for each in read if isinstance(each, Entry)], known_until


def _by_account(entries: Iterable[Entry]) -> dict[UUID, list[Entry]]:
    found: dict[UUID, list[Entry]] = defaultdict(list)
    for entry in entries:
        for account in entry.all_accounts:
            found[account].append(entry)
    return found


def _recorded_at(position: str) -> datetime | None:
    """Return when an event came to the stream; None where nothing ever has."""
    ms, _ = store_answers.order_of(position)
    return periods.from_milliseconds(ms) if ms else None


def _totals(
    ids: list[UUID], at: datetime
) -> tuple[dict[tuple[UUID, Period], int], dict[UUID, int], str]:
    """
    Return the totals of the periods that run, what resets took off the lifetimes, and the position
    that all were recorded up to.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT partition.position, total.account_id, total.period_start, total.period_end,
                   total.amount_units, total.reset_units
            FROM budgets_partition partition
            LEFT JOIN budgets_periodtotal total ON total.account_id = ANY(%(ids)s)
                 AND total.period_start <= %(at)s AND %(at)s < total.period_end
            WHERE partition.number = %(number)s
            """,
            {"ids": ids, "at": at, "number": PARTITION},
        )
        rows = cursor.fetchall()
    known = [
        (account, Period(start, end), amount, taken_off)
        for _, account, start, end, amount, taken_off in rows
        if account is not None
    ]
    totals = {(account, period): int(amount) for account, period, amount, _ in known}
    off = {account: int(units) for account, period, _, units in known if period == FOREVER}
    return totals, off, rows[0][0]
