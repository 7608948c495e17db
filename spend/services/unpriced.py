"""The queue of models without a price: who adds to it, and what empties it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection
from django.db.models import QuerySet

from spend.models import UnpricedModel
from spend.queries import models_named, price_in_force

SETTLED_AT_ONCE_MAX: Final = 1_000


@dataclass(slots=True)
class Refused:
    """How many requests for a model were refused, and when."""

    requests: int
    first_at: datetime
    last_at: datetime


def add_refused(counts: Mapping[tuple[str, str], Refused]) -> None:
    """Add refusals by (provider, upstream model)."""
    rows = [
        (provider, model, each.first_at, each.last_at, each.requests)
        for (provider, model), each in sorted(counts.items())  # in one order: no deadlocks
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO spend_unpricedmodel AS kept
                (provider, upstream_model, first_seen_at, last_seen_at, refused, waiting,
                 input_tokens, output_tokens)
            VALUES (%s, %s, %s, %s, %s, 0, 0, 0)
            ON CONFLICT (provider, upstream_model) DO UPDATE SET
                refused = kept.refused + excluded.refused,
                settled_at = CASE WHEN kept.settled_at < excluded.last_seen_at
                    THEN NULL ELSE kept.settled_at END,
                first_seen_at = CASE WHEN kept.settled_at IS NULL
                    THEN least(kept.first_seen_at, excluded.first_seen_at)
                    ELSE excluded.first_seen_at END,
                last_seen_at = greatest(kept.last_seen_at, excluded.last_seen_at)
            """,
            rows,
        )


def add_served() -> None:
    """Add the rows that the recorder has just inserted; within its transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO spend_unpricedmodel AS kept
                (provider, upstream_model, first_seen_at, last_seen_at, refused, waiting,
                 input_tokens, output_tokens)
            SELECT provider, upstream_model, min(admitted_at), max(admitted_at), 0, count(*),
                   sum(input_tokens), sum(output_tokens)
            FROM spend_fresh WHERE kind = 'usage' AND flags @> ARRAY['unpriced']::varchar[]
            GROUP BY 1, 2 ORDER BY 1, 2
            ON CONFLICT (provider, upstream_model) DO UPDATE SET
                waiting = kept.waiting + excluded.waiting,
                input_tokens = kept.input_tokens + excluded.input_tokens,
                output_tokens = kept.output_tokens + excluded.output_tokens,
                first_seen_at = CASE WHEN kept.settled_at IS NULL
                    THEN least(kept.first_seen_at, excluded.first_seen_at)
                    ELSE excluded.first_seen_at END,
                last_seen_at = greatest(kept.last_seen_at, excluded.last_seen_at),
                settled_at = NULL
            """
        )


def waiting_of(*, provider: str, upstream_model: str) -> int:
    """Return how many requests of a model wait for a price."""
    rows = UnpricedModel.objects.filter(provider=provider, upstream_model=upstream_model)
    return sum(rows.values_list("waiting", flat=True))


def settle(
    *,
    provider: str,
    upstream_model: str,
    waiting: int,
    start: datetime,
    end: datetime,
    now: datetime,
) -> None:
    """
    Empty the queue of a model whose waiting requests in [start, end) were all rated.

    ``waiting`` is how many waited before that: where more have come meanwhile, it stays.
    """
    UnpricedModel.objects.filter(
        provider=provider, upstream_model=upstream_model, waiting=waiting,
        first_seen_at__gte=start, last_seen_at__lt=end,
    ).update(
        settled_at=now, refused=0, waiting=0, input_tokens=0, output_tokens=0
    )  # fmt: skip


def settle_refused(*, now: datetime) -> int:
    """Take off the queue what was refused only, and has a price by now; return how many."""
    refused = list(waiting().filter(waiting=0)[:SETTLED_AT_ONCE_MAX])
    models = models_named((each.provider, each.upstream_model) for each in refused)
    priced = [
        each.pk
        for each in refused
        if (model := models.get((each.provider, each.upstream_model)))
        and price_in_force(model, at=now)
    ]
    rows = UnpricedModel.objects.filter(pk__in=priced, waiting=0, settled_at=None)
    return rows.update(settled_at=now, refused=0)


def waiting() -> QuerySet[UnpricedModel]:
    """Return the models that somebody waits to have priced."""
    return UnpricedModel.objects.filter(settled_at=None).order_by("-last_seen_at", "pk")
