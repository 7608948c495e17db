"""
Settles batches that have ended, each once, whoever looks and however often.

A look at a batch is one worker's at a time (an advisory lock, which dies with the worker). What
the batch has cost becomes an event that is written to its row before it is sent, and never changes
after: a worker that dies in between, or a live store that is lost, means that the same event is
sent again, under the id of the request that was admitted. Where a sweeper has charged that
request meanwhile, the ledger takes it back.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db import connection

from budgets import failpoints, money, storekeeper
from budgets.models import Partition
from budgets.money import Units
from budgets.storekeeper import PARTITION
from budgets.unconfirmed import Event
from gateway.batches import queries, reading, services, upstreams
from gateway.batches.lines import ROUTES
from gateway.batches.metering import BatchMeter
from gateway.batches.reading import Looked
from gateway.models import BatchState, GatewayBatch
from gateway.routes.answers import Answers
from spend import events, kept_prices, ledger
from spend.currencies.exchange import Rate
from spend.events import Described, Outcome

log = logging.getLogger(__name__)

LOOKS_MAX: Final = 200
"""Batches in one run; those that are left are due first in the next."""
GIVE_UP_DAYS: Final = 7
"""So long after a batch was created its looks may fail; then what it held is charged."""
_LOCK_NAMESPACE: Final = 0x62617463


def settle_due(*, now: datetime, at_most: int = LOOKS_MAX) -> int:
    """
    Look at the batches that are due, and settle those that have ended; return how many were
    looked at. Safe to run twice, late, and beside others: one whose look fails backs off.
    """
    services.give_up_creating(now=now)
    looked = 0
    for id in queries.due(now=now, at_most=at_most):
        with _locked(id) as is_ours:
            if is_ours:
                looked += _look_at(id, now)
    return looked


@contextmanager
def _locked(id: int) -> Iterator[bool]:
    """Try for a batch; a worker that dies lets go of it at once."""
    lock = [_LOCK_NAMESPACE, id % 2**31]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", lock)
        (held,) = cursor.fetchone()
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", lock)


def _look_at(id: int, now: datetime) -> bool:
    """Look at one batch, unless somebody else just has; return whether it was due still."""
    rows = GatewayBatch.objects.select_related("deployment__credential", "input_file")
    batch = rows.filter(pk=id, next_look_at__lte=now).first()
    if batch is None:
        return False
    try:
        if batch.state == BatchState.OPEN:
            _price(batch, now)
            batch.refresh_from_db()
        if batch.state == BatchState.PRICED:
            _send(batch, now)
    except Exception as error:  # this batch's own edge: it is told of, and stops no other
        log.exception("batch_not_settled", extra={"batch": batch.public_id})
        services.back_off(batch=batch, problem=_told(error), now=now)
    return True


def _price(batch: GatewayBatch, now: datetime) -> None:
    """Keep what a batch has cost, if it has ended, or if nobody will ever know."""
    meter = _meter(batch)
    try:
        looked = _looked(batch, meter)
    except Exception:
        if now < batch.created_at + timedelta(days=GIVE_UP_DAYS):
            raise
        log.exception("batch_given_up", extra={"batch": batch.public_id})
        looked = Looked({}, has_ended=True, is_gone=True)
    if looked.answer:
        services.note_told(batch=batch, answer=looked.answer)
    if not looked.has_ended:
        services.look_again(batch=batch, now=now)
        return
    failpoints.hit(failpoints.BATCH_READ)
    services.priced(batch=batch, event=_event(batch, _outcome(batch, meter, looked, now)))


def _looked(batch: GatewayBatch, meter: BatchMeter) -> Looked:
    if batch.deployment is None:
        return Looked({}, has_ended=True, is_gone=True)
    address = upstreams.address_of(batch.deployment)
    look = reading.look(upstream_id=batch.upstream_id, address=address, meter=meter)
    return asyncio.run(look)


def _meter(batch: GatewayBatch) -> BatchMeter:
    return BatchMeter(
        price=kept_prices.of_json(batch.price),
        ceiling=batch.ceiling,
        region=batch.region,
        answers=_answers(batch),
        bytes_in=_bytes_in(batch),
    )


def _answers(batch: GatewayBatch) -> Answers:
    route = ROUTES[batch.input_file.endpoint]
    if batch.deployment is None:
        return route.answers
    return upstreams.address_of(batch.deployment).serving.answers_of(route)


def _bytes_in(batch: GatewayBatch) -> int:
    """Return the bytes of one of its lines on average, rounded up."""
    return -(-(batch.input_file.bytes or 0) // max(batch.input_file.lines or 1, 1))


def _outcome(batch: GatewayBatch, meter: BatchMeter, looked: Looked, now: datetime) -> Outcome:
    flags = events.decode(batch.described.encode()).outcome.flags
    if looked.is_gone:
        told = {*flags, events.ESTIMATED, events.UPSTREAM_ERROR}
        return Outcome(
            status=200, cost=batch.held, usage={}, flags=tuple(sorted(told)), settled_at=now
        )
    if looked.answer.get("status") == "failed":
        flags = (*flags, events.UPSTREAM_ERROR)
    return meter.outcome(settled_at=now, flags=flags)


def _event(batch: GatewayBatch, outcome: Outcome) -> Event:
    """Return the spend event of a batch, its cost rounded once, half to even."""
    described = events.decode(batch.described.encode()).described
    try:
        amount = _units(outcome.cost, described)
    except money.AmountTooLarge:
        # Nonsense from the provider: what was held is charged.
        log.exception("cost_too_large", extra={"request_id": str(batch.request_id)})
        flags = {*outcome.flags, events.OVER_CEILING, events.USAGE_CLAMPED}
        outcome = replace(
            outcome, cost=batch.ceiling, usage={}, lines=(), flags=tuple(sorted(flags))
        )
        amount = _units(outcome.cost, described)
    return _of(batch, amount, events.encode(described, outcome))


def _units(cost: Decimal, described: Described) -> Units:
    rate = Rate(described.exchange_rate, described.exchange_rate_date)
    return money.to_units(rate.convert(cost), currency=described.currency)


def _of(batch: GatewayBatch, amount: int, payload: bytes) -> Event:
    return Event(
        id=str(batch.request_id),
        amount=Units(amount),
        admitted_ms=batch.admitted_ms,
        path=batch.path,
        payload=payload,
    )


def _send(batch: GatewayBatch, now: datetime) -> None:
    """Send a batch's event, again only where the live store that took it has been lost."""
    if ledger.true_rows([batch.request_id]):
        services.settled(batch=batch, now=now)
        return
    generation = Partition.objects.values_list("generation", flat=True).get(number=PARTITION)
    if batch.sent_generation == generation:
        services.look_again(batch=batch, now=now)
        return
    assert batch.amount_units is not None, "a constraint says so"
    event = _of(batch, batch.amount_units, batch.event.encode())
    failpoints.hit(failpoints.BEFORE_SETTLE)
    if not storekeeper.settle(event, generation=generation):
        raise reading.Unreadable("The live store's answer came too late.")
    failpoints.hit(failpoints.AFTER_SETTLE)
    services.sent(batch=batch, generation=generation, now=now)


def _told(error: Exception) -> str:
    """Return what stands in the row; what a provider has written does not."""
    return str(error) if isinstance(error, reading.Unreadable) else type(error).__name__
