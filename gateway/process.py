"""What a gateway process holds: its store connection, its membership, its pools and its caches."""

import asyncio
import gc
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models.functions import Now

from budgets import store_interface
from budgets.errors import StoreUnavailable
from budgets.livestore import LiveStore
from budgets.models import Member, Partition
from budgets.reservations import BATCH_SECONDS
from budgets.snapshots import Counted
from budgets.store_interface import ReplyError
from budgets.storekeeper import PARTITION
from gateway import metrics, upstream
from gateway.caching.store import ResponseCache
from gateway.catalogue import Catalogues
from gateway.database import Database
from gateway.errors import Unavailable
from gateway.identity import Identities
from gateway.refusal_counts import RefusalCounts
from gateway.routing.health import HealthBoard
from gateway.routing.mix import Mixes
from gateway.shared_work import SharedWork
from gateway.unpriced_counts import UnpricedCounts
from spend import ledger

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 6
ADMITS_FOR: Final = 2 / 3
"""A member stops admitting after this part of its lease, before others may take it for dead."""
JOIN_SECONDS: Final = 0.3
"""How often a process that has not joined looks whether the store is being rebuilt."""
LOOK_SECONDS_MIN: Final = 0.1
COUNT_SECONDS: Final = 5.0
JOIN_SECONDS_MAX: Final = 5.0
"""How long a request waits for a process that is no member (yet)."""
JOIN_PAUSE_SECONDS: Final = 0.05
RESEND_SECONDS: Final = 1.0
DRAIN_SECONDS_MAX: Final = 15.0
"""After the server has cut what ran on: time to read the usage of answers and to settle."""
CONFIRM_SECONDS_MAX: Final = 5.0
HOLDS_CHECK_SECONDS: Final = 30.0
HOLDS_CHECKED_MAX: Final = 1_000
ESTIMATES_AT_ONCE: Final = 4
"""So many prompts of estimates are counted at a time: bills wait for the same thread."""


