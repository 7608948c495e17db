from celery import shared_task
from django.utils import timezone

from budgets.services import refusals


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def forget_old_refusals(**_: object) -> None:
    """Delete counts of refusals that nobody looks at any more; safe to run twice."""
    refusals.forget_old(now=timezone.now())
