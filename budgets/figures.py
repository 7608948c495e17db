"""
What accounts have spent, as people and programs are shown it: many accounts at once.

The live counter of the running period, else the period's total; without a duration the lifetime.
Four queries and three trips to the live store, however many accounts. A live store that is away
makes the figures older, and they say so.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.conf import settings
from redis.exceptions import RedisError

from budgets import in_force, money, periods, storekeeper
from budgets.models import Account, Budget, Partition, PeriodTotal
from budgets.periods import FOREVER, Period
from budgets.storekeeper import PARTITION, Counter, Reservation

ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class BudgetView:
    """A budget, and when its running period ends."""

    budget: Budget
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class Figures:
    """The limits of an account and what it has spent, in its organization's currency."""

    own: BudgetView | None
    linked: BudgetView | None
    currency: str
    spend: Decimal
    total_spend: Decimal
    spend_as_of: datetime | None

    @property
    def governing(self) -> BudgetView | None:
        """The budget whose period ``spend`` is about: the account's own, else the linked one."""
        return self.own or self.linked

    @property
    def resets_at(self) -> datetime | None:
        return self.governing.resets_at if self.governing else None


@dataclass(frozen=True, slots=True)
class Standing:
    """An account against one of its budgets; None is what only a live store that is away knows."""

    budget: Budget
    currency: str
    spent: Decimal | None
    reserved: Decimal | None


@dataclass(frozen=True, slots=True)
class _Spending:
    """What is known of spending: by the live store, and by the ledger as of a time."""

    counters: Mapping[UUID, list[Counter]]
    totals: Mapping[tuple[UUID, Period], int]
    recorded_until: datetime | None
    is_live: bool


def view_of(budget: Budget, *, at: datetime) -> BudgetView:
    return BudgetView(budget, budget.period_at(at).end if budget.duration else None)


def figures_of(account_ids: Iterable[UUID], *, at: datetime) -> dict[UUID, Figures]:
    """Return limits and spend of each account."""
    ids = list(account_ids)
    if not ids:
        return {}
    currencies = _currencies(ids)
    budgets = in_force.budgets_on(ids)
    spending = _spending(ids, at)
    return {
        id: _figures(id, currencies[id], budgets.get(id, []), spending, at) for id in currencies
    }


def standings_of(account_ids: Iterable[UUID], *, at: datetime) -> dict[UUID, list[Standing]]:
    """Return how each account stands against each of its budgets, by the same figures."""
    ids = list(account_ids)
    currencies, budgets = _currencies(ids), in_force.budgets_on(ids)
    spending = _spending(ids, at)
    held = _held() if spending.is_live else None
    standings: dict[UUID, list[Standing]] = {}
    for id, currency in currencies.items():
        standings[id] = [
            Standing(budget, currency, *_standing(id, budget, at, currency, spending, held))
            for budget in budgets.get(id, [])
        ]
    return standings


def _held() -> Mapping[UUID, list[Reservation]] | None:
    """Return the open reservations of each account, or None if the live store went away."""
    held: dict[UUID, list[Reservation]] = defaultdict(list)
    try:
        for reservation in storekeeper.reservations():
            for account in reservation.accounts:
                held[account].append(reservation)
    except RedisError:
        return None
    return held


def _standing(  # a row of one table
    id: UUID,
    budget: Budget,
    at: datetime,
    currency: str,
    spending: _Spending,
    held: Mapping[UUID, list[Reservation]] | None,
) -> tuple[Decimal | None, Decimal | None]:
    """Return (spent, reserved): of the counter, else what it would be if it were loaded now."""
    if held is None:
        return None, None
    period = budget.period_at(at)
    counter = _counter(id, period, spending)
    if counter is None:
        spent = spending.totals.get((id, period), 0)
        open_now = [each for each in held.get(id, ()) if each.admitted_at in period]
        reserved = sum(each.held(enforcement=budget.enforcement) for each in open_now)
    else:
        spent, reserved = counter.spent, counter.held(enforcement=budget.enforcement)
    return money.to_decimal(spent, currency=currency), money.to_decimal(reserved, currency=currency)


def _currencies(ids: list[UUID]) -> dict[UUID, str]:
    rows = Account.objects.order_by().filter(id__in=ids)
    return {
        id: currency or settings.PLATFORM_CURRENCY
        for id, currency in rows.values_list("id", "organization__currency")
    }


def _figures(
    id: UUID, currency: str, budgets: list[Budget], spending: _Spending, at: datetime
) -> Figures:
    own = next((view_of(each, at=at) for each in budgets if each.private_to_id), None)
    shared = sorted(
        (each for each in budgets if not each.private_to_id and not each.window_of_id),
        key=lambda b: b.pk,
    )
    linked = view_of(shared[0], at=at) if shared else None
    governing = own or linked
    period = governing.budget.period_at(at) if governing else FOREVER
    counter = _counter(id, period, spending)
    spend = counter.spent if counter else None
    return Figures(
        own=own,
        linked=linked,
        currency=currency,
        spend=money.to_decimal(
            spending.totals.get((id, period), 0) if spend is None else spend, currency=currency
        ),
        total_spend=money.to_decimal(spending.totals.get((id, FOREVER), 0), currency=currency),
        spend_as_of=spending.recorded_until if spend is None else at,
    )


def _counter(id: UUID, period: Period, spending: _Spending) -> Counter | None:
    return next((each for each in spending.counters.get(id, ()) if each.period == period), None)


def _spending(ids: list[UUID], at: datetime) -> _Spending:
    # The store before the totals: what is recorded in between is then counted, not missed.
    partition = Partition.objects.get(number=PARTITION)
    try:
        is_open = storekeeper.is_open(partition)
        counters = storekeeper.counters_of(ids) if is_open else {}
        unrecorded = storekeeper.read_stream(after=partition.position, count=1) if is_open else None
    except RedisError:
        is_open, counters, unrecorded = False, {}, None
    return _Spending(
        counters, _totals(ids, at), _recorded_until(partition.position, unrecorded, at), is_open
    )


def _recorded_until(
    position: str,
    unrecorded: Sequence[storekeeper.Entry | storekeeper.Unreadable] | None,
    at: datetime,
) -> datetime | None:
    """Return up to when the ledger knows everything; None where nothing can tell."""
    if unrecorded == []:
        return at
    known = unrecorded[0].position if unrecorded else position
    ms = int(known.partition("-")[0])
    return periods.from_milliseconds(ms) if ms else None


def _totals(ids: list[UUID], at: datetime) -> dict[tuple[UUID, Period], int]:
    rows = PeriodTotal.objects.filter(
        account__in=ids, period_start__lte=at, period_end__gt=at
    ).values_list("account_id", "period_start", "period_end", "amount_units")
    return {(account, Period(start, end)): amount for account, start, end, amount in rows}
