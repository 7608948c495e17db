"""What an account's page shows above its form: bars, how busy it is, and what it refused."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils.safestring import SafeString
from redis.exceptions import RedisError

from budgets import display, refusals
from budgets.admin import bars, figures
from budgets.admin.figures import AccountFigures, Figure
from budgets.admin.holders import holder_of
from budgets.admin.lists import link
from budgets.models import Account, AccountBudget, Budget, Enforcement
from budgets.store_status import Pace, pace_of

log = logging.getLogger(__name__)

UNKNOWN: Final = Pace(requests=None, tokens=None, in_flight=None)
REFUSED_WITHIN: Final = timedelta(hours=1)
HELD_TOLD: Final = {
    Enforcement.STRICT: "strict: holds the most that requests can cost",
    Enforcement.ADAPTIVE: "adaptive: holds what such requests have cost lately",
    Enforcement.OBSERVE: "observe: refuses nothing, and counts what it would have refused",
}


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A budget in force on the account, and what is spent, reserved and left of it now."""

    bar: SafeString
    budget: Budget
    whose: str
    mode: str
    reserved: str
    resets: SafeString | None


@dataclass(frozen=True, slots=True)
class RateLine:
    """A limit of requests or tokens, and how much of it is used now."""

    words: str
    used: str
    limit: str
    whose: str
    is_full: bool


def shown(account: Account, *, now: datetime) -> dict[str, Any]:
    found = figures.of_account(account, now=now)
    holder, linked = holder_of(account), _linked(account)
    return {
        "figures": found,
        "can_be_increased": any(each.limit is not None for each in found.budgets),
        "limits": [_budget_line(each, linked, now) for each in found.budgets],
        "rates": _rate_lines(found, account, linked),
        "refused": refusals.by_reason(since=now - REFUSED_WITHIN, account=account.pk),
        "lifetime": bars.amount(found.lifetime, found.currency),
        "holder_link": link(holder) if holder else "",
    }


def _linked(account: Account) -> set[int]:
    rows = AccountBudget.objects.filter(account=account)
    return set(rows.values_list("budget_id", flat=True))


def _budget_line(figure: Figure, linked: set[int], now: datetime) -> BudgetLine:
    return BudgetLine(
        bar=bars.bar(figure),
        budget=figure.budget,
        whose=_whose(figure.budget, linked),
        mode=HELD_TOLD[Enforcement(figure.budget.enforcement)],
        reserved=_reserved(figure),
        resets=bars.when(figure.resets_at, now=now) if figure.resets_at else None,
    )


def _whose(budget: Budget, linked: set[int]) -> str:
    if budget.private_to_id:
        return "Own limit"
    if budget.window_of_id:
        return "Further budget"
    return "Shared budget" if budget.pk in linked else "By a template, shared budget"


def _reserved(figure: Figure) -> str:
    reserved = display.amount(figure.reserved, figure.currency)
    return f"{reserved} reserved by requests under way"


def _rate_lines(found: AccountFigures, account: Account, linked: set[int]) -> list[RateLine]:
    budgets = [each.budget for each in found.budgets]
    limited = [each for each in budgets if any(limit is not None for *_, limit in _rates(each))]
    if not limited:
        return []
    pace = _pace(account) if found.is_live else UNKNOWN
    return [
        RateLine(
            words=words,
            used="unknown" if used is None else display.count(used),
            limit=display.count(limit),
            whose=_whose(budget, linked),
            is_full=used is not None and used >= limit,
        )
        for budget in limited
        for words, used, limit in _rates(budget, pace)
        if limit is not None
    ]


def _rates(budget: Budget, pace: Pace = UNKNOWN) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield what is limited in words, how much of it is used, and the limit."""
    yield "Requests in the last minute", pace.requests, budget.rpm_limit
    yield "Tokens in the last minute", pace.tokens, budget.tpm_limit
    yield "Requests under way", pace.in_flight, budget.max_parallel_requests


def _pace(account: Account) -> Pace:
    try:
        return pace_of(account.pk)
    except RedisError:
        log.warning("store_away")
        return UNKNOWN
