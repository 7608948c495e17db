"""
What requests that were charged would cost at today's price book, and what is to be added for it.

Some cannot be rated, and keep their charge: :class:`Skip` says why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import connection

from budgets import money
from budgets.money import EXACT
from spend import ledger, pricebook, pricing
from spend.components import Component
from spend.currencies import ratebook
from spend.events import UNPRICED
from spend.models import SpendEvent
from spend.pricebook import Adjustments, Listed
from spend.pricing import Cost
from spend.rates import Conditions, Price

OWN_PRICE: Final = "deployment:"
NO_COST: Final = Decimal(0)


class Skip(StrEnum):
    """Why a request keeps its charge."""

    OWN_PRICE = "own_price"
    NO_PRICE = "no_price"
    UNKNOWN_USAGE = "unknown_usage"
    NO_EXCHANGE_RATE = "no_exchange_rate"
    MANY_REQUESTS = "many_requests"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS: Final = {
    Skip.OWN_PRICE: "the deployment has rates of its own",
    Skip.NO_PRICE: "there is still no price",
    Skip.UNKNOWN_USAGE: "nobody knows what was used",
    Skip.MANY_REQUESTS: "it is a batch, and the price depends on each of its lines",
    Skip.NO_EXCHANGE_RATE: "the price's currency cannot be converted",
}


HINDERING: Final = frozenset({Skip.NO_PRICE, Skip.NO_EXCHANGE_RATE})
"""What somebody can still do something about."""


@dataclass(frozen=True, slots=True)
class Charged:
    """What a request is charged now in one price's currency: the sum of its rows."""

    rows: int
    currency: str
    cost: Decimal
    units: int
    rate: Decimal
    rate_date: date | None


@dataclass(frozen=True, slots=True)
class Adjusting:
    """A row to add: ``difference`` in the price's currency, ``units`` in the organization's."""

    event: SpendEvent
    difference: Decimal
    units: int
    currency: str
    rate: Decimal
    rate_date: date | None
    price: str
    cost: Cost | None


class Rater:
    """Rates requests at the price book as it is when this is made."""

    def __init__(self, *, provider: str, upstream_model: str, start: datetime) -> None:
        self._listed: Listed | None = pricebook.listed(provider=provider, name=upstream_model)
        self._adjustments: Adjustments = pricebook.adjustments()
        self.leaves_waiting = False
        """Whether something that waits for a price could not be charged, or not all of it."""
        self._rates = ratebook.read_table(on=_utc_day(start))

    def rate(
        self, batch: Sequence[SpendEvent]
    ) -> Iterator[tuple[SpendEvent, Sequence[Charged], Sequence[Adjusting] | Skip]]:
        """Yield each request with what it is charged and what must be added."""
        charged = _charged(batch)
        for event in batch:
            own = charged.get(event.request_id, [])
            result = self._adjusting(event, own)
            if isinstance(result, Skip) and result in HINDERING and UNPRICED in event.flags:
                self.leaves_waiting = True
            yield event, own, result

    def _adjusting(
        self, event: SpendEvent, charged: Sequence[Charged]
    ) -> Sequence[Adjusting] | Skip:
        if event.price_reference.startswith(OWN_PRICE):
            return Skip.OWN_PRICE
        if not event.usage:
            return Skip.UNKNOWN_USAGE
        price = self._price(event)
        if price is None:
            return Skip.NO_PRICE
        if event.usage.get(Component.REQUEST, 1) > 1 and price.goes_by_request:
            return Skip.MANY_REQUESTS
        return self._rated(event, charged, price)

    def _rated(
        self, event: SpendEvent, charged: Sequence[Charged], price: Price
    ) -> Sequence[Adjusting] | Skip:
        usage = {Component(name): int(number) for name, number in event.usage.items()}
        tier, _ = price.tier_of(served=event.service_tier)
        conditions = Conditions(tier, event.variant, event.region)
        cost = pricing.cost(price=price, usage=usage, conditions=conditions)
        if cost.unpriced and UNPRICED in event.flags:
            self.leaves_waiting = True
        rate = self._rate(event, price)
        if cost.unpriced and not cost.lines:
            return Skip.NO_PRICE
        if rate is None:
            return Skip.NO_EXCHANGE_RATE
        return _differences(event, charged, price, cost, rate)

    def _rate(self, event: SpendEvent, price: Price) -> tuple[Decimal, date | None] | None:
        """Return by what the price's currency is converted: as when the request was admitted."""
        if price.currency == event.cost_currency:
            return event.exchange_rate, event.exchange_rate_date
        rate = self._rates.rate(
            of=price.currency, into=event.currency, on=_utc_day(event.admitted_at),
            stale_after_days=settings.EXCHANGE_RATE_STALE_DAYS,
        )  # fmt: skip
        return None if rate is None else (rate.value, rate.day)

    def _price(self, event: SpendEvent) -> Price | None:
        if self._listed is None:
            return None
        organization, at = event.organization_id, event.admitted_at
        price = self._listed.price_at(at, organization_id=organization)
        return price and self._adjustments.apply(
            price, provider=event.provider, organization_id=organization, team=event.team, at=at
        )


def _utc_day(at: datetime) -> date:
    return at.astimezone(UTC).date()


def _differences(
    event: SpendEvent,
    charged: Sequence[Charged],
    price: Price,
    cost: Cost,
    rate: tuple[Decimal, date | None],
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
    places = Decimal(1).scaleb(-ledger.COST_DECIMALS)
    # As Postgres rounds what is written to the column.
    return amount.quantize(places, rounding=ROUND_HALF_UP, context=money.WIDE)


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
