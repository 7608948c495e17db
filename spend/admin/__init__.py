"""Django admin of prices and invoices (written here) and of the ledger (read here)."""

from spend.admin import exchange_rates, invoices, ledger, prices, proposals

__all__ = ["exchange_rates", "invoices", "ledger", "prices", "proposals"]
