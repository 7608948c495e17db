"""What the recorder and the tasks of the price book count."""

from typing import Final

from prometheus_client import Counter

from budgets.metrics import REGISTRY

_EVENTS: Final = Counter("costplatform_recorder_events", "Ledger rows written.", registry=REGISTRY)
_BATCHES: Final = Counter(
    "costplatform_recorder_batches", "Batches written, a transaction each.", registry=REGISTRY
)
_SWEEPS: Final = Counter(
    "costplatform_recorder_sweeps", "Searches for abandoned reservations.", registry=REGISTRY
)
_ORPHANS: Final = Counter(
    "costplatform_recorder_orphans", "Reservations settled as orphans.", registry=REGISTRY
)
_REFRESHES: Final = Counter(
    "costplatform_price_refreshes", "Price lists looked at by the clock.",
    ("source", "outcome"), registry=REGISTRY,
)  # fmt: skip


def prices_refreshed(*, source: str, outcome: str) -> None:
    """Count that the clock has looked at a price list, and what came of it."""
    _REFRESHES.labels(source, outcome).inc()


def batch_recorded(*, rows: int) -> None:
    """Count a batch that is committed, with its new rows in the ledger."""
    _BATCHES.inc()
    _EVENTS.inc(rows)


def swept(*, orphans: int) -> None:
    """Count a search for abandoned reservations, and those that it settled."""
    _SWEEPS.inc()
    _ORPHANS.inc(orphans)
