"""Limits that are set by what was spent, so that some are nearly reached and some are exceeded."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_UP, Context, Decimal
from typing import Final

from django.db.models import Max

from budgets import money
from budgets.models import Budget, PeriodTotal
from budgets.services.accounts import terms_of
from budgets.services.budgets import update_budget

LEAST: Final = Decimal("0.000001")
SOFT_SHARE: Final = Decimal("0.8")
TWO_DIGITS: Final = Context(prec=2, rounding=ROUND_UP)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A budget that counts already, and to how many per cent its limit shall be spent."""

    budget: Budget
    percent: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A limit as it was set, and what of it was spent in the running period."""

    what: str
    limit: Decimal
    spent: Decimal


def set_all(*, wanted: Iterable[Wanted], now: datetime) -> tuple[Standing, ...]:
    """Set every limit; return how they stand."""
    return tuple(_set(each, now) for each in wanted)


def _set(wanted: Wanted, now: datetime) -> Standing:
    budget = wanted.budget
    spent = _spent(budget, now)
    limit = _rounded(spent * 100 / wanted.percent)
    terms = replace(terms_of(budget), max_budget=limit, soft_budget=limit * SOFT_SHARE)
    update_budget(budget=budget, terms=terms, now=now)
    return Standing(f"{budget.organization}: {budget.private_to or budget}", limit, spent)


def _spent(budget: Budget, now: datetime) -> Decimal:
    """Return what was spent in the running period by the account that has spent most."""
    period = budget.period_at(now)
    most = PeriodTotal.objects.filter(
        account__in=budget.accounts.all(), period_start=period.start, period_end=period.end
    ).aggregate(most=Max("amount_units"))["most"]
    return money.to_decimal(most or 0, currency=budget.currency)


def _rounded(limit: Decimal) -> Decimal:
    """Return a limit as people set them: two digits, and never nothing."""
    return max(LEAST, Decimal(format(TWO_DIGITS.plus(limit), "f")))
