"""Django admin: an interface that translates, and writes only through services."""

from budgets.admin import (
    accounts,
    budgets,
    closings,
    increases,
    keys,
    labels,
    refusals,
    system,
    tenancy,
    users,
)

__all__ = [
    "accounts",
    "budgets",
    "closings",
    "increases",
    "keys",
    "labels",
    "refusals",
    "system",
    "tenancy",
    "users",
]
