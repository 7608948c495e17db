"""Django admin of prices and invoices (written here) and of the ledger (read here)."""

from spend.admin import (
    adjustments,
    exchange_rates,
    invoices,
    ledger,
    models,
    prices,
    proposals,
    reratings,
    unpriced,
)

__all__ = [
    "adjustments", "exchange_rates", "invoices", "ledger", "models", "prices", "proposals",
    "reratings", "unpriced",
]  # fmt: skip
