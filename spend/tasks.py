from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from spend import fetching, ledger, metrics
from spend.catalogues import sources
from spend.services import price_refresh

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
