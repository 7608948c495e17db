"""
Re-rating: what past requests cost at today's price book, written as adjusting rows.

The ledger is never edited. What a request is charged is the sum of its rows; where the price that
applied at its admission says otherwise, the difference is added in a row of its own, in the same
period. A second run finds no difference. What cannot be rated is counted and left alone: requests
whose usage nobody knows, those of a deployment with a price of its own, those that still have no
price, and those whose currency cannot be converted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum

from budgets import money, totals
from budgets.models import Account, AccountKind
from budgets.money import EXACT
from spend import events, ledger
from spend.models import EventKind, Rerating, SpendEvent
from spend.rating import Adjusting, Charged, Rater, Skip
from spend.services import unpriced

BATCH_REQUESTS: Final = 1_000
"""So many are rated under one lock; the recorder waits for it."""
PREVIEW_REQUESTS_MAX: Final = 200_000

Clock = Callable[[], datetime]
Progress = Callable[[Rerating], None]


class TooManyRequests(Exception):
    """The interval holds more requests than a preview looks at."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which requests: those of a provider's model, admitted in [start, end)."""

    provider: str
    upstream_model: str
    start: datetime
    end: datetime
    organization_id: int | None = None


@dataclass(slots=True)
class Change:
    """What an account is charged before and after, in units of its currency."""

    currency: str
    requests: int = 0
    before_units: int = 0
    difference_units: int = 0

    @property
    def before(self) -> Decimal:
        return money.to_decimal(self.before_units, currency=self.currency)

    @property
    def difference(self) -> Decimal:
        return money.to_decimal(self.difference_units, currency=self.currency)

    @property
    def after(self) -> Decimal:
        return EXACT.add(self.before, self.difference)


@dataclass(frozen=True, slots=True)
class Row:
    """A change with the account that it is on, by its name."""

    account_id: UUID
    label: str
    change: Change


@dataclass(slots=True)
class Preview:
    """What a re-rating would change; skipped are those that cannot be rated."""

    seen: int = 0
    changed: int = 0
    skipped: Counter[Skip] = field(default_factory=Counter)
    by_account: dict[tuple[UUID, str], Change] = field(default_factory=dict)
    """By account and currency: organizations of several count on the platform's accounts."""
    by_currency: dict[str, Change] = field(default_factory=dict)

    def rows(self, *, most: int) -> list[Row]:
        """Return the accounts whose charge changes by the most, so many of them."""
        by_difference = sorted(
            self.by_account.items(), key=lambda item: (-abs(item[1].difference), item[0])
        )[:most]
        known = Account.objects.select_related("organization")
        accounts = known.in_bulk({id for (id, _), _ in by_difference})
        return [Row(id, _label(accounts.get(id)), change) for (id, _), change in by_difference]


def preview(scope: Scope) -> Preview:
    """
    Return what re-rating these requests would change, by account and by currency.

    :raises TooManyRequests: if they are more than ``PREVIEW_REQUESTS_MAX``
    """
    found, rater = Preview(), _rater(scope)
    for batch in _batches(scope):
        found.seen += len(batch)
        if found.seen > PREVIEW_REQUESTS_MAX:
            raise TooManyRequests
        for event, charged, adjusting in rater.rate(batch):
            if isinstance(adjusting, Skip):
                found.skipped[adjusting] += 1
            elif adjusting:
                found.changed += 1
                _add_up(found, event, charged, adjusting)
    return found


def apply(
    rerating: Rerating, *, clock: Clock, progress: Progress = lambda rerating: None
) -> Rerating:
    """
    Write the adjusting rows, batch by batch, and say on ``rerating`` what was done.

    Safe to run twice, and to run again after it was broken off: what was adjusted has no
    difference any more.
    """
    scope = scope_of(rerating)
    rater, skipped = _rater(scope), Counter[Skip]()
    waiting = unpriced.waiting_of(provider=scope.provider, upstream_model=scope.upstream_model)
    rerating.requests_total, rerating.requests_seen = count(scope), 0
    rerating.requests_skipped, rerating.skipped = 0, {}
    for batch in _batches(scope):
        results = _apply_batch(batch, rerating, rater, clock())
        rerating.requests_seen += len(batch)
        skipped.update(each for each in results if isinstance(each, Skip))
        rerating.requests_skipped, rerating.skipped = skipped.total(), dict(skipped)
        rerating.save(
            update_fields=["requests_total", "requests_seen", "requests_skipped", "skipped"]
        )
        progress(rerating)
    rerating.requests_changed, rerating.differences = _written(rerating)
    rerating.finished_at = clock()
    rerating.save()
    if not rater.leaves_waiting and scope.organization_id is None:
        unpriced.settle(
            provider=scope.provider, upstream_model=scope.upstream_model, waiting=waiting,
            start=scope.start, end=scope.end, now=rerating.finished_at,
        )  # fmt: skip
    return rerating


def count(scope: Scope, *, most: int | None = None) -> int:
    """Return how many requests there are, counting no further than ``most``."""
    return _requests(scope).order_by()[:most].count()


