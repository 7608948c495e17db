"""Django admin of prices (written here) and of the ledger (read here)."""

from spend.admin import exchange_rates, ledger, prices

__all__ = ["exchange_rates", "ledger", "prices"]
