"""Writes: the rows of files and batches, each state only from the one before it."""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction

from budgets import money
from budgets.snapshots import KeySnapshot
from budgets.unconfirmed import Event
from gateway.admission import Admitted
from gateway.batches.lines import Checked
from gateway.models import (
    DUE_STATES,
    BatchState,
    Deployment,
    GatewayBatch,
    GatewayFile,
    Purpose,
)
from spend import events, kept_prices
from spend.events import Outcome

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60
"""How often an open batch is looked at."""
BACK_OFF_SECONDS_MAX: Final = 3_600
CREATING_SECONDS_MAX: Final = 3_600
FILENAME_MAX: Final = 255
PROBLEM_MAX: Final = 255
STATUS_MAX: Final = 32
COST_DECIMALS: Final = 18
_OUTPUTS: Final = {"output_file_id": "output", "error_file_id": "errors"}


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What a provider has taken."""

    upstream_id: str
    filename: str
    size: int


def new_id(kind: str) -> str:
    return f"{kind}{uuid.uuid4().hex}"


def keep_file(
    *,
    uploaded: Uploaded,
    checked: Checked,
    deployment: Deployment,
    snapshot: KeySnapshot,
    now: datetime,
) -> GatewayFile:
    """Keep what is needed to make a batch of a file that its provider has."""
    return GatewayFile.objects.create(
        public_id=new_id("file-"),
        **_owner(snapshot),
        deployment=deployment,
        upstream_id=uploaded.upstream_id,
        purpose=Purpose.BATCH,
        filename=uploaded.filename[:FILENAME_MAX],
        bytes=uploaded.size,
        model=checked.model,
        endpoint=checked.route.path,
        lines=checked.together.requests,
        together=asdict(checked.together),
        end_user=checked.end_user,
        tags=list(checked.tags),
        created_at=now,
    )


def delete_file(*, file: GatewayFile, now: datetime) -> None:
    """Note that its provider has it no more; the row stays."""
    GatewayFile.objects.filter(pk=file.pk, deleted_at=None).update(deleted_at=now)


def begin_batch(
    *, admitted: Admitted, file: GatewayFile, snapshot: KeySnapshot, now: datetime
) -> GatewayBatch:
    """Keep all that is needed to settle a batch, before its provider is asked for it."""
    offer = admitted.offer
    flags = (*offer.flags, events.UNCHECKED) if admitted.unasked else offer.flags
    nothing = Outcome(status=0, cost=Decimal(0), usage={}, flags=flags)
    return GatewayBatch.objects.create(
        public_id=new_id("batch_"),
        **_owner(snapshot),
        deployment_id=file.deployment_id,
        input_file=file,
        request_id=UUID(admitted.id),
        admitted_ms=admitted.admission.admitted_ms,
        path=admitted.context.path_text,
        price=kept_prices.as_json(offer.price),
        described=admitted.event(nothing).payload.decode(),
        held=_rounded(admitted.held),
        ceiling=_rounded(offer.ceiling),
        region=offer.target.region,
        next_look_at=now,
        created_at=now,
    )


def opened(*, batch: GatewayBatch, answer: Mapping[str, Any], upstream_id: str) -> dict[str, Any]:
    """Keep the provider's id of a batch that it has taken; return what callers are told."""
    told = tell(batch, answer)
    GatewayBatch.objects.filter(pk=batch.pk, state=BatchState.CREATING).update(
        state=BatchState.OPEN, upstream_id=upstream_id, told=told, status=_status(answer)
    )
    return told


def not_opened(*, batch: GatewayBatch, state: BatchState, problem: str) -> None:
    """Note that there is no batch at the provider, or that nobody knows."""
    GatewayBatch.objects.filter(pk=batch.pk, state=BatchState.CREATING).update(
        state=state, problem=problem[:PROBLEM_MAX]
    )


