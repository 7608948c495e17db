"""A price as it is kept with what is charged by it later: JSON, every digit of it."""

from decimal import Decimal, InvalidOperation
from typing import Any

from spend.components import Component
from spend.rates import Price, Rate


def as_json(price: Price) -> dict[str, Any]:
    """Return the price, to be read by :func:`of_json`."""
    return {
        "currency": price.currency,
        "reference": price.reference,
        "fee": str(price.fee),
        "region_factors": {name: str(factor) for name, factor in price.region_factors.items()},
        "rates": [
            [
                rate.component.value, str(rate.rate), rate.tier_from, rate.per, rate.service_tier,
                rate.variant,
            ]
            for rate in price.rates
        ],
    }  # fmt: skip


def of_json(kept: Any) -> Price:
    """
    Return the price that :func:`as_json` was given.

    :raises ValueError: if this is none
    """
    try:
        factors = {name: Decimal(factor) for name, factor in kept["region_factors"].items()}
        return Price(
            currency=kept["currency"],
            rates=tuple(_rate(*each) for each in kept["rates"]),
            reference=kept["reference"],
            region_factors=factors,
            fee=Decimal(kept["fee"]),
        )
    except (KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise ValueError("this is no price") from error


def _rate(
    component: str, rate: str, tier_from: int, per: int, service_tier: str, variant: str
) -> Rate:
    return Rate(Component(component), Decimal(rate), tier_from, per, service_tier, variant)
