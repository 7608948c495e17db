"""What accounts have used of their budgets: from the live store, or else as of the ledger."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Q
from redis.exceptions import RedisError

from budgets import (
    display,
    durations,
    in_force,
    increases,
    money,
    periods,
    storekeeper,
    totals,
)
from budgets.in_force import Increases
from budgets.increases import Added
from budgets.models import Account, Budget, Partition, PeriodTotal
from budgets.money import Units
from budgets.periods import FOREVER, Period
from budgets.storekeeper import PARTITION, Counter

log = logging.getLogger(__name__)

WATCHED_MAX: Final = 1_000
ODD_MAX: Final = 10_000
"""So many budgets are looked at whose periods are their own."""
WARN_FROM: Final = 80
FULL: Final = 100

Spent = Mapping[tuple[UUID, Period], Counter]
"""What an account has spent and reserved in a period."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What an account has used of one budget in its running period."""

    budget: Budget
    currency: str
    period: Period
    spent: Decimal
    reserved: Decimal
    limit: Decimal | None
    """That in force now: the budget's own and the increases that count."""
    increased_until: datetime | None
    """When the first of those increases ends."""

    @property
    def share(self) -> Decimal:
        """Per cent of the limit that is spent, rounded down; 0 without a limit."""
        return Decimal(0) if self.limit is None else display.share(self.spent, self.limit)

    @property
    def resets_at(self) -> datetime | None:
        """When the period ends, in the budget's own time zone."""
        end = display.next_reset(self.period)
        return None if end is None else end.astimezone(periods.zone_of(self.budget.time_zone))


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """An account's budgets, the fullest first, and what it has spent in its whole life."""

    currency: str
    budgets: tuple[Figure, ...]
    lifetime: Decimal
    is_live: bool


def of_accounts(accounts: Sequence[Account], *, now: datetime) -> dict[UUID, AccountFigures]:
    """Return the figures of each account: four queries and two round trips, however many."""
    ids = [account.id for account in accounts]
    budgets, added = in_force.budgets_on(ids), in_force.increases_on(ids)
    live = _live_counters(ids)
    recorded = _recorded(ids, budgets, now)
    spent = _of_totals(recorded) | _of_counters(live or {})
    taken_off = {row.account_id: row.reset_units for row in recorded if _is_lifetime(row)}
    return {
        account.id: _figures(
            account, _figures_of(account, budgets, added, spent, now), spent,
            taken_off=taken_off.get(account.id, 0), is_live=live is not None,
        )
        for account in accounts
    }  # fmt: skip


def of_account(account: Account, *, now: datetime) -> AccountFigures:
    return of_accounts([account], now=now)[account.id]


def fullest(*, share_min: int, now: datetime) -> list[UUID]:
    """
    Return the accounts that have spent so many per cent of a limit, the fullest first, at most
    ``WATCHED_MAX``; as of the ledger.
    """
    columns = _running_periods(now)
    with connection.cursor() as cursor:
        cursor.execute(
            _FULLEST,
            [
                *columns,
                list(money.DECIMALS),
                list(money.DECIMALS.values()),
                settings.PLATFORM_CURRENCY,
                now,
                now,
                share_min,
                WATCHED_MAX,
            ],
        )
        return [account for (account,) in cursor.fetchall()]


def store_is_open() -> bool:
    """Return whether the live store answers and is the one that Postgres knows."""
    partition = Partition.objects.filter(number=PARTITION).first()
    try:
        return partition is not None and storekeeper.is_open(partition)
    except RedisError:
        log.warning("store_away")
        return False


def _live_counters(ids: Sequence[UUID]) -> dict[UUID, list[Counter]] | None:
    if not store_is_open():
        return None
    try:
        return storekeeper.counters_of(ids)
    except RedisError:
        log.warning("store_away")
        return None


def _of_counters(
    live: Mapping[UUID, Iterable[Counter]],
) -> dict[tuple[UUID, Period], Counter]:
    return {
        (account, counter.period): counter
        for account, counters in live.items()
        for counter in counters
    }


def _recorded(
    ids: Sequence[UUID], budgets: Mapping[UUID, Iterable[Budget]], now: datetime
) -> list[PeriodTotal]:
    every = {budget.pk: budget for of_one in budgets.values() for budget in of_one}
    starts = {period.start for period in totals.periods_of(every.values(), at=now)}
    return list(PeriodTotal.objects.filter(account__in=ids, period_start__in=starts))


def _is_lifetime(row: PeriodTotal) -> bool:
    return Period(row.period_start, row.period_end) == FOREVER


def _of_totals(rows: Iterable[PeriodTotal]) -> dict[tuple[UUID, Period], Counter]:
    return {
        (row.account_id, period): _nothing(period, spent=row.amount_units)
        for row in rows
        for period in [Period(row.period_start, row.period_end)]
    }


def _nothing(period: Period, *, spent: int = 0) -> Counter:
    """Return a counter on which nothing is known to be reserved."""
    return Counter(period, Units(spent), Units(0), Units(0))


def _figures_of(
    account: Account,
    budgets: Mapping[UUID, Iterable[Budget]],
    added: Increases,
    spent: Spent,
    now: datetime,
) -> list[Figure]:
    return [
        _figure(account, budget, added.get((account.id, budget.pk), ()), spent, now)
        for budget in budgets.get(account.id, ())
    ]


