"""Prices, what was spent at them, and what providers say of it."""

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
    PriceRate,
    PriceVersion,
    Provider,
)

__all__ = [
    "RATE_DECIMALS",
    "RATE_DIGITS",
    "Day",
    "EventKind",
    "InvoiceImport",
    "InvoiceLine",
    "InvoiceState",
    "LabelDay",
    "LabelQuarterHour",
    "Model",
    "PriceRate",
    "PriceVersion",
    "Provider",
    "ProviderKey",
    "QuarterHour",
    "Rollup",
    "SetAside",
    "SpendEvent",
    "Verification",
]
