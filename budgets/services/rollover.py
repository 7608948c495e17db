"""
What was not spent in a period and is carried into the next: an increase for just that period.

It is made when the books of the period are closed, so that what is still to be recorded is not
carried twice; what comes late afterwards corrects it. Temporary increases are not carried.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db.models import F

from budgets import money
from budgets.changes import change
from budgets.models import PLATFORM, Closing, Increase, IncreaseState

BOOKS: Final = "books"
ROLLOVER: Final = "rollover"
WHY: Final = "not spent in the period before"
WHY_LATE: Final = "something came late to the period before"
CORRECTED_MAX: Final = 1_000
ZERO: Final = Decimal(0)


def carry(closings: Iterable[Closing]) -> None:
    """Carry on what these closed periods have left, into the period that followed each."""
    Increase.objects.bulk_create(
        [_increase(each) for each in closings if left_of(each) > ZERO], ignore_conflicts=True
    )


def correct(*, now: datetime) -> int:
    """
    Bring what was carried into running periods in line with what came late to those before;
    return how many have changed. The next request of every process obeys it.
    """
    late = Closing.objects.filter(carries__isnull=False, next_end__gt=now)
    rows = late.exclude(corrected_units=F("late_units")).select_related("account__organization")
    changed = 0
    for closing in rows.order_by("pk")[:CORRECTED_MAX]:
        with change(scope=closing.account.organization_id or PLATFORM, reason=WHY_LATE):
            changed += _correct(closing)
            Closing.objects.filter(pk=closing.pk).update(corrected_units=closing.late_units)
    return changed


def left_of(closing: Closing) -> Decimal:
    """Return what a closed period hands on: what is left of its room, up to the most."""
    if closing.room is None or closing.carries is None or closing.budget_id is None:
        return ZERO
    units = closing.spent_units + closing.late_units
    spent = money.to_decimal(units, currency=closing.account.currency)
    return min(max(closing.room - spent, ZERO), closing.carries)


def _correct(closing: Closing) -> bool:
    left = left_of(closing)
    row = Increase.objects.filter(
        account=closing.account_id, budget=closing.budget_id, starts_at=closing.period_end,
        is_rollover=True,
    ).first()  # fmt: skip
    if row is None:
        carry([closing])
        return left > ZERO
    before = (row.amount, row.state)
    row.state = IncreaseState.APPROVED if left > ZERO else IncreaseState.CANCELLED
    row.amount = left or row.amount
    row.save(update_fields=["state", "amount"])
    return before != (row.amount, row.state)


def _increase(closing: Closing) -> Increase:
    assert closing.next_end is not None, "what carries has a period that follows"
    assert closing.budget_id is not None, "what has no budget any more hands nothing on"
    return Increase(
        account_id=closing.account_id,
        budget_id=closing.budget_id,
        amount=left_of(closing),
        starts_at=closing.period_end,
        ends_at=closing.next_end,
        why=WHY,
        state=IncreaseState.APPROVED,
        is_rollover=True,
        asked_by=BOOKS,
        asked_at=closing.closed_at,
        decided_by=ROLLOVER,
        decided_at=closing.closed_at,
    )