def _figures(
    account: Account, figures: Iterable[Figure], spent: Spent, *, taken_off: int, is_live: bool
) -> AccountFigures:
    currency = account.currency
    lifetime = spent.get((account.id, FOREVER), _nothing(FOREVER)).spent + taken_off
    return AccountFigures(
        currency=currency,
        budgets=tuple(sorted(figures, key=lambda figure: -figure.share)),
        lifetime=money.to_decimal(lifetime, currency=currency),
        is_live=is_live,
    )


def _figure(
    account: Account, budget: Budget, added: Sequence[Added], spent: Spent, now: datetime
) -> Figure:
    period, currency = budget.period_at(now), account.currency
    counter = spent.get((account.id, period), _nothing(period))
    return Figure(
        budget=budget,
        currency=currency,
        period=period,
        spent=money.to_decimal(counter.spent, currency=currency),
        reserved=money.to_decimal(counter.held(enforcement=budget.enforcement), currency=currency),
        limit=increases.limit_at(budget.max_budget, added, at=now),
        increased_until=increases.ends_first(added, at=now),
    )


def _running_periods(now: datetime) -> list[list[Any]]:
    """
    Return, column by column, the running periods of all budgets with a limit: those that many
    budgets share by duration, zone and layout, then those of single budgets by their ids.
    """
    limited = Budget.objects.exclude(max_budget=None).order_by()
    shared, own = [], []
    for kind in limited.filter(anchor=None).values_list(*_KIND).distinct():
        example = Budget(**dict(zip(_KIND, kind, strict=True)))
        if not example.duration or durations.parsed(example.duration).is_aligned:
            period = example.period_at(now)
            shared.append((*kind, period.start, period.end))
    odd = Q(anchor__isnull=False) | ~Q(duration__in={duration for duration, *_ in shared})
    for budget in limited.filter(odd)[:ODD_MAX]:
        period = budget.period_at(now)
        own.append((budget.pk, period.start, period.end))
    return [*_columns(shared, len(_KIND) + 2), *_columns(own, 3)]


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]


_KIND: Final = ("duration", "time_zone", "reset_time", "week_start", "year_start")
_FULLEST: Final = """
    WITH running (budget_id, first, last) AS (
        SELECT budget.id, kind.first, kind.last
        FROM budgets_budget budget
        JOIN unnest(%s::text[], %s::text[], %s::time[], %s::int[], %s::int[], %s::timestamptz[],
                    %s::timestamptz[])
             AS kind(duration, time_zone, reset_time, week_start, year_start, first, last)
             USING (duration, time_zone, reset_time, week_start, year_start)
        WHERE budget.anchor IS NULL
        UNION ALL
        SELECT * FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[])
    ),
    child (account_id, kind, nearest, next_nearest) AS (
        SELECT key.account_id, 'key', team.account_id, above.account_id
        FROM budgets_apikey key
        JOIN budgets_organization above ON above.id = key.organization_id
        LEFT JOIN budgets_team team ON team.id = key.team_id
        UNION ALL
        SELECT member.account_id, 'member', team.account_id, above.account_id
        FROM budgets_membership member
        JOIN budgets_team team ON team.id = member.team_id
        JOIN budgets_organization above ON above.id = team.organization_id
        UNION ALL
        SELECT who.account_id, 'end_user', NULL, above.account_id
        FROM budgets_enduser who
        JOIN budgets_organization above ON above.id = who.organization_id
    ),
    held (account_id, budget_id) AS (
        SELECT account_id, budget_id FROM budgets_accountbudget
        UNION ALL
        SELECT child.account_id, template.budget_id
        FROM budgets_budgettemplate template
        JOIN child ON child.kind = template.applies_to
             AND template.holder_id = CASE WHEN EXISTS (
                 SELECT 1 FROM budgets_budgettemplate near
                 WHERE near.holder_id = child.nearest AND near.applies_to = child.kind
             ) THEN child.nearest ELSE child.next_nearest END
        WHERE NOT EXISTS (
            SELECT 1 FROM budgets_accountbudget own WHERE own.account_id = child.account_id)
    )
    SELECT held.account_id
    FROM held
    JOIN budgets_budget budget ON budget.id = held.budget_id
    LEFT JOIN budgets_organization organization ON organization.id = budget.organization_id
    JOIN running ON running.budget_id = budget.id
    JOIN budgets_periodtotal total ON total.account_id = held.account_id
         AND total.period_start = running.first AND total.period_end = running.last
    LEFT JOIN unnest(%s::text[], %s::int[]) AS small(currency, decimals)
         ON small.currency = coalesce(organization.currency, %s)
    CROSS JOIN LATERAL (
        SELECT (budget.max_budget + coalesce(sum(increase.amount), 0))
               * 10 ^ coalesce(small.decimals, 9)::numeric AS units
        FROM budgets_increase increase
        WHERE increase.account_id = held.account_id AND increase.budget_id = budget.id
          AND increase.state = 'approved' AND increase.starts_at <= %s AND increase.ends_at > %s
    ) "limit"
    WHERE "limit".units IS NOT NULL AND total.amount_units * 100 >= "limit".units * %s
    GROUP BY held.account_id
    ORDER BY max(total.amount_units / nullif("limit".units, 0)) DESC NULLS FIRST
    LIMIT %s
"""
