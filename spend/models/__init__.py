"""Prices, what was spent at them, and what providers say of it."""

from spend.models.currencies import ExchangeRate, RateFetch, RateState
from spend.models.invoices import InvoiceImport, InvoiceLine, InvoiceState, ProviderKey
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
from spend.models.reratings import Rerating
from spend.models.unpriced import UnpricedModel

__all__ = [
    "RATE_DECIMALS",
    "RATE_DIGITS",
    "Day",
    "EventKind",
    "ExchangeRate",
    "InvoiceImport",
    "InvoiceLine",
    "InvoiceState",
    "LabelDay",
    "LabelQuarterHour",
    "Model",
    "PriceAdjustment",
    "PriceProposal",
    "PriceRate",
    "PriceVersion",
    "ProposalState",
    "Provider",
    "ProviderKey",
    "QuarterHour",
    "RateFetch",
    "RateState",
    "Rerating",
    "Rollup",
    "SetAside",
    "SpendEvent",
    "UnpricedModel",
    "Verification",
]
