import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from spend import ledger, metrics
from spend.catalogues import sources
from spend.currencies import fetching
from spend.models import Rerating
from spend.services import price_refresh, reratings, unpriced

log = logging.getLogger(__name__)

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


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def propose_fetched_prices(**_: object) -> None:
    """Fetch PRICES_URL, if there is one, and propose what it would change; safe to run twice."""
    if settings.PRICES_URL:
        outcome = price_refresh.propose_fetched(
            url=settings.PRICES_URL,
            seconds_max=settings.PRICES_FETCH_SECONDS_MAX,
            now=timezone.now(),
        )
        metrics.prices_refreshed(source=sources.LITELLM, outcome=outcome)


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def propose_upgraded_prices(**_: object) -> None:
    """Propose what a new version of genai-prices would change; safe to run twice."""
    outcome = price_refresh.propose_upgraded(now=timezone.now())
    metrics.prices_refreshed(source=sources.GENAI, outcome=outcome)


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def apply_rerating(*, rerating_id: int, **_: object) -> None:
    """Apply a re-rating to its end; safe to run twice, and beside another run of the same one."""
    try:
        reratings.run(rerating_id=rerating_id, clock=timezone.now)
    except reratings.AlreadyRunning:
        log.info("rerating_runs_already", extra={"rerating": rerating_id})


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def finish_reratings(**_: object) -> None:
    """Go on with re-ratings that were broken off, or never began; safe to run twice."""
    for rerating_id in reratings.unfinished():
        _queue(rerating_id)


@shared_task  # type: ignore[untyped-decorator]  # celery has no stubs
def forget_refused_models(**_: object) -> None:
    """Take off the queue what has a price by now and nothing waiting; safe to run twice."""
    unpriced.settle_refused(now=timezone.now())


def rerate_now_or_soon(asked: Rerating) -> Rerating:
    """Apply a small re-rating at once, and leave a large one to the worker; return it as it is."""
    if reratings.is_small(asked):
        apply_rerating(rerating_id=asked.pk)
    else:
        _queue(asked.pk)
    asked.refresh_from_db()
    return asked


def _queue(rerating_id: int) -> None:
    """Tell the worker; if the broker is away, :func:`finish_reratings` finds it."""
    try:
        apply_rerating.delay(rerating_id=rerating_id)
    except OperationalError as error:
        log.warning(
            "rerating_not_queued", extra={"rerating": rerating_id, "error": type(error).__name__}
        )
