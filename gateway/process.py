"""What a gateway process holds: its store connection, its membership, its pools and its caches."""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models.functions import Now
from redis.exceptions import RedisError

from budgets import storekeeper
from budgets.errors import StoreUnavailable
from budgets.livestore import LiveStore
from budgets.models import Member, Partition
from budgets.store_connection import ReplyError, StoreConnection
from budgets.storekeeper import PARTITION
from gateway import metrics
from gateway.catalogue import Catalogues
from gateway.database import Database
from gateway.errors import Unavailable
from gateway.identity import Identities
from gateway.upstream import Upstream

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 6
ADMITS_FOR: Final = 2 / 3
"""A member stops admitting after this part of its lease, before others may take it for dead."""
JOIN_SECONDS: Final = 0.5
"""How often a process that is no member looks whether the store is open."""
FIRST_JOIN_SECONDS_MAX: Final = 5.0
"""How long a request waits for a process that has just started."""
RESEND_SECONDS: Final = 1.0
DRAIN_SECONDS_MAX: Final = 40.0
CONFIRM_SECONDS_MAX: Final = 5.0


class GatewayProcess:
    """Made once per event loop: started before the first request, stopped after the last."""

    def __init__(self) -> None:
        self.id = uuid.uuid4()
        self.database = Database()
        # Its own thread: a crowd of look-ups must not cost the membership.
        self._membership = Database(threads=1)
        self.store = LiveStore(
            connection=StoreConnection(
                url=settings.REDIS_URL, timeout_ms=settings.STORE_TIMEOUT_MS
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
        self.upstream = Upstream(
            total_seconds=settings.GATEWAY_UPSTREAM_SECONDS_MAX,
            connect_seconds=settings.GATEWAY_UPSTREAM_CONNECT_SECONDS,
            idle_seconds=settings.GATEWAY_UPSTREAM_IDLE_SECONDS,
            connections_max=settings.GATEWAY_UPSTREAM_CONNECTIONS_MAX,
            allowed=settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS,
        )
        self._renewed_at = float("-inf")
        self._has_joined = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._housekeeping: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Become a member and keep being one; a database that is away is waited for, not fatal."""
        await self._renew()
        self._housekeeping = [
            asyncio.create_task(self._keep_renewing()),
            asyncio.create_task(self._keep_resending()),
        ]

    async def stop(self) -> None:
        """Let requests in flight end, have their events confirmed, and leave."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS_MAX)
        for task in self._housekeeping:
            task.cancel()
        await self._wait_for_confirmation()
        await self._leave()
        await self.upstream.close()
        await self.store.close()
        self.database.close()
        self._membership.close()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run something that must end even if the client does not wait for it."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait_to_admit(self) -> None:
        """
        Return as soon as this process admits requests: one that has just started joins in a moment.

        :raises Unavailable: as :meth:`check_admits`
        """
        if not self._has_joined.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_JOIN_SECONDS_MAX):
                    await self._has_joined.wait()
        self.check_admits()

    def check_admits(self) -> None:
        """
        Return if this process may admit requests.

        :raises Unavailable: if its membership is not fresh, or too many events are unconfirmed
        """
        if not self._is_member():
            raise Unavailable("This process may not admit requests yet.", code="not_a_member")
        if len(self.store.unconfirmed) >= settings.GATEWAY_UNCONFIRMED_EVENTS_MAX:
            raise Unavailable("Too much spend waits to be recorded.", code="recorder_behind")

    def is_admitting(self) -> bool:
        try:
            self.check_admits()
        except Unavailable:
            return False
        return True

    def _is_member(self) -> bool:
        lease = settings.GATEWAY_MEMBER_SECONDS * ADMITS_FOR
        return time.monotonic() - self._renewed_at <= lease

    async def _keep_renewing(self) -> None:
        while True:
            is_member = self._renewed_at > float("-inf")
            lease = settings.GATEWAY_MEMBER_SECONDS / RENEWALS_PER_LEASE
            await asyncio.sleep(lease if is_member else min(lease, JOIN_SECONDS))
            await self._renew()

    async def _renew(self) -> None:
        """
        Renew the membership, or join once the store is open.

        While the store is closed a process that holds nothing is no member: recovery need not
        wait for it. One that holds something stays, so that nothing is rebuilt without it.
        """
        began = time.monotonic()
        try:
            generation, is_open = await self._membership.run(_generation)
            if not is_open and self._holds_nothing():
                self._renewed_at = float("-inf")
                await self._membership.run(self._delete_member)
                return
            await self._membership.run(self._write_member, generation)
        except DatabaseError as error:
            log.warning("membership_not_renewed", extra={"error": type(error).__name__})
            return
        if is_open:
            self._adopt(generation)
            self._has_joined.set()
        self._renewed_at = began

    def _adopt(self, generation: int) -> None:
        if self.store.generation not in {0, generation}:
            # It was opened while this process was no member: what is still held here may have
            # been lost with the old one.
            self.store.unconfirmed.begin_generation()
        self.store.generation = generation

    def _holds_nothing(self) -> bool:
        return not self._tasks and not self.store.unconfirmed.holds_money()

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


def _generation() -> tuple[int, bool]:
    """Return the partition's generation, and whether the live store is of it."""
    partition = Partition.objects.get(number=PARTITION)
    try:
        return partition.generation, storekeeper.is_open(partition)
    except RedisError:
        return partition.generation, False


_running: dict[asyncio.AbstractEventLoop, GatewayProcess] = {}


async def start() -> None:
    """Start the gateway on the running event loop."""
    process = GatewayProcess()
    await process.start()
    _running[asyncio.get_running_loop()] = process


async def stop() -> None:
    process = _running.pop(asyncio.get_running_loop(), None)
    if process is not None:
        await process.stop()


def admits() -> bool:
    """Return whether the gateway of this process admits requests; callable from any thread."""
    return all(gateway.is_admitting() for gateway in _running.values())


def current() -> GatewayProcess:
    """Return the gateway of the running event loop: pools are bound to one loop."""
    return _running[asyncio.get_running_loop()]
