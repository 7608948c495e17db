"""
The recorder: moves spend events from the live store's stream to the ledger, each exactly once.

One transaction a batch: ledger, roll-ups, totals, position and the list of counters to reload.
Then the store is told (mirror, reloads) and trimmed. A second recorder that reads the same batch
loses the race for the position and rolls back.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from django.db import DataError, transaction
from django.db.models import F

from budgets import failpoints, in_force, storekeeper, totals
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import (
    PLATFORM,
    Account,
    AccountKind,
    EndUser,
    Organization,
    Partition,
    Reload,
    Tag,
    derived_account_id,
)
from budgets.periods import Period
from budgets.services import closing
from budgets.storekeeper import PARTITION, Entry, Unreadable
from spend import events, ledger, metrics
from spend.ledger import Recording
from spend.models import SetAside
from spend.services import unpriced

log = logging.getLogger(__name__)


class LostRace(Exception):
    """Another recorder has moved the position; what this one read is no longer the next batch."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one batch did."""

    rows: int
    position: str
    revision: int


def record_next(*, partition: Partition, now: datetime, count: int) -> Recorded | None:
    """
    Record the next batch of at most ``count`` events; return None if the stream has none.

    :raises LostRace: if another recorder was quicker
    :raises Closed: if the store is of another generation
    """
    entries = storekeeper.read_stream(after=partition.position, count=count)
    if not entries:
        return None
    try:
        rows, revision = _record(partition, entries, now, each_apart=False)
    except DataError:
        # One of them cannot be written; find it, so that it stops no other.
        rows, revision = _record(partition, entries, now, each_apart=True)
    metrics.batch_recorded(rows=rows)
    partition.position, partition.revision = entries[-1].position, revision
    tell_store(partition)
    return Recorded(rows=rows, position=partition.position, revision=revision)


def _record(
    partition: Partition, entries: Sequence[Entry | Unreadable], now: datetime, *, each_apart: bool
) -> tuple[int, int]:
    make_partitions(entries)
    with transaction.atomic():
        revision = _advance(partition, to=entries[-1].position)
        rows = apply(entries, now=now, revision=revision, each_apart=each_apart)
        failpoints.hit(failpoints.RECORDER_BEFORE_COMMIT)
    failpoints.hit(failpoints.RECORDER_AFTER_COMMIT)
    return rows, revision


def apply(
    entries: Sequence[Entry | Unreadable], *, now: datetime, revision: int, each_apart: bool = False
) -> int:
    """
    Bring ledger, roll-ups and totals up to these entries; return how many rows are new.

    What cannot be read is set aside. With ``each_apart`` what Postgres refuses is too, and
    counts by its amount alone.
    """
    recordings = [_recording(entry) for entry in entries if isinstance(entry, Entry)]
    if each_apart:
        recordings = [_storable(recording, now) for recording in recordings]
    _set_aside([entry for entry in entries if isinstance(entry, Unreadable)])
    _make_labels(recordings)
    _know_accounts(recordings)
    appended = ledger.append(recordings, now=now)
    ledger.roll_up()
    ledger.add_to_totals()
    unpriced.add_served()
    totals.make_missing(wanted=_periods(recordings))
    totals.list_reloads(appended.accounts_to_reload, revision=revision)
    return len(appended.new_ids)


def tell_store(partition: Partition) -> None:
    """
    Mirror position and revision, then drop the counters that are listed for it.

    :raises Closed: if the store is of another generation
    """
    due = totals.reloads_due()
    failpoints.hit(failpoints.RECORDER_BEFORE_TRIM)
    storekeeper.mirror(
        generation=partition.generation,
        position=partition.position,
        revision=None if due else partition.revision,
    )
    if not due:
        return
    storekeeper.reload(
        generation=partition.generation,
        revision=max(each.revision for each in due),
        accounts=[each.account_id for each in due],
    )
    for each in due:
        Reload.objects.filter(account_id=each.account_id, revision=each.revision).delete()


def make_partitions(entries: Iterable[Entry | Unreadable]) -> None:
    """Make the ledger's partitions for these entries where they are missing."""
    readable = [entry for entry in entries if isinstance(entry, Entry)]
    ledger.make_partitions(entry.admitted_at.astimezone(UTC).date() for entry in readable)


def _advance(partition: Partition, *, to: str) -> int:
    moved = Partition.objects.filter(
        number=PARTITION, generation=partition.generation, position=partition.position
    ).update(position=to, revision=F("revision") + 1)
    if not moved:
        raise LostRace
    return Partition.objects.values_list("revision", flat=True).get(number=PARTITION)


def _recording(entry: Entry) -> Recording:
    try:
        payload = events.decode(entry.payload)
    except ValueError:
        # The amount still counts: what describes the request is lost, not the money.
        log.exception("event_damaged", extra={"request_id": entry.id})
        payload = _damaged(entry)
    return Recording(entry=entry, payload=payload, request_id=UUID(entry.id))


def _storable(recording: Recording, now: datetime) -> Recording:
    """Return the recording, or what Postgres takes of it: its amount, time and accounts."""
    if ledger.takes(recording, now=now):
        return recording
    entry = recording.entry
    log.error("event_refused_by_postgres", extra={"request_id": entry.id})
    fields = {"id": entry.id, "event": entry.payload.decode(errors="replace")}
    _set_aside([Unreadable(entry.position, fields)])
    return replace(recording, payload=_damaged(entry))


