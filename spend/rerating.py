"""
Re-rating: what past requests cost at today's price book, written as adjusting rows.

The ledger is never edited. What a request is charged is the sum of its rows; where the price that
applied at its admission says otherwise, the difference is added in a row of its own, in the same
period. A second run finds no difference. What cannot be rated is counted and left alone: requests
whose usage nobody knows, those of a deployment with a price of its own, those that still have no
price, and those whose currency cannot be converted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from django.db import connection, transaction
from django.db.models import Count, QuerySet, Sum

from budgets import money, totals
from budgets.models import Account
from budgets.money import EXACT
from spend import ledger, pricebook, pricing
from spend.components import Component
from spend.models import EventKind, Rerating, SpendEvent
from spend.pricebook import Adjustments, Listed
from spend.pricing import Cost
from spend.rates import Conditions, Price
from spend.services import unpriced

BATCH_REQUESTS: Final = 1_000
"""So many are rated under one lock; the recorder waits for it."""
PREVIEW_REQUESTS_MAX: Final = 200_000
OWN_PRICE: Final = "deployment:"
NO_COST: Final = Decimal(0)

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


@dataclass(slots=True)
class Preview:
    """What a re-rating would change; skipped are those that cannot be rated."""

    seen: int = 0
    changed: int = 0
    skipped: int = 0
    by_account: dict[tuple[UUID, str], Change] = field(default_factory=dict)
    """By account and currency: organizations of several count on the platform's accounts."""
    by_currency: dict[str, Change] = field(default_factory=dict)

    def labels(self) -> Mapping[UUID, str]:
        rows = Account.objects.filter(id__in={id for id, _ in self.by_account})
        return {row.id: f"{row.get_kind_display()}: {row.label}" for row in rows}


@dataclass(frozen=True, slots=True)
class Charged:
    """What a request is charged now in one price's currency: the sum of its rows."""

    rows: int
    currency: str
    cost: Decimal
    units: int
    rate: Decimal
    rate_date: object


@dataclass(frozen=True, slots=True)
class Adjusting:
    """A row to add: ``difference`` in the price's currency, ``units`` in the organization's."""

    event: SpendEvent
    difference: Decimal
    units: int
    currency: str
    rate: Decimal
    rate_date: object
    price: str
    cost: Cost | None


def preview(scope: Scope) -> Preview:
    """
    Return what re-rating these requests would change, by account and by currency.

    :raises TooManyRequests: if they are more than ``PREVIEW_REQUESTS_MAX``
    """
    found, rater = Preview(), _Rater(scope)
    for batch in _batches(scope):
        found.seen += len(batch)
        if found.seen > PREVIEW_REQUESTS_MAX:
            raise TooManyRequests
        for event, charged, adjusting in rater.rate(batch):
            if adjusting is None:
                found.skipped += 1
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
    rater = _Rater(scope)
    waiting = unpriced.waiting_of(provider=scope.provider, upstream_model=scope.upstream_model)
    rerating.requests_total, rerating.requests_seen, rerating.requests_skipped = count(scope), 0, 0
    for batch in _batches(scope):
        results = _apply_batch(batch, rerating, rater, clock())
        rerating.requests_seen += len(batch)
        rerating.requests_skipped += sum(1 for adjusting in results if adjusting is None)
        rerating.save(update_fields=["requests_total", "requests_seen", "requests_skipped"])
        progress(rerating)
    rerating.requests_changed, rerating.differences = _written(rerating)
    rerating.finished_at = clock()
    rerating.save()
    if rerating.requests_skipped == 0 and scope.organization_id is None:
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


