from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from spend import ledger

DAYS_AHEAD = 7


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def make_partitions_ahead(**_: object) -> None:
    """Make the ledger's partitions of the coming days ahead of the recorder; safe to run twice."""
    today = timezone.now().date()
    ledger.make_partitions(today + timedelta(days=n) for n in range(DAYS_AHEAD + 1))
