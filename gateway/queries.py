"""Reads: what became of a request, and what a key may spend."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.db.models import Q

from budgets import model_lists, money, storekeeper
from budgets.figures import Figures, InForce, figures_of
from budgets.models import Account, AccountKind, ApiKey
from budgets.snapshots import KeySnapshot
from spend.models import EventKind, Rerating, SpendEvent

OWN_LEVELS: Final = (AccountKind.KEY, AccountKind.MEMBER, AccountKind.USER)
"""Of which a key is told everything; of its team and organization only what they leave it."""


def key_report(*, snapshot: KeySnapshot, at: datetime) -> dict[str, Any]:
    """
    Return what a key may do and spend: every budget on its path, nearest first.

    Providers, models' own budgets and deployments are the platform's, and are not told.
    """
    figures = figures_of([each.id for each in snapshot.path], at=at)
    key = ApiKey.objects.get(pk=snapshot.key_id)
    return {
        "object": "key",
        "key_alias": key.name or None,
        "key_name": f"{key.prefix}...",
        "organization_id": snapshot.organization_public_id,
        "team_id": snapshot.team_public_id or None,
        "user_id": snapshot.user_public_id or None,
        "expires_at": snapshot.expires_at and snapshot.expires_at.isoformat(),
        "allowed_models": _allowed_models(snapshot),
        "limits": [
            limit
            for account in snapshot.path
            for limit in _limits(AccountKind(account.kind), figures[account.id])
        ],
    }


def _allowed_models(snapshot: KeySnapshot) -> list[str] | None:
    """Return the models that every list on the path has; None: no list says anything."""
    return model_lists.common(snapshot.model_lists)


def _limits(level: AccountKind, figures: Figures) -> Iterator[dict[str, Any]]:
    tell = _whole if level in OWN_LEVELS else _left
    standings = [(None, each) for each in figures.budgets] + list(figures.models.items())
    for model, each in standings:
        if level in OWN_LEVELS or each.budget.max_budget is not None:
            yield {"level": level, "model": model, **tell(each)}
    if level == AccountKind.KEY and not figures.budgets:
        spent = {"spent": money.plain(figures.spend), "as_of": _text(figures.spend_as_of)}
        yield {"level": level, "model": None, "limit": None, "currency": figures.currency, **spent}


def _whole(each: InForce) -> dict[str, Any]:
    budget = each.budget
    return {
        **_left(each),
        "spent": money.plain(each.spend),
        "reserved": money.plain(each.reserved),
        "max_budget": _amount(budget.max_budget),
        "soft_limit": _amount(budget.soft_budget),
        "enforcement": budget.enforcement,
        "budget_id": budget.public_id,
        "rpm_limit": budget.rpm_limit,
        "tpm_limit": budget.tpm_limit,
        "max_parallel_requests": budget.max_parallel_requests,
    }


def _left(each: InForce) -> dict[str, Any]:
    return {
        "limit": _amount(each.limit),
        "increased_until": _text(each.increased_until),
        "remaining": _amount(each.remaining),
        "currency": each.currency,
        "budget_duration": each.budget.duration or None,
        "resets_at": _text(each.resets_at),
        "as_of": _text(each.as_of),
    }


def _amount(value: Decimal | None) -> str | None:
    return None if value is None else money.plain(value)


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def request_report(*, request_id: UUID, key_digest: str | None) -> dict[str, Any] | None:
    """
    Return what a request cost and on which accounts, or how far it has come.

    ``key_digest`` limits it to the requests of one key; None shows all. None is returned for what
    there is not, or may not be seen.
    """
    rows = SpendEvent.objects.filter(
        Q(id=request_id) | Q(attempt_of=request_id), kind=EventKind.USAGE
    )
    if key_digest is not None:
        rows = rows.filter(key_digest=key_digest)
    attempts = list(rows.order_by("admitted_at", "id"))
    if attempts:
        return _report(request_id, attempts)
    if key_digest is None and storekeeper.is_reserved(str(request_id)):
        return {"id": str(request_id), "object": "request", "state": "in_flight"}
    return None


def _adjusting(attempts: Sequence[SpendEvent]) -> list[SpendEvent]:
    rows = SpendEvent.objects.filter(
        request_id__in=[each.request_id for each in attempts],
        admitted_at__in=[each.admitted_at for each in attempts],
        kind=EventKind.ADJUSTMENT,
    )
    return list(rows.order_by("recorded_at", "id"))


def _report(request_id: UUID, attempts: Sequence[SpendEvent]) -> dict[str, Any]:
    """
    Return what the request costs by all its rows; whom it was served by is the last attempt's,
    lines and price are those of the last row that has some.
    """
    adjusting = _adjusting(attempts)
    row = attempts[-1]
    accounts = Account.objects.in_bulk(row.accounts)
    cost, currency = _cost([*attempts, *adjusting])
    rated = next((each for each in reversed(adjusting) if each.lines), row)
    return {
        "id": str(request_id),
        "object": "request",
        "state": "recorded",
        "model": row.model,
        "provider": row.provider,
        "upstream_model": row.upstream_model,
        "deployment": row.deployment,
        "admitted_at": attempts[0].admitted_at.isoformat(),
        "settled_at": row.settled_at.isoformat(),
        "status": row.status,
        "streamed": row.streamed,
        "cost": money.plain(cost),
        "cost_currency": currency,
        "amount": _amount_of([*attempts, *adjusting]),
        "saved": _saved_by(attempts),
        "currency": row.currency,
        "exchange_rate": money.plain(row.exchange_rate),
        "exchange_rate_date": row.exchange_rate_date and row.exchange_rate_date.isoformat(),
        "usage": row.usage,
        "lines": rated.lines,
        "flags": row.flags,
        "price": rated.price_reference,
        "attempts": [_attempt(each) for each in attempts],
        "adjustments": _adjustments(adjusting),
        "accounts": [
            {"id": str(id), "kind": accounts[id].kind, "label": accounts[id].label}
            for id in row.accounts
            if id in accounts
        ],
    }


def _attempt(row: SpendEvent) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "model": row.model,
        "deployment": row.deployment,
        "status": row.status,
        "amount": _amount_of([row]),
        "currency": row.currency,
        "flags": row.flags,
    }


def _cost(rows: Sequence[SpendEvent]) -> tuple[Decimal, str]:
    """
    Return what is charged in the price's currency.

    Where a re-rating has changed that currency, what was charged in the one before is taken back
    in it and adds up to 0.
    """
    sums: dict[str, Decimal] = {}
    for each in rows:
        known = sums.get(each.cost_currency, Decimal(0))
        sums[each.cost_currency] = money.EXACT.add(known, each.cost)
    charged = [(cost, currency) for currency, cost in sums.items() if cost]
    return charged[-1] if charged else (Decimal(0), rows[-1].cost_currency)


def _amount_of(rows: Sequence[SpendEvent]) -> str:
    units = sum(each.amount_units for each in rows)
    return money.plain(money.to_decimal(units, currency=rows[0].currency))


def _saved_by(rows: Sequence[SpendEvent]) -> str:
    """Return what an answer from the response cache would have cost; 0 where it is none."""
    units = sum(each.saved_units for each in rows)
    return money.plain(money.to_decimal(units, currency=rows[0].currency))


def _adjustments(rows: Sequence[SpendEvent]) -> list[dict[str, Any]]:
    """Return what re-ratings have added, and why; not who wanted it."""
    made_by = Rerating.objects.in_bulk({each.rerating_id for each in rows if each.rerating_id})
    return [
        {
            "amount": _amount_of([each]),
            "currency": each.currency,
            "recorded_at": each.recorded_at.isoformat(),
            "price": each.price_reference,
            "reason": made_by[each.rerating_id].reason if each.rerating_id in made_by else None,
        }
        for each in rows
    ]