class _Rater:
    """Rates requests at the price book as it is when this is made."""

    def __init__(self, scope: Scope) -> None:
        self._listed: Listed | None = pricebook.listed(
            provider=scope.provider, name=scope.upstream_model
        )
        self._adjustments: Adjustments = pricebook.adjustments()

    def rate(
        self, batch: Sequence[SpendEvent]
    ) -> Iterator[tuple[SpendEvent, Sequence[Charged], Sequence[Adjusting] | None]]:
        """Yield each request with what it is charged and what must be added; None: unknown."""
        charged = _charged(batch)
        for event in batch:
            own = charged.get(event.request_id, [])
            yield event, own, self._adjusting(event, own)

    def _adjusting(
        self, event: SpendEvent, charged: Sequence[Charged]
    ) -> Sequence[Adjusting] | None:
        price = self._price(event)
        if price is None or not event.usage:
            return None
        usage = {Component(name): int(number) for name, number in event.usage.items()}
        conditions = Conditions(event.service_tier, event.variant, event.region)
        cost = pricing.cost(price=price, usage=usage, conditions=conditions)
        rate = _rate(event, price)
        if rate is None or (cost.unpriced and not cost.lines):
            return None
        return _differences(event, charged, price, cost, rate)

    def _price(self, event: SpendEvent) -> Price | None:
        if self._listed is None or event.price_reference.startswith(OWN_PRICE):
            return None
        organization, at = event.organization_id, event.admitted_at
        price = self._listed.price_at(at, organization_id=organization)
        return price and self._adjustments.apply(
            price, provider=event.provider, organization_id=organization, team=event.team, at=at
        )


def _rate(event: SpendEvent, price: Price) -> tuple[Decimal, object] | None:
    """Return by what the price's currency is converted: as when the request was admitted."""
    if price.currency == event.cost_currency:
        return event.exchange_rate, event.exchange_rate_date
    return (Decimal(1), None) if price.currency == event.currency else None


def _differences(
    event: SpendEvent,
    charged: Sequence[Charged],
    price: Price,
    cost: Cost,
    rate: tuple[Decimal, object],
) -> list[Adjusting]:
    """Return the rows to add: what was charged in another currency is taken back in it."""
    units = money.to_units(EXACT.multiply(cost.amount, rate[0]), currency=event.currency)
    same = next((each for each in charged if each.currency == price.currency), None)
    rows = [
        Adjusting(event, -each.cost, -each.units, each.currency, each.rate, each.rate_date,
                  price.reference, None)
        for each in charged
        if each is not same and (each.cost or each.units)
    ]  # fmt: skip
    known_cost, known_units = (same.cost, same.units) if same else (NO_COST, 0)
    difference = _kept(cost.amount) - known_cost
    if difference or units != known_units:
        rows.append(
            Adjusting(event, difference, units - known_units, price.currency, *rate,
                      price.reference, cost)
        )  # fmt: skip
    return rows


def _kept(amount: Decimal) -> Decimal:
    """Return an amount with the decimals that the ledger keeps."""
    return money.WIDE.quantize(amount, Decimal(1).scaleb(-ledger.COST_DECIMALS))


def _requests(scope: Scope) -> QuerySet[SpendEvent]:
    rows = SpendEvent.objects.filter(
        kind=EventKind.USAGE, provider=scope.provider, upstream_model=scope.upstream_model,
        admitted_at__gte=scope.start, admitted_at__lt=scope.end,
    )  # fmt: skip
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


def _charged(batch: Sequence[SpendEvent]) -> dict[UUID, list[Charged]]:
    """Return what each request is charged now: its true row and those that adjust it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT request_id, count(*), cost_currency, sum(cost), sum(amount_units)::bigint,
                   max(exchange_rate), max(exchange_rate_date)
            FROM spend_event
            WHERE request_id = ANY(%s) AND admitted_at BETWEEN %s AND %s
                  AND kind IN ('usage', 'adjustment')
            GROUP BY 1, 3 ORDER BY 1, 3
            """,
            [
                [event.request_id for event in batch],
                batch[0].admitted_at,
                batch[-1].admitted_at,
            ],
        )
        found: dict[UUID, list[Charged]] = {}
        for request_id, *charged in cursor.fetchall():
            found.setdefault(request_id, []).append(Charged(*charged))
    return found


def _apply_batch(
    batch: Sequence[SpendEvent], rerating: Rerating, rater: _Rater, now: datetime
) -> list[Sequence[Adjusting] | None]:
    with transaction.atomic():
        partition = totals.lock_partition()
        rated = list(rater.rate(batch))
        rows = [
            _row(adjusting, rerating, index, now)
            for _, charged, result in rated
            for index, adjusting in enumerate(result or (), start=sum(n.rows for n in charged))
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
        "rerating_id": rerating.pk,
    }


def _written(rerating: Rerating) -> tuple[int, dict[str, str]]:
    """Return how many requests this re-rating has adjusted, and by how much in each currency."""
    rows = SpendEvent.objects.filter(
        rerating_id=rerating.pk, admitted_at__gte=rerating.start, admitted_at__lt=rerating.end
    )
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
