"""The figures of the first page: few, and each says what it is of."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone
from redis.exceptions import RedisError

from budgets import display, money, refusals, storekeeper
from budgets.admin import bars, figures
from budgets.admin.lists import link
from budgets.models import Account
from budgets.refusals import Refused
from spend.models import SetAside

log = logging.getLogger(__name__)

WATCHED_SHOWN_MAX: Final = 8
REFUSED_WITHIN: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Spending:
    """What organizations have spent in one currency, each by its own calendar."""

    today: Any
    month: Any
    saved: Any
    """What answers from the response cache would have cost this month; empty where nothing."""


@dataclass(frozen=True, slots=True)
class Spendings:
    by_currency: list[Spending]
    requests_today: str


@dataclass(frozen=True, slots=True)
class Watched:
    """Accounts that have spent 80 % or more of a limit, the fullest first."""

    number: str
    rows: list[tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Stream:
    """The live store, and how many events in it are not in the ledger yet."""

    is_open: bool
    unrecorded: str | None
    set_aside: int


def spending() -> Spendings:
    """Return today's and this month's spend from the roll-ups, a line a currency, never summed."""
    with connection.cursor() as cursor:
        cursor.execute(_SPENDING, {"now": timezone.now()})
        rows = cursor.fetchall()
    return Spendings(
        by_currency=[
            Spending(
                _amount(today, currency),
                _amount(month, currency),
                _amount(saved, currency) if saved else "",
            )
            for currency, today, month, saved, _ in rows
        ],
        requests_today=display.count(sum(int(requests) for *_, requests in rows)),
    )


def watched() -> Watched:
    now = timezone.now()
    ids = figures.fullest(share_min=figures.WARN_FROM, now=now)
    shown = ids[:WATCHED_SHOWN_MAX]
    kept = Account.objects.select_related("organization").in_bulk(shown)
    found = figures.of_accounts(list(kept.values()), now=now)
    more = "+" if len(ids) == figures.WATCHED_MAX else ""
    return Watched(
        number=f"{display.count(len(ids))}{more}",
        rows=[
            (link(kept[id]), bars.bar(found[id].budgets[0]))
            for id in shown
            if id in kept and found[id].budgets
        ],
    )


def refused() -> list[Refused]:
    """Return what was refused in the last day, by reason, and what was only observed after it."""
    return refusals.by_reason(since=timezone.now() - REFUSED_WITHIN)


def stream() -> Stream:
    """Return the state of the live store; what it does not tell is None, not 0."""
    is_open = figures.store_is_open()
    return Stream(
        is_open=is_open,
        unrecorded=_unrecorded() if is_open else None,
        set_aside=SetAside.objects.count(),
    )


def _unrecorded() -> str | None:
    try:
        return display.count(int(storekeeper.store().xlen(storekeeper.STREAM)))
    except RedisError:
        log.warning("store_away")
        return None


def _amount(units: int, currency: str) -> Any:
    return bars.amount(money.to_decimal(int(units), currency=currency), currency)


_SPENDING: Final = """
    SELECT organization.currency,
           coalesce(sum(amount_units) FILTER (WHERE day = today), 0),
           coalesce(sum(amount_units), 0),
           coalesce(sum(saved_units), 0),
           coalesce(sum(events) FILTER (WHERE day = today), 0)
    FROM budgets_organization organization
    CROSS JOIN LATERAL (
        SELECT (%(now)s AT TIME ZONE organization.time_zone)::date AS today
    ) calendar
    JOIN spend_day ON spend_day.account_id = organization.account_id
         AND day >= date_trunc('month', today)::date AND day <= today
    GROUP BY organization.currency
    ORDER BY organization.currency
"""