def note_told(*, batch: GatewayBatch, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what the provider says of a batch now; return it as callers are told."""
    told = tell(batch, answer)
    GatewayBatch.objects.filter(pk=batch.pk).update(told=told, status=_status(answer))
    return told


def look_soon(*, batch: GatewayBatch, now: datetime) -> None:
    """Have a batch that has ended settled at the next look, unless its looks fail."""
    waiting = GatewayBatch.objects.filter(pk=batch.pk, state=BatchState.OPEN, failures=0)
    waiting.filter(next_look_at__gt=now).update(next_look_at=now)


def look_again(*, batch: GatewayBatch, now: datetime) -> None:
    GatewayBatch.objects.filter(pk=batch.pk).update(
        next_look_at=now + timedelta(seconds=LOOK_SECONDS), failures=0, problem=""
    )


def back_off(*, batch: GatewayBatch, problem: str, now: datetime) -> None:
    """Look at a batch again, each time after twice as long as the time before."""
    seconds = min(LOOK_SECONDS * 2 ** min(batch.failures, 10), BACK_OFF_SECONDS_MAX)
    GatewayBatch.objects.filter(pk=batch.pk, state__in=DUE_STATES).update(
        next_look_at=now + timedelta(seconds=seconds),
        failures=batch.failures + 1,
        problem=problem[:PROBLEM_MAX],
    )


def priced(*, batch: GatewayBatch, event: Event) -> bool:
    """Keep the event by which a batch is settled, once; return False if it has one."""
    changed = GatewayBatch.objects.filter(pk=batch.pk, state=BatchState.OPEN).update(
        state=BatchState.PRICED, amount_units=event.amount, event=event.payload.decode(),
        failures=0, problem="",
    )  # fmt: skip
    return bool(changed)


def sent(*, batch: GatewayBatch, generation: int, now: datetime) -> None:
    """Note that the live store of this generation has taken a batch's event."""
    GatewayBatch.objects.filter(pk=batch.pk).update(
        sent_generation=generation, next_look_at=now + timedelta(seconds=LOOK_SECONDS)
    )


def settled(*, batch: GatewayBatch, now: datetime) -> None:
    """Note that the ledger has a batch's row."""
    GatewayBatch.objects.filter(pk=batch.pk, state=BatchState.PRICED).update(
        state=BatchState.SETTLED, settled_at=now
    )


def give_up_creating(*, now: datetime) -> None:
    """Say of batches whose process died while it asked for them that nobody knows of them."""
    GatewayBatch.objects.filter(
        state=BatchState.CREATING, created_at__lt=now - timedelta(seconds=CREATING_SECONDS_MAX)
    ).update(state=BatchState.UNKNOWN, problem="The process that asked for it is gone.")


def tell(batch: GatewayBatch, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a provider says of a batch with our ids in place of its own."""
    told = dict(answer)
    told |= {"id": batch.public_id, "object": "batch", "input_file_id": batch.input_file.public_id}
    for name, kind in _OUTPUTS.items():
        given = answer.get(name)
        told[name] = _output(batch, given, kind) if isinstance(given, str) and given else None
    if "model" in told:
        told["model"] = batch.input_file.model
    return told


def _output(batch: GatewayBatch, upstream_id: str, kind: str) -> str | None:
    """Return our id of a file that a batch has written; a file of anybody else it cannot name."""
    found = GatewayFile.objects.filter(deployment=batch.deployment, upstream_id=upstream_id)
    file = found.first() or _make_output(batch, upstream_id, kind) or found.first()
    if file is None or file.batch_id != batch.pk:
        log.error("batch_names_a_foreign_file", extra={"batch": batch.public_id})
        return None
    return file.public_id


def _make_output(batch: GatewayBatch, upstream_id: str, kind: str) -> GatewayFile | None:
    """Return the new row, None if another process was quicker."""
    try:
        with transaction.atomic():
            return GatewayFile.objects.create(
                public_id=new_id("file-"),
                organization_id=batch.organization_id,
                key_id=batch.key_id,
                team=batch.team,
                deployment=batch.deployment,
                upstream_id=upstream_id,
                purpose=Purpose.BATCH_OUTPUT,
                filename=f"{batch.public_id}_{kind}.jsonl",
                model=batch.input_file.model,
                endpoint=batch.input_file.endpoint,
                batch=batch,
                created_at=batch.created_at,
            )
    except IntegrityError:
        return None


def _owner(snapshot: KeySnapshot) -> dict[str, Any]:
    return {
        "organization_id": snapshot.organization_id,
        "key_id": snapshot.key_id,
        "team": snapshot.team_public_id,
    }


def _status(answer: Mapping[str, Any]) -> str:
    status = answer.get("status")
    return status[:STATUS_MAX] if isinstance(status, str) else ""


def _rounded(cost: Decimal) -> Decimal:
    """Return a cost as the ledger keeps it."""
    return money.WIDE.quantize(cost, Decimal(1).scaleb(-COST_DECIMALS))
