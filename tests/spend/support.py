"""What the tests of ledger and recorder share: entries of the stream, and what became of them."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from django.db import transaction

from budgets import totals
from budgets.contexts import Context
from budgets.money import Units
from budgets.storekeeper import Entry
from spend import ledger, recorder
from spend.events import Outcome
from spend.models import Day, LabelDay, LabelQuarterHour, QuarterHour, Rollup, SpendEvent
from tests.budgets.support import partition, payload_of

ROLLUPS: Final[Sequence[type[Rollup]]] = (QuarterHour, Day, LabelQuarterHour, LabelDay)


def now() -> datetime:
    return datetime.now(UTC)


def priced(cost: int, *, status: int = 200, **fields: Any) -> Outcome:
    """Return an outcome that costs so many units of a dollar."""
    return Outcome(status=status, cost=Decimal(cost).scaleb(-9), usage={}, **fields)


def rows_of(id: str) -> list[tuple[str, int]]:
    """Return (kind, amount) of the ledger's rows of a request."""
    rows = SpendEvent.objects.filter(request_id=id).order_by("recorded_at", "kind")
    return list(rows.values_list("kind", "amount_units"))


def row_of(id: str) -> SpendEvent:
    return SpendEvent.objects.get(id=id)


def rolled_up(account: uuid.UUID) -> dict[str, tuple[int, int]]:
    """Return (amount, events) of an account by roll-up, where there is any."""
    sums = {}
    for model in ROLLUPS:
        rows = model._default_manager.filter(account_id=account)
        if rows:
            sums[model.__name__] = (
                sum(row.amount_units for row in rows), sum(row.events for row in rows)
            )  # fmt: skip
    return sums


@contextmanager
def crash_before_telling_the_store() -> Iterator[None]:
    """Ledger, totals and position are committed; the recorder ends there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recorder, "tell_store", lambda partition: None)
        yield


def record_once(*, count: int = 1_000) -> recorder.Recorded | None:
    return recorder.record_next(partition=partition(), now=now(), count=count)


def entry(of: Context, amount: int, *, at: datetime, id: str = "", kind: str = "usage") -> Entry:
    """Return an entry as if it had been read from the stream."""
    return Entry(
        position="1-0",
        id=id or str(uuid.uuid4()),
        amount=Units(amount),
        admitted_at=at,
        path=tuple(each.id for each in of.path),
        kind=kind,
        payload=payload_of(of),
    )


def apply(*entries: Entry) -> int:
    """Bring entries to the ledger as the recorder does, without a stream; return the new rows."""
    ledger.make_partitions({each.admitted_at.date() for each in entries})
    with transaction.atomic():
        revision = totals.lock_partition().revision
        return recorder.apply(entries, now=now(), revision=revision)
