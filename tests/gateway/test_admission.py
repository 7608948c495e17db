"""What a reserve leaves with the live store, for when nobody comes back to settle it."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from gateway.admission import Candidate
from gateway.offers import Offer
from gateway.routes.asked import Body
from spend import events
from spend.components import Component
from spend.currencies.exchange import SAME
from spend.currencies.exchange import Rate as ExchangeRate
from spend.events import Described
from spend.rates import UNPRICED, Price, Rate

pytestmark = pytest.mark.no_servers

DESCRIBED = Described(
    organization_id=7, currency="USD", key_digest="d" * 64, team="", user="", end_user="", tags=(),
    route="/v1/chat/completions", model="m", provider="p", upstream_model="m", deployment="d",
    price_reference="price:1", cost_currency="USD", streamed=False, reserved_units=0,
)  # fmt: skip
SET = Price("USD", (Rate(Component.INPUT, Decimal(1)),), "price:1")
UNSET = Price("USD", (), UNPRICED)
OLD = ExchangeRate(Decimal(2), None, is_stale=True)


@pytest.mark.parametrize(
    ("price", "rate", "flags"),
    [
        (SET, SAME, ()),
        (SET, OLD, (events.RATE_STALE,)),
        (UNSET, SAME, (events.UNPRICED,)),
        (UNSET, OLD, (events.RATE_STALE, events.UNPRICED)),
    ],
)
def test_an_orphan_says_that_it_has_no_price_or_an_old_rate(
    price: Price, rate: ExchangeRate, flags: tuple[str, ...]
) -> None:
    target: Any = SimpleNamespace()
    offer = Offer(
        target=target, price=price, rate=rate, currency="USD", body=Body(b"{}"), ceiling=Decimal(3),
        prior=Decimal(1), tokens=10,
    )  # fmt: skip
    context: Any = SimpleNamespace(model_path=(UUID(int=1),))

    demand = Candidate("r", offer, context, DESCRIBED).demand()

    outcome = events.decode(demand.orphan).outcome
    assert (outcome.cost, outcome.flags) == (Decimal(3), flags)