def _set_aside(unreadable: Sequence[Unreadable]) -> None:
    """
    Keep what cannot be recorded where a person sees it, once. Nobody knows what it cost: the
    accounts that it names are closed, or they would spend as if it had cost nothing.
    """
    for each in unreadable:
        because = f"an event of unknown amount was set aside ({each.position})"
        closing.close_accounts(ids=each.all_accounts, because=because)
        log.error("event_set_aside", extra={"position": each.position})
        SetAside.objects.get_or_create(
            position=each.position,
            defaults={"fields": each.fields, "problem": "is no spend event that can be stored"},
        )


def _damaged(entry: Entry) -> events.Payload:
    organization = Organization.objects.filter(account__in=entry.path).first()
    return events.Payload(
        events.Described(
            organization_id=organization.pk if organization else 0,
            currency=organization.currency if organization else "XXX",
            key_digest="", team="", user="", end_user="", tags=(), route="", model="",
            provider="", upstream_model="", deployment="", price_reference="",
            cost_currency="XXX", streamed=False, reserved_units=0,
        ),
        events.Outcome(status=0, cost=Decimal(0), usage={}, flags=(events.DAMAGED,)),
    )  # fmt: skip


def _make_labels(recordings: Sequence[Recording]) -> None:
    """Make the rows of end users and tags that have spent for the first time."""
    users = {
        (r.payload.described.organization_id, r.payload.described.end_user) for r in recordings
    }
    tags = {
        (r.payload.described.organization_id, t)
        for r in recordings
        for t in r.payload.described.tags
    }
    _make_kind(AccountKind.END_USER, {(org, text) for org, text in users if text})
    _make_kind(AccountKind.TAG, tags)
    _make_platform(recordings)


def _make_kind(kind: AccountKind, wanted: set[tuple[int, str]]) -> None:
    ids = {
        derived_account_id(organization_id=org, kind=kind, text=text): (org, text)
        for org, text in sorted(wanted)
    }
    holder = EndUser if kind == AccountKind.END_USER else Tag
    for known in holder.objects.filter(account__in=ids).values_list("account_id", flat=True):
        del ids[known]
    if not ids:
        return
    Account.objects.bulk_create(
        [
            Account(id=id, organization_id=org, kind=kind, label=text[:NAME_LENGTH_MAX])
            for id, (org, text) in ids.items()
        ],
        ignore_conflicts=True,
    )
    if kind == AccountKind.END_USER:
        EndUser.objects.bulk_create(
            [
                EndUser(organization_id=org, external_id=text, account_id=id)
                for id, (org, text) in ids.items()
            ],
            ignore_conflicts=True,
        )
    else:
        Tag.objects.bulk_create(
            [Tag(organization_id=org, name=text, account_id=id) for id, (org, text) in ids.items()],
            ignore_conflicts=True,
        )


def _make_platform(recordings: Sequence[Recording]) -> None:
    """Make the accounts of models, providers and deployments that have spent for the first time."""
    on_paths = {id for recording in recordings for id in recording.entry.path}
    wanted: dict[UUID, tuple[AccountKind, str]] = {}
    for recording in recordings:
        told = recording.payload.described
        deployment = f"{told.model} → {told.provider}/{told.upstream_model}"
        for kind, text, label in (
            (AccountKind.MODEL, told.model, told.model),
            (AccountKind.PROVIDER, told.provider, told.provider),
            (AccountKind.DEPLOYMENT, told.deployment, deployment),
        ):
            id = derived_account_id(organization_id=PLATFORM, kind=kind, text=text)
            if id in on_paths:
                wanted[id] = (kind, label)
    known = set(Account.objects.filter(id__in=wanted).values_list("id", flat=True))
    Account.objects.bulk_create(
        [
            Account(id=id, kind=kind, label=label[:NAME_LENGTH_MAX])
            for id, (kind, label) in sorted(wanted.items())
            if id not in known
        ],
        ignore_conflicts=True,
    )


def _know_accounts(recordings: Sequence[Recording]) -> None:
    """An account that was deleted while a request of it ran is made again: its money counts."""
    wanted = {account for r in recordings for account in r.entry.path}
    known = set(Account.objects.filter(id__in=wanted).values_list("id", flat=True))
    if missing := wanted - known:
        log.error("accounts_missing", extra={"accounts": sorted(map(str, missing))})
        Account.objects.bulk_create(
            [Account(id=id, kind=AccountKind.TAG, label="(deleted)") for id in missing],
            ignore_conflicts=True,
        )


def _periods(recordings: Sequence[Recording]) -> set[tuple[UUID, Period]]:
    """Return (account, period) of all budgets in force that an event of the batch counts in."""
    accounts = {account for r in recordings for account in r.entry.all_accounts}
    budgets = in_force.budgets_on(accounts)
    return {
        (account, period)
        for recording in recordings
        for account in recording.entry.all_accounts
        if account in budgets or account in recording.entry.path
        for period in totals.periods_of(budgets.get(account, ()), at=recording.entry.admitted_at)
    }
