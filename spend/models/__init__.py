"""Prices, and what was spent at them."""

from spend.models.currencies import ExchangeRate, RateFetch, RateState
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
    PriceRate,
    PriceVersion,
    Provider,
)

__all__ = [
    "RATE_DECIMALS",
    "RATE_DIGITS",
    "Day",
    "EventKind",
    "ExchangeRate",
    "LabelDay",
    "LabelQuarterHour",
    "Model",
    "PriceRate",
    "PriceVersion",
    "Provider",
    "QuarterHour",
    "RateFetch",
    "RateState",
    "Rollup",
    "SetAside",
    "SpendEvent",
    "Verification",
]
