"""Django admin of prices (written here) and of the ledger (read here)."""

from spend.admin import ledger, prices, proposals

__all__ = ["ledger", "prices", "proposals"]