def scope_of(rerating: Rerating) -> Scope:
    return Scope(
        rerating.provider, rerating.upstream_model, rerating.start, rerating.end,
        rerating.organization_id,
    )  # fmt: skip


def of_rerating(rerating: Rerating) -> Q:
    """Return which rows of the ledger a re-rating has added."""
    return Q(rerating_id=rerating.pk, admitted_at__gte=rerating.start, admitted_at__lt=rerating.end)


def _label(account: Account | None) -> str:
    """Return an account's name, with its organization: several may have a team of one name."""
    if account is None:
        return "unknown"
    name = f"{account.get_kind_display()}: {account.label}"
    is_one = account.kind == AccountKind.ORGANIZATION or account.organization is None
    return name if is_one else f"{name} ({account.organization})"


def _rater(scope: Scope) -> Rater:
    return Rater(provider=scope.provider, upstream_model=scope.upstream_model, start=scope.start)


def _requests(scope: Scope) -> QuerySet[SpendEvent]:
    rows = SpendEvent.objects.filter(
        kind=EventKind.USAGE, provider=scope.provider, upstream_model=scope.upstream_model,
        admitted_at__gte=scope.start, admitted_at__lt=scope.end,
    ).exclude(flags__contains=[events.CACHE_HIT])  # fmt: skip
    if scope.organization_id is not None:
        rows = rows.filter(organization_id=scope.organization_id)
    return rows.order_by("admitted_at", "id")


def _batches(scope: Scope) -> Iterator[list[SpendEvent]]:
    """Yield the requests in order of admission, each once, however many come in meanwhile."""
    rows = _requests(scope)
    batch = list(rows[:BATCH_REQUESTS])
    while batch:
        yield batch
        last = batch[-1]
        batch = list(
            rows.filter(admitted_at__gte=last.admitted_at)
            .exclude(admitted_at=last.admitted_at, id__lte=last.id)[:BATCH_REQUESTS]
        )  # fmt: skip


def _apply_batch(
    batch: Sequence[SpendEvent], rerating: Rerating, rater: Rater, now: datetime
) -> list[Sequence[Adjusting] | Skip]:
    with transaction.atomic():
        partition = totals.lock_partition()
        rated = list(rater.rate(batch))
        rows = [
            _row(adjusting, rerating, index, now)
            for _, charged, result in rated
            if not isinstance(result, Skip)
            for index, adjusting in enumerate(result, start=sum(n.rows for n in charged))
        ]
        if rows:
            accounts = ledger.adjust(rows)
            totals.note_reloads(partition=partition, account_ids=accounts)
    return [adjusting for _, _, adjusting in rated]


def _row(adjusting: Adjusting, rerating: Rerating, index: int, now: datetime) -> dict[str, object]:
    """
    Return the row: the request's own, but for what it adds, at which price, and why.

    ``index`` is how many rows the request has: a run that goes on at another price adds new ones.
    """
    event, cost = adjusting.event, adjusting.cost
    kept = {str(each.column): getattr(event, each.attname) for each in SpendEvent._meta.fields}
    return kept | {
        "id": uuid5(event.request_id, f"rerating:{rerating.pk}:{index}"),
        "kind": EventKind.ADJUSTMENT,
        "settled_at": now,
        "recorded_at": now,
        "amount_units": adjusting.units,
        "cost": adjusting.difference,
        "cost_currency": adjusting.currency,
        "exchange_rate": adjusting.rate,
        "exchange_rate_date": adjusting.rate_date,
        "reserved_units": 0,
        "price_reference": adjusting.price,
        "input_tokens": 0,
        "output_tokens": 0,
        "usage": ledger.as_json({}),
        "lines": ledger.lines_as_json(cost.lines if cost else ()),
        "flags": [],
        "saved_units": 0,
        "rerating_id": rerating.pk,
    }


def _written(rerating: Rerating) -> tuple[int, dict[str, str]]:
    """Return how many requests this re-rating has adjusted, and by how much in each currency."""
    rows = SpendEvent.objects.filter(of_rerating(rerating))
    by_currency = rows.values("currency").order_by("currency")
    sums = by_currency.annotate(
        units=Sum("amount_units"), requests=Count("request_id", distinct=True)
    )
    return sum(each["requests"] for each in sums), {
        each["currency"]: money.plain(
            money.to_decimal(int(each["units"]), currency=each["currency"])
        )
        for each in sums
    }


def _add_up(
    found: Preview,
    event: SpendEvent,
    charged: Iterable[Charged],
    adjusting: Iterable[Adjusting],
) -> None:
    before = sum(each.units for each in charged)
    difference = sum(each.units for each in adjusting)
    currency = event.currency
    sums = [found.by_account.setdefault((id, currency), Change(currency)) for id in event.accounts]
    for change in [*sums, found.by_currency.setdefault(currency, Change(currency))]:
        change.requests += 1
        change.before_units += before
        change.difference_units += difference
