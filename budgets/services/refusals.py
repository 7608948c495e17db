"""Counts of refusals, which gateway processes write."""

from datetime import datetime, timedelta
from typing import Final

from budgets.models import RefusalCount

KEPT: Final = timedelta(days=90)


def forget_old(*, now: datetime) -> int:
    """Delete counts that are older than ``KEPT``; return how many."""
    deleted, _ = RefusalCount.objects.filter(minute__lt=now - KEPT).delete()
    return deleted
