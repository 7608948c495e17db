"""Prices, and what was spent at them."""

from spend.models.ledger import (
    Day,
    EventKind,
    LabelDay,
    LabelQuarterHour,
    QuarterHour,
    Rollup,
    SetAside,
    SpendEvent,
    Verification,
)
from spend.models.prices import (
    RATE_DECIMALS,
    RATE_DIGITS,
    Model,
    PriceAdjustment,
    PriceRate,
    PriceVersion,
    Provider,
)
from spend.models.reratings import Rerating
from spend.models.unpriced import UnpricedModel

__all__ = [
    "RATE_DECIMALS",
    "RATE_DIGITS",
    "Day",
    "EventKind",
    "LabelDay",
    "LabelQuarterHour",
    "Model",
    "PriceAdjustment",
    "PriceRate",
    "PriceVersion",
    "Provider",
    "QuarterHour",
    "Rerating",
    "Rollup",
    "SetAside",
    "SpendEvent",
    "UnpricedModel",
    "Verification",
]
