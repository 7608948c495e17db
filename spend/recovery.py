"""
Opens the live store: at the first start, and after it was restarted, emptied, rolled back or
replaced. Postgres keeps a generation and the server's ``run_id``; any difference means lost.

Recovery, under the partition's lock, each step repeatable: close the store and count the
generation up; bring the old stream to the ledger; drop everything but reservations that the
ledger lacks; let every live gateway process hand in what it holds (``LiveStore.join``); open when
all have. A loss meanwhile starts again at the first step.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import DataError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from budgets import storekeeper
from budgets.models import Member, Partition, Reload
from budgets.storekeeper import PARTITION, Entry, Unreadable
from spend import ledger, recorder

log = logging.getLogger(__name__)

DRAIN_EVENTS: Final = 1_000
JUDGE_SECONDS: Final = 1.0
JUDGE_GAP_SECONDS: Final = 3.0
"""Who has not asked Postgres for so long may have missed that members could not renew."""

Alive = Callable[[], Collection[UUID]]


class MembersJoining(Exception):
    """Gateway processes are alive that have not yet handed in what they hold."""


class Evicting(Exception):
    """The live store is set to drop keys when it is full; it must be ``noeviction``."""


class Judge:
    """
    Tells which gateway processes are alive.

    Nobody is taken for dead before this has watched without a gap for as long as a membership
    lasts: while Postgres is away no process can renew. That it watches stands in the live store,
    so that processes which cannot renew know whether they are being judged.
    """

    def __init__(self) -> None:
        self._since = self._seen = time.monotonic()
        storekeeper.note_judge()

    def beat(self) -> None:
        """Say, once a second, that Postgres answers and members are watched."""
        if time.monotonic() - self._seen < JUDGE_SECONDS:
            return
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        now = time.monotonic()
        if now - self._seen > JUDGE_GAP_SECONDS:
            self._since = now
        self._seen = now
        if not storekeeper.note_judge():
            # Members that cannot renew do not hear that they are watched.
            self._since = now

    def alive(self) -> list[UUID]:
        if time.monotonic() - self._since < settings.GATEWAY_MEMBER_SECONDS:
            return list(Member.objects.values_list("id", flat=True))
        return alive_members()


def alive_members() -> list[UUID]:
    """Return the gateway processes that renewed in time, by the database's clock."""
    since = Now() - timedelta(seconds=settings.GATEWAY_MEMBER_SECONDS)
    return list(Member.objects.filter(renewed_at__gt=since).values_list("id", flat=True))


def ensure_open(*, now: datetime, alive: Alive = alive_members) -> Partition:
    """
    Return the partition with its store open, beginning a new generation where need be.

    :raises MembersJoining: if the store was lost and processes have not handed in all yet
    :raises Evicting: if the store may evict keys
    :raises Closed: if the store was restarted, or begun by another recorder, meanwhile
    """
    partition, _ = Partition.objects.get_or_create(number=PARTITION)
    if storekeeper.is_open(partition):
        return partition
    if not storekeeper.is_known(partition):
        partition = _begin_generation(now=now)
    missing = Member.objects.filter(id__in=alive(), generation__lt=partition.generation)
    if names := list(missing.values_list("name", flat=True)):
        raise MembersJoining(", ".join(names))
    Partition.objects.filter(number=PARTITION).update(is_open=True)
    storekeeper.open_store()
    log.info("store_opened", extra={"generation": partition.generation})
    partition.is_open = True
    return partition


def _begin_generation(*, now: datetime) -> Partition:
    policy = storekeeper.evicts()
    if policy not in {"", "noeviction"}:
        raise Evicting(f"maxmemory-policy is {policy}; set it to noeviction")
    run = storekeeper.run_id()
    Partition.objects.filter(number=PARTITION).update(
        generation=F("generation") + 1, run_id="", is_open=False
    )
    storekeeper.close_store(generation=Partition.objects.get(number=PARTITION).generation)
    drained = _drain(now=now)
    open_ids = [UUID(id) for id in storekeeper.open_reservations()]
    recorded = ledger.recorded_requests(open_ids)
    storekeeper.forget_what_is_recorded(str(id) for id in recorded)
    if storekeeper.run_id() != run:
        raise storekeeper.Closed  # restarted meanwhile: it may have again what was dropped
    with transaction.atomic():
        Reload.objects.all().delete()
        Partition.objects.filter(number=PARTITION).update(
            run_id=run, position="0-0", revision=F("revision") + 1
        )
    partition = Partition.objects.get(number=PARTITION)
    storekeeper.begin_store(generation=partition.generation, of_run=run)
    log.warning("store_begun", extra={"generation": partition.generation, "drained": drained})
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
