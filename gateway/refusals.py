"""What a caller is told when a budget, or the live store, says no."""

from typing import Any

from django.conf import settings

from budgets import money
from budgets.contexts import Context, Limit
from budgets.errors import BudgetBusy, LimitReached, StoreClosed, StoreFull, StoreUnavailable
from gateway.errors import LimitRefused, Unavailable


def of_limit(error: LimitReached, *, context: Context) -> LimitRefused:
    """Return the answer to a refused reserve: which account, what it has, what helps."""
    limit = context.limits[error.limit_index]
    busy = isinstance(error, BudgetBusy)
    return LimitRefused(
        _message(limit, error, context.currency, busy=busy),
        status=settings.BUDGET_DENY_STATUS,
        busy=busy,
        budget=_budget(limit, error, context.currency, busy=busy),
    )


def of_store(error: StoreUnavailable) -> Unavailable:
    """Return the answer where the live store could not be asked: neither yes nor no."""
    if isinstance(error, StoreClosed):
        return Unavailable("The live store is not open.", code="store_closed")
    if isinstance(error, StoreFull):
        return Unavailable("Too much spend waits to be recorded.", code="recorder_behind")
    return Unavailable("The live store cannot be reached.", code="store_unavailable")


def _message(limit: Limit, error: LimitReached, currency: str, *, busy: bool) -> str:
    name = f"{limit.account.kind.replace('_', ' ')} {limit.account.label!r}"
    spent, total = _text(error.spent, currency), _text(limit.limit, currency)
    if busy:
        held = _text(error.reserved, currency)
        return (
            f"The budget of {name} is held by requests in flight: {spent} of {total} {currency}"
            f" spent, {held} reserved. Try again in a moment."
        )
    until = f" It resets at {limit.resets_at.isoformat()}." if limit.resets_at else ""
    return (
        f"The budget of {name} is spent: {spent} of {total} {currency}, and this request may"
        f" cost {_text(error.needed, currency)}.{until}"
    )


def _budget(limit: Limit, error: LimitReached, currency: str, *, busy: bool) -> dict[str, Any]:
    resets_at = limit.resets_at
    return {
        "account": {
            "id": str(limit.account.id), "kind": limit.account.kind, "label": limit.account.label,
        },
        "budget_id": limit.budget_id,
        "limit": _text(limit.limit, currency),
        "spent": _text(error.spent, currency),
        "reserved": _text(error.reserved, currency),
        "needed": _text(error.needed, currency),
        "currency": currency,
        "resets_at": resets_at.isoformat() if resets_at else None,
        "remedy": "retry" if busy else ("wait_or_raise" if resets_at else "raise"),
    }  # fmt: skip


def _text(units: int, currency: str) -> str:
    return money.plain(money.to_decimal(units, currency=currency))
