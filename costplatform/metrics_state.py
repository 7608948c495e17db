"""
What only Postgres and the live store know, read when somebody scrapes and kept for some seconds.

Sixteen queries and ten trips to the live store, however many accounts there are. What cannot be
read is left out, and ``costplatform_database_up`` or ``costplatform_store_up`` says so.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Count, QuerySet, Sum
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from budgets import figures, store_status, storekeeper
from budgets.figures import InForce
from budgets.metrics import cut
from budgets.models import Account, Partition
from budgets.services import books
from budgets.storekeeper import PARTITION
from spend.currencies import ratebook
from spend.models import InvoiceImport, InvoiceState, SetAside, Verification
from spend.services import unpriced

log = logging.getLogger(__name__)

KINDS: Final = ("organization", "team", "model", "provider", "deployment")
"""Not keys, people and tags: there may be millions, and their names are nobody's business here."""
LIFETIME: Final = "lifetime"
INVOICES_TOLD_MAX: Final = 200
_BUDGET: Final = ("kind", "organization", "account", "account_id", "budget", "currency", "period")
_INVOICE: Final = ("provider", "format")

FAMILIES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "costplatform_database_up": ("Whether Postgres answers.", ()),
    "costplatform_store_up": ("Whether the live store answers.", ()),
    "costplatform_store_open": ("Whether the live store is the one that Postgres knows.", ()),
    "costplatform_store_generation": ("How often the live store was opened.", ()),
    "costplatform_recorder_lag_seconds": ("Age of the oldest unrecorded event.", ()),
    "costplatform_unrecorded_events": ("Events in the stream that are not recorded.", ()),
    "costplatform_set_aside_events": ("Events that could not be recorded.", ()),
    "costplatform_unpriced_models": ("Models that wait for a price.", ()),
    "costplatform_unpriced_requests": ("Their requests, by what became of them.", ("state",)),
    "costplatform_closing_lag_seconds": ("Since when the oldest period waits to be closed.", ()),
    "costplatform_open_reservations": ("Reservations that nobody has ended.", ()),
    "costplatform_oldest_reservation_age_seconds": ("Age of the one that is due first.", ()),
    "costplatform_verification_timestamp_seconds": ("When verify-ledger last ended.", ()),
    "costplatform_verification_drift_units": ("Drift that it found, in units.", ()),
    "costplatform_verification_differences": ("Differences that it found.", ()),
    "costplatform_invoice_drift_percent": ("Drift of the newest invoice.", _INVOICE),
    "costplatform_invoice_drifting": ("Whether it is beyond INVOICE_DRIFT_PERCENT_MAX.", _INVOICE),
    "costplatform_exchange_rates_newest_timestamp_seconds": ("Date of the newest rate.", ()),
    "costplatform_exchange_rates_fetched_timestamp_seconds": ("When rates last came.", ()),
    "costplatform_exchange_rates_fetch_failed": ("Whether the last attempt failed.", ()),
    "costplatform_exchange_rates_quarantined": ("Rates that wait for somebody to look.", ()),
    "costplatform_budget_limit": ("The most that may be spent in the period.", _BUDGET),
    "costplatform_budget_spent": ("Spent in the running period.", _BUDGET),
    "costplatform_budget_reserved": ("Held by requests in flight.", _BUDGET),
    "costplatform_budget_remaining": ("Limit less what is spent and reserved.", _BUDGET),
    "costplatform_budget_accounts_left_out": ("Accounts beyond METRICS_ACCOUNTS_MAX.", ()),
}


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    value: int | float | Decimal
    labels: tuple[str, ...] = ()


class State(Collector):
    """Reads at most once in METRICS_CACHE_SECONDS, whoever scrapes how often."""

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._families: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at > settings.METRICS_CACHE_SECONDS:
                self._families = families_of(read_samples(at=self._clock()))
                self._read_at = time.monotonic()
            return self._families


def families_of(samples: Iterable[Sample]) -> list[Metric]:
    """Return the samples as Prometheus's library takes them."""
    grouped: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        grouped[sample.name].append(sample)
    return [_family(name, grouped[name]) for name in FAMILIES if name in grouped]


def read_samples(*, at: datetime) -> list[Sample]:
    """Return all that Postgres and the live store tell."""
    try:
        return [Sample("costplatform_database_up", 1), *_read(at)]
    except DatabaseError as error:
        log.warning("metrics_without_database", extra={"error": type(error).__name__})
        return [Sample("costplatform_database_up", 0)]


def _family(name: str, samples: list[Sample]) -> Metric:
    help, labels = FAMILIES[name]
    family = GaugeMetricFamily(name, help, labels=labels)
    for sample in samples:
        # Prometheus knows nothing but floats: rounded here, where nobody computes with it again.
        family.add_metric(sample.labels, float(sample.value))
    return family


