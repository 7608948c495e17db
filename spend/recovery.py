"""
Opens the live store: at the first start, and after it was restarted or lost.

While no gateway process is alive nobody holds an event that the stream lacks, so the store can be
rebuilt from the ledger. Each step can be repeated; a crash in between starts again at the first.
Recovery beside live gateways comes with Enforcement: until then the store stays closed.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import DataError, transaction
from django.db.models import F
from django.db.models.functions import Now

from budgets import storekeeper
from budgets.models import Member, Partition, Reload
from budgets.storekeeper import PARTITION, Entry, Unreadable
from spend import ledger, recorder

log = logging.getLogger(__name__)

DRAIN_EVENTS = 1_000


class MembersAlive(Exception):
    """Gateway processes are alive and may hold events that the store has lost."""


class Evicting(Exception):
    """The live store is set to drop keys when it is full; it must be ``noeviction``."""


def ensure_open(*, now: datetime) -> Partition:
    """
    Return the partition with its store open, opening a new generation where need be.

    :raises MembersAlive: if the store is lost while gateway processes run
    :raises Evicting: if the store may evict keys
    """
    partition, _ = Partition.objects.get_or_create(number=PARTITION)
    if storekeeper.is_open(partition):
        return partition
    policy = storekeeper.evicts()
    if policy not in {"", "noeviction"}:
        raise Evicting(f"maxmemory-policy is {policy}; set it to noeviction")
    if alive_members():
        raise MembersAlive
    return _open_generation(now=now)


def alive_members() -> list[UUID]:
    """Return the gateway processes that renewed in time, by the database's clock."""
    since = Now() - timedelta(seconds=settings.GATEWAY_MEMBER_SECONDS)
    return list(Member.objects.filter(renewed_at__gt=since).values_list("id", flat=True))


def _open_generation(*, now: datetime) -> Partition:
    storekeeper.close_store()
    Partition.objects.filter(number=PARTITION).update(generation=F("generation") + 1, run_id="")
    drained = _drain(now=now)
    open_ids = [UUID(id) for id in storekeeper.open_reservations()]
    recorded = ledger.recorded_requests(open_ids)
    storekeeper.forget_what_is_recorded(str(id) for id in recorded)
    run = storekeeper.run_id()
    with transaction.atomic():
        Reload.objects.all().delete()
        Partition.objects.filter(number=PARTITION).update(
            run_id=run, position="0-0", revision=F("revision") + 1
        )
    partition = Partition.objects.get(number=PARTITION)
    storekeeper.open_store(generation=partition.generation, of_run=run)
    log.info("store_opened", extra={"generation": partition.generation, "drained": drained})
    return partition


def _drain(*, now: datetime) -> int:
    """Bring the whole old stream to the ledger, whatever the position says; return the new rows."""
    position, rows = "0-0", 0
    while entries := storekeeper.read_stream(after=position, count=DRAIN_EVENTS):
        recorder.make_partitions(entries)
        try:
            rows += _apply(entries, now, each_apart=False)
        except DataError:
            rows += _apply(entries, now, each_apart=True)
        position = entries[-1].position
    return rows


def _apply(entries: Sequence[Entry | Unreadable], now: datetime, *, each_apart: bool) -> int:
    with transaction.atomic():
        return recorder.apply(entries, now=now, revision=_locked_revision(), each_apart=each_apart)


def _locked_revision() -> int:
    return Partition.objects.select_for_update().get(number=PARTITION).revision
