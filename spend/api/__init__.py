"""Endpoints of the management API that are about prices and spend: a file a subject."""

from spend.api.logs import SpendDay, SpendLog, SpendLogs

__all__ = ["SpendDay", "SpendLog", "SpendLogs"]
