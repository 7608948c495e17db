"""Django admin of prices (written here) and of the ledger (read here)."""

from spend.admin import ledger, prices, reratings, unpriced

__all__ = ["ledger", "prices", "reratings", "unpriced"]
