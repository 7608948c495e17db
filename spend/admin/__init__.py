"""Django admin of prices (written here) and of the ledger (read here)."""

from spend.admin import adjustments, ledger, models, prices

__all__ = ["adjustments", "ledger", "models", "prices"]
