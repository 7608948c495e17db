"""Reads: models that a key may call, and what became of a request."""

from typing import Any
from uuid import UUID

from budgets import money, storekeeper
from budgets.models import Account
from spend.models import EventKind, SpendEvent


def request_report(*, request_id: UUID, key_digest: str | None) -> dict[str, Any] | None:
    """
    Return what a request cost and on which accounts, or how far it has come.

    ``key_digest`` limits it to the requests of one key; None shows all. None is returned for what
    there is not, or may not be seen.
    """
    rows = SpendEvent.objects.filter(id=request_id, kind=EventKind.USAGE)
    if key_digest is not None:
        rows = rows.filter(key_digest=key_digest)
    row = rows.first()
    if row is not None:
        return _report(row)
    if key_digest is None and storekeeper.is_reserved(str(request_id)):
        return {"id": str(request_id), "object": "request", "state": "in_flight"}
    return None


def _report(row: SpendEvent) -> dict[str, Any]:
    accounts = Account.objects.in_bulk(row.accounts)
    amount = money.to_decimal(row.amount_units, currency=row.currency)
    return {
        "id": str(row.request_id),
        "object": "request",
        "state": "recorded",
        "model": row.model,
        "provider": row.provider,
        "upstream_model": row.upstream_model,
        "deployment": row.deployment,
        "admitted_at": row.admitted_at.isoformat(),
        "settled_at": row.settled_at.isoformat(),
        "status": row.status,
        "streamed": row.streamed,
        "cost": money.plain(row.cost),
        "cost_currency": row.cost_currency,
        "amount": money.plain(amount),
        "currency": row.currency,
        "usage": row.usage,
        "lines": row.lines,
        "flags": row.flags,
        "price": row.price_reference,
        "accounts": [
            {"id": str(id), "kind": accounts[id].kind, "label": accounts[id].label}
            for id in row.accounts
            if id in accounts
        ],
    }
