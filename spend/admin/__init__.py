"""Django admin of prices and invoices (written here) and of the ledger (read here)."""

from spend.admin import invoices, ledger, prices

__all__ = ["invoices", "ledger", "prices"]
