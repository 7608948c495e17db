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
from spend.models.proposals import PriceProposal, ProposalState

__all__ = [
    "RATE_DECIMALS",
    "RATE_DIGITS",
    "Day",
    "EventKind",
    "LabelDay",
    "LabelQuarterHour",
    "Model",
    "PriceAdjustment",
    "PriceProposal",
    "PriceRate",
    "PriceVersion",
    "ProposalState",
    "Provider",
    "QuarterHour",
    "Rollup",
    "SetAside",
    "SpendEvent",
    "Verification",
]
