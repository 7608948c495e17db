import logging
from typing import Final

from celery import shared_task
from django.db import Error as DatabaseError
from django.utils import timezone
from redis.exceptions import RedisError

from budgets import book_metrics, storekeeper
from budgets.services import books, refusals

log = logging.getLogger(__name__)

CLOSINGS_PER_TICK_MAX: Final = 50_000
"""More are left to the next tick: other work waits behind this."""


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def forget_old_refusals(**_: object) -> None:
    """Delete counts of refusals that nobody looks at any more; safe to run twice."""
    refusals.forget_old(now=timezone.now())


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def close_ended_periods(**_: object) -> None:
    """Close the books of ended periods; safe to run twice, late, in parallel, or not at all."""
    try:
        closed = books.close_due(now=timezone.now(), count=CLOSINGS_PER_TICK_MAX)
    except books.AlreadyClosing:
        log.info("books_are_being_closed")
    except (storekeeper.Closed, RedisError, DatabaseError) as error:
        book_metrics.failed()
        log.warning("books_not_closed", extra={"error": type(error).__name__})
    else:
        log.info("books_closed", extra={"periods": closed})
