"""How often accounts have refused, and what budgets that only observe would have refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Max, Sum

from budgets import display
from budgets.contexts import LimitKind
from budgets.errors import BudgetBusy, BudgetExceeded, RateLimited, TooManyAtOnce
from budgets.models import RefusalCount

REASONS: Final[Mapping[str, str]] = {
    BudgetExceeded.code: "Budget spent",
    BudgetBusy.code: "Held by requests under way",
    RateLimited.code: "Too many in a minute",
    TooManyAtOnce.code: "Too many at once",
    LimitKind.MONEY.value: "Above the budget",
    LimitKind.REQUESTS.value: "Requests in a minute",
    LimitKind.TOKENS.value: "Tokens in a minute",
    LimitKind.PARALLEL.value: "Requests at once",
}
"""Reasons in words: codes of refusals, and kinds of limits that only observe."""


@dataclass(frozen=True, slots=True)
class Refused:
    """How often something was refused for one reason; observed: it would have been, and passed."""

    reason: str
    observed: bool
    requests: int
    newest: datetime

    @property
    def words(self) -> str:
        return words(self.reason)

    @property
    def number(self) -> str:
        return display.count(self.requests)


def words(reason: str) -> str:
    """Return a reason in words; one that is not known here as it is."""
    return REASONS.get(reason, reason)


def by_reason(*, since: datetime, account: UUID | None = None) -> list[Refused]:
    """Return what an account, or all of them, have refused since then, most of all first."""
    rows = RefusalCount.objects.filter(minute__gte=since)
    if account is not None:
        rows = rows.filter(account_id=account)
    summed = rows.order_by().values("reason", "observed")
    found = [
        Refused(row["reason"], row["observed"], row["all_requests"], row["newest"])
        for row in summed.annotate(all_requests=Sum("requests"), newest=Max("minute"))
    ]
    return sorted(found, key=lambda each: (each.observed, -each.requests, each.reason))
