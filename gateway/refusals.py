"""What a caller is told when a budget, or the live store, says no."""

from typing import Any, Final

from django.conf import settings

from budgets import money
from budgets.contexts import Context, Limit, LimitKind
from budgets.errors import (
    BudgetBusy,
    BudgetExceeded,
    LimitReached,
    StoreClosed,
    StoreFull,
    StoreUnavailable,
)
from budgets.models import PLATFORM_KINDS
from gateway.errors import LimitRefused, Unavailable

BUSY_RETRY_SECONDS: Final = 1
WINDOW_SECONDS: Final = 60
RATE_STATUS: Final = 429


def of_limit(error: LimitReached, *, context: Context) -> LimitRefused:
    """Return the answer to a refused reserve: which account, what it has, what helps."""
    limit = context.limits[error.limit_index]
    # Of a limit that is smaller than the request itself no minute has enough.
    is_final = isinstance(error, BudgetExceeded) or _never_fits(limit, error)
    return LimitRefused(
        _message(limit, error, context.currency),
        code=error.code,
        status=settings.BUDGET_DENY_STATUS if limit.is_money and is_final else RATE_STATUS,
        budget=_budget(limit, error, context.currency),
        retry_after_seconds=None if is_final else _wait_seconds(error),
    )


def of_store(error: StoreUnavailable) -> Unavailable:
    """Return the answer where the live store could not be asked: neither yes nor no."""
    if isinstance(error, StoreClosed):
        return Unavailable("The live store is not open.", code="store_closed")
    if isinstance(error, StoreFull):
        return Unavailable("Too much spend waits to be recorded.", code="recorder_behind")
    return Unavailable("The live store cannot be reached.", code="store_unavailable")


def _never_fits(limit: Limit, error: LimitReached) -> bool:
    return not limit.is_money and error.needed > limit.limit


def _rate_remedy(limit: Limit, error: LimitReached) -> str:
    if not _never_fits(limit, error):
        return "retry"
    return "ask_for_less" if limit.kind == LimitKind.TOKENS and limit.limit else "raise"


def _wait_seconds(error: LimitReached) -> int:
    return max(-(-error.wait_ms // 1_000), BUSY_RETRY_SECONDS)


def _message(limit: Limit, error: LimitReached, currency: str) -> str:
    name = f"{limit.account.kind.replace('_', ' ')} {limit.account.label!r}"
    if not limit.is_money:
        return _rate_message(limit, error, name)
    if limit.account.kind in PLATFORM_KINDS:
        return f"The budget of {name} has no room for this request{_until(limit)}"
    spent, total = _text(error.used, currency), _text(limit.limit, currency)
    if isinstance(error, BudgetBusy):
        held = _text(error.reserved, currency)
        return (
            f"The budget of {name} is held by requests in flight: {spent} of {total} {currency}"
            f" spent, {held} reserved. Try again in a moment."
        )
    return (
        f"The budget of {name} is spent: {spent} of {total} {currency}, and this request may"
        f" cost {_text(error.needed, currency)}{_until(limit)}"
    )


def _until(limit: Limit) -> str:
    return f". It resets at {limit.resets_at.isoformat()}." if limit.resets_at else "."


def _rate_message(limit: Limit, error: LimitReached, name: str) -> str:
    if limit.account.kind in PLATFORM_KINDS:
        return f"The {name} has no room right now. Try again in {_wait_seconds(error)} s."
    if limit.kind == LimitKind.PARALLEL:
        return (
            f"The {name} may have {limit.limit} requests at once, and has. Try again in a moment."
        )
    if _rate_remedy(limit, error) == "ask_for_less":
        return (
            f"The {name} may have {limit.limit} {limit.kind} a minute, and this request alone"
            f" may need {error.needed}. Ask for less."
        )
    return (
        f"The {name} may have {limit.limit} {limit.kind} a minute: {error.used} were in the last"
        f" 60 seconds, and this request adds {error.needed}. Try again in"
        f" {_wait_seconds(error)} s."
    )


def _budget(limit: Limit, error: LimitReached, currency: str) -> dict[str, Any]:
    account = {
        "id": str(limit.account.id), "kind": limit.account.kind, "label": limit.account.label,
    }  # fmt: skip
    common = {"account": account, "budget_id": limit.budget_id, "limits": limit.kind.value}
    # What all organizations do together on a model or provider is nobody's to see.
    hidden = limit.account.kind in PLATFORM_KINDS
    if not limit.is_money:
        window = None if limit.kind == LimitKind.PARALLEL else WINDOW_SECONDS
        return common | {
            "limit": None if hidden else limit.limit,
            "used": None if hidden else error.used,
            "needed": error.needed,
            "window_seconds": window,
            "remedy": _rate_remedy(limit, error),
        }
    resets_at = limit.resets_at
    busy = isinstance(error, BudgetBusy)
    return common | {
        "limit": None if hidden else _text(limit.limit, currency),
        "spent": None if hidden else _text(error.used, currency),
        "reserved": None if hidden else _text(error.reserved, currency),
        "needed": _text(error.needed, currency),
        "currency": currency,
        "resets_at": resets_at.isoformat() if resets_at else None,
        "remedy": "retry" if busy else ("wait_or_raise" if resets_at else "raise"),
    }


def _text(units: int, currency: str) -> str:
    return money.plain(money.to_decimal(units, currency=currency))
