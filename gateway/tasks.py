from celery import shared_task
from django.utils import timezone

from gateway.batches import settling


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def settle_batches(**_: object) -> None:
    """Settle the batches that have ended; safe to run twice, late, and beside another run."""
    settling.settle_due(now=timezone.now())
