"""A model with a price, and bad numbers, as the tests of prices need them."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from spend.models import Model, PriceVersion, Provider
from spend.services import prices
from spend.services.prices import Wanted

DAY: Final = timedelta(days=1)
BAD_TEXTS: Final = (
    "NaN", "sNaN", "Infinity", "-Infinity", "1e400", "1e308", "-1", "1e-30", "１２", "٣", "1,000",
    "0x10", "",
)  # fmt: skip
BAD_VALUES: Final[tuple[Any, ...]] = (*BAD_TEXTS, True, [], 0.5, None, {})
"""What is no number from 0 on wherever one is wanted; -0 is 0."""


def now() -> datetime:
    return datetime.now(UTC)


def new_model(**values: Any) -> Model:
    provider = Provider.objects.create(slug=f"p-{uuid.uuid4().hex[:12]}", name="P")
    return Model.objects.create(**{"provider": provider, "name": "m", **values})


def rate(
    component: str = "input", rate: Any = "2.50", per: Any = 10**6, **more: Any
) -> dict[str, Any]:
    return {"component": component, "rate": rate, "per": per, **more}


def wanted(model: Model, *rates: Mapping[str, object], **values: Any) -> Wanted:
    given = rates or (rate(), rate("output", "10"))
    return Wanted(**{"model": model, "effective_from": now() - DAY, "rates": given, **values})


def priced(model: Model, *rates: Mapping[str, object], **values: Any) -> PriceVersion:
    return prices.create_version(wanted=wanted(model, *rates, **values), confirm=True)