def _read(at: datetime) -> Iterator[Sample]:
    yield from _verification()
    yield from _invoices()
    yield Sample("costplatform_set_aside_events", SetAside.objects.count())
    yield from _rates(at)
    yield from _unpriced()
    yield from _books(at)
    partition = Partition.objects.filter(number=PARTITION).first()
    if partition is not None:
        yield Sample("costplatform_store_generation", partition.generation)
        yield from _store(partition)
        yield from _budgets(at)


def _verification() -> Iterator[Sample]:
    last = Verification.objects.order_by("-id").first()
    if last is not None:
        yield Sample("costplatform_verification_timestamp_seconds", last.at.timestamp())
        yield Sample("costplatform_verification_drift_units", last.drift_units)
        yield Sample("costplatform_verification_differences", last.differences)


def _invoices() -> Iterator[Sample]:
    """Tell of the newest invoice of each provider and format; of nothing there is no share."""
    newest = InvoiceImport.objects.order_by("provider", "format", "-imported_at", "-id")
    for each in newest.distinct("provider", "format")[:INVOICES_TOLD_MAX]:
        labels = (cut(each.provider), each.format)
        is_drifting = int(each.state == InvoiceState.DRIFTING)
        yield Sample("costplatform_invoice_drifting", is_drifting, labels)
        if each.drift_percent is not None:
            yield Sample("costplatform_invoice_drift_percent", each.drift_percent, labels)


def _rates(at: datetime) -> Iterator[Sample]:
    known = ratebook.standing(now=at)
    yield Sample("costplatform_exchange_rates_quarantined", known.quarantined)
    if known.newest is not None:
        newest = datetime.combine(known.newest, datetime.min.time(), UTC).timestamp()
        yield Sample("costplatform_exchange_rates_newest_timestamp_seconds", newest)
    if known.last is not None:
        yield Sample("costplatform_exchange_rates_fetch_failed", int(bool(known.last.problem)))
    if known.last_good is not None:
        fetched = known.last_good.at.timestamp()
        yield Sample("costplatform_exchange_rates_fetched_timestamp_seconds", fetched)


def _unpriced() -> Iterator[Sample]:
    queue = unpriced.waiting().aggregate(
        models=Count("pk"), waiting=Sum("waiting", default=0), refused=Sum("refused", default=0)
    )
    yield Sample("costplatform_unpriced_models", queue["models"])
    for state in ("waiting", "refused"):
        yield Sample("costplatform_unpriced_requests", queue[state], (state,))


def _books(at: datetime) -> Iterator[Sample]:
    oldest = books.oldest_due(at=at)
    late = (at - oldest).total_seconds() if oldest else 0
    yield Sample("costplatform_closing_lag_seconds", late)


def _store(partition: Partition) -> list[Sample]:
    try:
        is_open = storekeeper.is_open(partition)
        waiting = _waiting(partition) if is_open else []
    except RedisError:
        is_up, is_open, waiting = 0, False, []
    else:
        is_up = 1
    return [
        Sample("costplatform_store_up", is_up),
        Sample("costplatform_store_open", int(is_open)),
        *waiting,
    ]


def _waiting(partition: Partition) -> list[Sample]:
    status = store_status.read_status(position=partition.position)
    return [
        Sample("costplatform_recorder_lag_seconds", status.oldest_event_ms / 1_000),
        Sample("costplatform_unrecorded_events", status.unrecorded_events),
        Sample("costplatform_open_reservations", status.open_reservations),
        Sample("costplatform_oldest_reservation_age_seconds", status.oldest_reservation_ms / 1_000),
    ]


def _budgets(at: datetime) -> Iterator[Sample]:
    budgeted = _budgeted()
    rows = {
        id: (kind, organization or "", label)
        for id, kind, organization, label in budgeted.values_list(
            "id", "kind", "organization__public_id", "label"
        )[: settings.METRICS_ACCOUNTS_MAX]
    }
    yield Sample("costplatform_budget_accounts_left_out", budgeted.count() - len(rows))
    for id, known in figures.figures_of(rows, at=at).items():
        for each in known.budgets:
            yield from _standing(each, _labels(id, rows[id], each))


def _budgeted() -> QuerySet[Account]:
    accounts = Account.objects.filter(kind__in=KINDS, accountbudget__isnull=False)
    return accounts.order_by("created_at", "id").distinct()


def _labels(id: UUID, row: tuple[str, str, str], each: InForce) -> tuple[str, ...]:
    kind, organization, label = row
    period = each.budget.duration or LIFETIME
    # Names are not unique: by the ids no two series are ever the same.
    labels = (kind, organization, label, str(id), each.budget.public_id, each.currency, period)
    return tuple(map(cut, labels))


def _standing(each: InForce, labels: tuple[str, ...]) -> Iterator[Sample]:
    limit = each.limit
    if limit is not None:
        yield Sample("costplatform_budget_limit", limit, labels)
    if not each.is_live:
        return
    yield Sample("costplatform_budget_spent", each.spend, labels)
    yield Sample("costplatform_budget_reserved", each.reserved, labels)
    if limit is not None:
        yield Sample("costplatform_budget_remaining", limit - each.spend - each.reserved, labels)
