"""
What accounts have spent, as people and programs are shown it: many accounts at once.

The live counter of the running period, else the period's total; without a duration the lifetime.
Four queries and three trips to the live store, however many accounts. A live store that is away
makes the figures older, and they say so.
"""

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
from budgets.storekeeper import PARTITION, Counter

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
class _Spending:
    """What is known of spending: by the live store, and by the ledger as of a time."""

    counters: Mapping[UUID, list[Counter]]
    totals: Mapping[tuple[UUID, Period], int]
    recorded_until: datetime | None


def view_of(budget: Budget, *, at: datetime) -> BudgetView:
    return BudgetView(budget, budget.period_at(at).end if budget.duration else None)


def figures_of(account_ids: Iterable[UUID], *, at: datetime) -> dict[UUID, Figures]:
    """Return limits and spend of each account."""
    ids = list(account_ids)
    if not ids:
        return {}
    rows = Account.objects.order_by().filter(id__in=ids)
    currencies = {
        id: currency or settings.PLATFORM_CURRENCY
        for id, currency in rows.values_list("id", "organization__currency")
    }
    budgets = in_force.budgets_on(ids)
    spending = _spending(ids, at)
    return {
        id: _figures(id, currencies[id], budgets.get(id, []), spending, at) for id in currencies
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
    spend = _live(id, period, spending)
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


def _live(id: UUID, period: Period, spending: _Spending) -> int | None:
    return next(
        (each.spent for each in spending.counters.get(id, ()) if each.period == period), None
    )


def _spending(ids: list[UUID], at: datetime) -> _Spending:
    # The store before the totals: what is recorded in between is then counted, not missed.
    partition = Partition.objects.get(number=PARTITION)
    try:
        is_open = storekeeper.is_open(partition)
        counters = storekeeper.counters_of(ids) if is_open else {}
        unrecorded = storekeeper.read_stream(after=partition.position, count=1) if is_open else None
    except RedisError:
        counters, unrecorded = {}, None
    return _Spending(
        counters, _totals(ids, at), _recorded_until(partition.position, unrecorded, at)
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
