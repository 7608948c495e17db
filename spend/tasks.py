from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from spend import fetching, ledger

DAYS_AHEAD = 7


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def make_partitions_ahead(**_: object) -> None:
    """Make the ledger's partitions of the coming days ahead of the recorder; safe to run twice."""
    today = timezone.now().date()
    ledger.make_partitions(today + timedelta(days=n) for n in range(DAYS_AHEAD + 1))


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def fetch_exchange_rates(**_: object) -> None:
    """Fetch the exchange rates if that is due; safe to run twice, late, or not at all."""
    fetching.fetch_if_due(now=timezone.now())
