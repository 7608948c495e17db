"""What a budget's period would be by other terms, and what would count in it; nothing changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from budgets import in_force, money, totals
from budgets.models import Account, Budget
from budgets.periods import Period
from budgets.services.accounts import TERMS_FIELDS, Terms

FOLLOWING: Final = 3
ACCOUNTS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class AccountPreview:
    """What an account has spent in the period that runs and in the one that would; by ledger."""

    account: Account
    spend: Decimal
    spend_then: Decimal


@dataclass(frozen=True, slots=True)
class Preview:
    """The period that would run, those that would follow, and what the budget's accounts have."""

    terms: Terms
    period: Period
    following: Sequence[Period]
    running: Period | None
    accounts: Sequence[AccountPreview]


def preview(terms: Terms, *, at: datetime, budget: Budget | None = None) -> Preview:
    """
    Return what would be at ``at`` if the terms were those of ``budget``, or of a new one.

    :raises InvalidInput: naming the field that does not fit
    """
    checked = terms.checked()
    would_be = Budget(**{name: getattr(checked, name) for name in TERMS_FIELDS})
    would_be.created_at = at if budget is None else budget.created_at
    period = would_be.period_at(at)
    following: list[Period] = []
    while checked.duration and len(following) < FOLLOWING:
        following.append(would_be.period_at((following or [period])[-1].end))
    running = budget.period_at(at) if budget else None
    held = _accounts(budget, running, period) if budget and running else []
    return Preview(checked, period, following, running, held)


def _accounts(budget: Budget, running: Period, then: Period) -> list[AccountPreview]:
    accounts = in_force.accounts_with(budget, count=ACCOUNTS_MAX)
    return [AccountPreview(each, _spent(each, running), _spent(each, then)) for each in accounts]


def _spent(account: Account, period: Period) -> Decimal:
    units, _ = totals.ledger_sum(account.pk, period)
    return money.to_decimal(units, currency=account.currency)