class GatewayProcess:
    """Made once per event loop: started before the first request, stopped after the last."""

    def __init__(self) -> None:
        self.id = uuid.uuid4()
        self.database = Database()
        # Its own thread: a crowd of look-ups must not cost the membership.
        self._membership = Database(threads=1)
        self.store = LiveStore(
            connection=store_interface.connect(
                client=settings.STORE_CLIENT,
                url=settings.REDIS_URL,
                timeout_ms=settings.STORE_TIMEOUT_MS,
            ),
            member=self.id.hex,
            timeout_ms=settings.STORE_TIMEOUT_MS,
        )
        self.identities = Identities(
            database=self.database,
            fresh_seconds=settings.GATEWAY_SNAPSHOT_SECONDS,
            stale_seconds_max=settings.GATEWAY_SNAPSHOT_STALE_SECONDS_MAX,
        )
        self.catalogues = Catalogues(
            database=self.database,
            fresh_seconds=settings.GATEWAY_SNAPSHOT_SECONDS,
            stale_seconds_max=settings.GATEWAY_SNAPSHOT_STALE_SECONDS_MAX,
        )
        self.upstream = upstream.make(
            total_seconds=settings.GATEWAY_UPSTREAM_SECONDS_MAX,
            connect_seconds=settings.GATEWAY_UPSTREAM_CONNECT_SECONDS,
            idle_seconds=settings.GATEWAY_UPSTREAM_IDLE_SECONDS,
            connections_max=settings.GATEWAY_UPSTREAM_CONNECTIONS_MAX,
            allowed=settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS,
        )
        self.cache = ResponseCache() if settings.RESPONSE_CACHE == "on" else None
        self.board = HealthBoard()
        self.mixes = Mixes()
        self.refusals = RefusalCounts()
        self.unpriced = UnpricedCounts()
        self.loading: SharedWork[Counted, None] = SharedWork()
        self.estimating = asyncio.Semaphore(ESTIMATES_AT_ONCE)
        self.draining = False
        self._holds_checked_at = float("-inf")
        self._joined = 0
        """The generation of the live store that this process has handed in all to."""
        self._renewed_at = self._unjudged_at = float("-inf")
        self._closed_since: float | None = None
        self._look = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._housekeeping: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Become a member and keep being one; a database that is away is waited for, not fatal."""
        await self._renew()
        self._housekeeping = [
            asyncio.create_task(self._keep_renewing()),
            asyncio.create_task(self._keep_resending()),
            asyncio.create_task(self._keep_counting()),
        ]

    async def stop(self) -> None:
        """Let requests in flight end, have their events confirmed, and leave."""
        until = time.monotonic() + DRAIN_SECONDS_MAX
        while self._tasks and time.monotonic() < until:
            await asyncio.wait(self._tasks, timeout=until - time.monotonic())
        for task in self._housekeeping:
            task.cancel()
        await self._wait_for_confirmation()
        await self._write_refusals()
        await self._leave()
        await self.upstream.close()
        await self.store.close()
        if self.cache is not None:
            await self.cache.close()
        self.database.close()
        self._membership.close()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run something that must end even if the client does not wait for it."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def look_at_store(self) -> None:
        """Have the membership renewed now: the live store said that it is not the one we know."""
        self._look.set()

    async def wait_to_admit(self) -> None:
        """
        Return as soon as this process admits requests: one that has just started joins in a
        moment, and one whose renewal is late may still be in time.

        :raises Unavailable: as :meth:`check_admits`
        """
        if self._has_joined():
            self._check_backlog()
            return
        until = time.monotonic() + JOIN_SECONDS_MAX
        while not self._has_joined() and time.monotonic() < until:  # noqa: ASYNC110  # time alone may end it, too
            await asyncio.sleep(JOIN_PAUSE_SECONDS)
        self.check_admits()

    def check_admits(self) -> None:
        """
        Return if this process may admit requests.

        :raises Unavailable: if its membership is not fresh, or too many events are unconfirmed
        """
        if not self._is_member():
            raise Unavailable("This process may not admit requests yet.", code="not_a_member")
        self._check_backlog()

    def _check_backlog(self) -> None:
        if len(self.store.unconfirmed) >= settings.GATEWAY_UNCONFIRMED_EVENTS_MAX:
            raise Unavailable("Too much spend waits to be recorded.", code="recorder_behind")

    def is_admitting(self) -> bool:
        if self.draining:
            return False
        try:
            self.check_admits()
        except Unavailable:
            return False
        return True

    def _has_joined(self) -> bool:
        knows_store = self._joined > 0 or settings.GATEWAY_ON_STORE_FAILURE == "allow"
        return knows_store and self._is_member()

    def _is_member(self) -> bool:
        """
        A membership that cannot be renewed lasts on while nobody could judge it, since Postgres
        is away from everybody: as long as what is known of keys and models does.
        """
        now = time.monotonic()
        lease = settings.GATEWAY_MEMBER_SECONDS * ADMITS_FOR
        if now - self._renewed_at > settings.GATEWAY_SNAPSHOT_STALE_SECONDS_MAX:
            return False
        return now - max(self._renewed_at, self._unjudged_at) <= lease

    async def _keep_renewing(self) -> None:
        while True:
            is_settled = self._renewed_at > float("-inf") and self._closed_since is None
            lease = settings.GATEWAY_MEMBER_SECONDS / RENEWALS_PER_LEASE
            with suppress(TimeoutError):
                async with asyncio.timeout(lease if is_settled else min(lease, JOIN_SECONDS)):
                    await self._look.wait()
            self._look.clear()
            await self._renew()
            await asyncio.sleep(LOOK_SECONDS_MIN)

    async def _renew(self) -> None:
        """Renew the membership, handing in what is held here to a store that is being rebuilt."""
        began = time.monotonic()
        try:
            partition = await self._membership.run(_partition)
            if partition.run_id and partition.generation != self._joined:
                await self._join(partition.generation)
            if self._is_cut_off(partition):
                return
            await self._membership.run(self._write_member, self._joined)
        except DatabaseError as error:
            log.warning("membership_not_renewed", extra={"error": type(error).__name__})
            await self._note_unjudged(began)
            return
        self._renewed_at = began

    async def _join(self, generation: int) -> None:
        try:
            await self.store.join(
                generation=generation,
                settled=partial(self._in_ledger, ledger.true_rows),
                recorded=partial(self._in_ledger, ledger.recorded_requests),
            )
        except (StoreUnavailable, ReplyError) as error:
            log.warning("store_not_joined", extra={"error": type(error).__name__})
            return
        self._joined = generation
        log.info("store_joined", extra={"generation": generation, "holds": len(self.store.holds)})

    async def _in_ledger(
        self, look: Callable[[Sequence[uuid.UUID]], set[uuid.UUID]], ids: Sequence[str]
    ) -> set[str]:
        requests = [uuid.UUID(id) for id in ids]
        found = await self._membership.run(look, requests)
        # There may be many such looks: recovery must not take us for dead meanwhile.
        await self._membership.run(self._write_member, self._joined)
        return {str(id) for id in found}

    def _is_cut_off(self, partition: Partition) -> bool:
        """
        Return whether the store has been out of our reach for longer than a membership lasts:
        others need not wait then. What is held here is handed in once it can be.
        """
        if partition.run_id and partition.generation == self._joined:
            self._closed_since = None
            return False
        self._closed_since = self._closed_since or time.monotonic()
        waited = time.monotonic() - self._closed_since
        return bool(partition.run_id) and waited > settings.GATEWAY_MEMBER_SECONDS

    async def _note_unjudged(self, at: float) -> None:
        with suppress(StoreUnavailable, ReplyError):
            if not await self.store.is_judged():
                self._unjudged_at = at

    def _write_member(self, generation: int) -> None:
        Member.objects.update_or_create(
            id=self.id,
            defaults={
                "name": f"{socket.gethostname()}:{os.getpid()}",
                "supervised": "COSTPLATFORM_SUPERVISED" in os.environ,
                "generation": generation,
                "renewed_at": Now(),
            },
        )
        Member.objects.filter(renewed_at__lt=Now() - timedelta(days=1)).delete()

    def _delete_member(self) -> None:
        Member.objects.filter(id=self.id).delete()

    async def _keep_counting(self) -> None:
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            await self._write_refusals()
            self._forget_gone()
            await self._forget_charged()

    def _forget_gone(self) -> None:
        groups = self.catalogues.deployed()
        self.board.keep({each.public_id for group in groups.values() for each in group})
        self.mixes.keep(groups)

    async def _forget_charged(self) -> None:
        """
        Forget what is held for batches that the ledger has a row of: others settle these. Should
        the store be lost they would not be held again, so nothing depends on it but memory.
        """
        waited = time.monotonic() - self._holds_checked_at
        held = self.store.holds
        long = [id for id, hold in held.items() if hold.demand.seconds == BATCH_SECONDS]
        if waited < HOLDS_CHECK_SECONDS or not long:
            return
        self._holds_checked_at = time.monotonic()
        looked_at = random.sample(long, min(len(long), HOLDS_CHECKED_MAX))
        try:
            charged = await self.database.run(
                ledger.recorded_requests, [uuid.UUID(id) for id in looked_at]
            )
        except DatabaseError as error:
            log.warning("holds_not_checked", extra={"error": type(error).__name__})
            return
        for request in charged:
            held.pop(str(request), None)

    async def _write_refusals(self) -> None:
        try:
            await self.refusals.write(self.database)
            await self.unpriced.write(self.database)
        except DatabaseError as error:
            log.warning("refusals_not_written", extra={"error": type(error).__name__})

    async def _keep_resending(self) -> None:
        while True:
            await asyncio.sleep(RESEND_SECONDS)
            await self._resend()
            metrics.unconfirmed(count=len(self.store.unconfirmed))

    async def _wait_for_confirmation(self) -> None:
        until = time.monotonic() + CONFIRM_SECONDS_MAX
        while len(self.store.unconfirmed) and time.monotonic() < until:
            await self._resend()
            await asyncio.sleep(0.05)
        if count := len(self.store.unconfirmed):
            log.warning("stopped_with_unconfirmed_events", extra={"events": count})

    async def _resend(self) -> None:
        try:
            await self.store.resend()
        except (StoreUnavailable, ReplyError) as error:
            log.warning("resend_failed", extra={"error": type(error).__name__})

    async def _leave(self) -> None:
        try:
            await self._membership.run(self._delete_member)
        except DatabaseError as error:
            log.warning("membership_not_ended", extra={"error": type(error).__name__})


def _partition() -> Partition:
    partition, _ = Partition.objects.get_or_create(number=PARTITION)
    return partition


_running: dict[asyncio.AbstractEventLoop, GatewayProcess] = {}


async def start() -> None:
    """Start the gateway on the running event loop."""
    process = GatewayProcess()
    await process.start()
    _spare_collections()
    _running[asyncio.get_running_loop()] = process


def _spare_collections() -> None:
    """
    Leave what has been loaded until now out of the garbage collector's sight, and have it look
    seldom: requests make no cycles, and to look through all of Django takes 0.1 s each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def stop() -> None:
    process = _running.pop(asyncio.get_running_loop(), None)
    if process is not None:
        await process.stop()


def begin_drain() -> None:
    """Have readiness say no from now on, while requests are still served."""
    for gateway in _running.values():
        gateway.draining = True


def admits() -> bool:
    """Return whether the gateway of this process admits requests; callable from any thread."""
    return all(gateway.is_admitting() for gateway in _running.values())


def current() -> GatewayProcess:
    """Return the gateway of the running event loop: pools are bound to one loop."""
    return _running[asyncio.get_running_loop()]
