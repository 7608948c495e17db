"""
What the tests of live store and ledger share: being the only recorder, a store, a path.

The fixtures are made known by conftest.py; none is autouse.
"""

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from budgets import periods, snapshots, storekeeper
from budgets.contexts import Context, Limit, LimitKind, PathAccount, validity_ms
from budgets.livestore import LiveStore
from budgets.models import Account, AccountKind, Enforcement, Organization, Partition
from budgets.money import Units
from budgets.periods import FOREVER, Period
from budgets.reservations import Admission, Demand
from budgets.scripts import TAG
from budgets.store_connection import StoreConnection
from budgets.storekeeper import PARTITION, Counter, Entry
from budgets.unconfirmed import Event
from spend import events, recorder, recovery
from spend.events import Described, Outcome

DOLLAR: Final = 10**9
SECONDS: Final = 60
TIMEOUT_MS: Final = 2_000
LOCK_SECONDS_MAX: Final = 20.0
NOTHING: Final = Outcome(status=200, cost=Decimal(0), usage={})
_DESCRIBED: Final = Described(
    organization_id=0, currency="USD", key_digest="digest", team="", user="", end_user="", tags=(),
    route="/v1/chat/completions", model="model", provider="provider", upstream_model="upstream",
    deployment="deployment", price_reference="price:1", cost_currency="USD", streamed=False,
    reserved_units=0,
)  # fmt: skip
_LOCK: Final = (storekeeper._LOCK_NAMESPACE, PARTITION)


@pytest.fixture(scope="module")
def alone(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """
    Hold the recorder's lock: no recorder process records, sweeps or recovers meanwhile.

    One that is at work loses its connection, stands by, and takes over again afterwards. What the
    module's tests leave reserved is swept and recorded at the end.
    """
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as holder:
        _take_the_lock(holder)
        try:
            yield
        finally:
            with django_db_blocker.unblock():  # type: ignore[attr-defined]  # no public type
                _clean_up()
                connections.close_all()


@pytest.fixture
def orm_in_async(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let an async test call the ORM on its own thread: blocking the loop hurts nobody here."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    # By thread alone: what Django keeps by task would never be closed.
    monkeypatch.setattr(connections, "_connections", threading.local())
    yield
    connections.close_all()


@pytest.fixture
async def store(alone: None, orm_in_async: None) -> AsyncIterator[LiveStore]:
    live = new_store()
    yield live
    await live.close()


@pytest.fixture
async def other_store(alone: None, orm_in_async: None) -> AsyncIterator[LiveStore]:
    """The store as another gateway process has it."""
    live = new_store()
    yield live
    await live.close()


def new_store(
    *, url: str = "", member: uuid.UUID | None = None, timeout_ms: int = TIMEOUT_MS
) -> LiveStore:
    """Return a gateway's live store, as a member of its own."""
    live = LiveStore(
        connection=StoreConnection(url=url or settings.REDIS_URL, timeout_ms=timeout_ms),
        member=(member or uuid.uuid4()).hex,
        timeout_ms=timeout_ms,
    )
    live.generation = Partition.objects.get(number=PARTITION).generation
    return live


def account(organization: Organization, label: str = "Account") -> PathAccount:
    made = Account.objects.create(organization=organization, kind=AccountKind.KEY, label=label)
    return PathAccount(made.id, made.kind, made.label)


def limit_on(of: PathAccount, units: int, *, period: Period = FOREVER) -> Limit:
    return Limit(
        account=of,
        budget_id="budget",
        kind=LimitKind.MONEY,
        enforcement=Enforcement.STRICT,
        limit=units,
        period=period,
    )


def rate_on(of: PathAccount, kind: LimitKind, number: int) -> Limit:
    return Limit(
        account=of, budget_id="budget", kind=kind, enforcement=Enforcement.STRICT, limit=number
    )


def context(
    organization: Organization, path: Sequence[PathAccount], limits: Sequence[Limit] = ()
) -> Context:
    """Return a fresh context of a path that ends, as every path does, at the organization."""
    top = organization.account
    valid_from_ms, valid_until_ms = validity_ms(limits, expires_at=None)
    return Context(
        organization_id=organization.pk,
        currency=organization.currency,
        organization_version=snapshots.version_of(organization.pk),
        global_version=snapshots.version_of(snapshots.GLOBAL_SCOPE),
        path=(*path, PathAccount(top.id, top.kind, top.label)),
        limits=tuple(limits),
        valid_from_ms=valid_from_ms,
        valid_until_ms=valid_until_ms,
    )


@dataclass
class Bench:
    """One account with one limit, loaded; most tests need no more."""

    store: LiveStore
    account: PathAccount
    context: Context

    @property
    def counter(self) -> Counter:
        return counter_of(self.account)

    async def reserve(
        self,
        amount: int,
        *,
        id: str = "",
        seconds: int = SECONDS,
        orphan: bytes = b"",
        prior: int | None = None,
        tokens: int = 0,
    ) -> "Held":
        id = id or new_id()
        demand = self.demand(amount, id=id, seconds=seconds, prior=prior, tokens=tokens)
        demand = replace(demand, orphan=orphan or demand.orphan)
        admission = await self.store.reserve(demand, context=self.context)
        return Held(id, admission, self.context)

    def demand(
        self,
        amount: int,
        *,
        id: str = "",
        seconds: int = SECONDS,
        prior: int | None = None,
        tokens: int = 0,
    ) -> Demand:
        return Demand(
            id=id,
            ceiling=Units(amount),
            prior=Units(amount if prior is None else prior),
            tokens=tokens,
            learnt_under=self.account.id.hex,
            seconds=seconds,
            orphan=payload_of(self.context),
        )

    async def settle(self, held: "Held", cost: int, *, payload: bytes = b"") -> Event:
        event = held.event(cost, payload=payload)
        await self.store.settle(event)
        return event

    async def spend(self, cost: int) -> Event:
        """Reserve and settle ``cost``."""
        return await self.settle(await self.reserve(cost), cost)

    async def release(self, held: "Held") -> None:
        await self.store.release(held.id, otherwise=held.event(0))


@dataclass(frozen=True)
class Held:
    """A request that holds a reservation."""

    id: str
    admission: Admission
    context: Context

    def event(self, cost: int, *, payload: bytes = b"") -> Event:
        return event_of(self.id, cost, self.context, self.admission.admitted_ms, payload)


def counted(limits: Sequence[Limit]) -> list[tuple[uuid.UUID, Period]]:
    """Return what the limits of money count."""
    return [(limit.account.id, limit.period) for limit in limits if limit.period is not None]


async def bench(store: LiveStore, organization: Organization, *, limit: int = 10 * DOLLAR) -> Bench:
    of = account(organization)
    limits = [limit_on(of, limit)]
    await load(store, limits)
    return Bench(store, of, context(organization, [of], limits))


def event_of(id: str, cost: int, context: Context, admitted_ms: int, payload: bytes = b"") -> Event:
    return Event(
        id=id,
        amount=Units(cost),
        admitted_ms=admitted_ms,
        path=context.path_text,
        payload=payload or payload_of(context),
    )


def payload_of(context: Context, *, outcome: Outcome = NOTHING, **fields: Any) -> bytes:
    """Return what describes a request of this path; ``fields`` are those of ``Described``."""
    return events.encode(
        replace(_DESCRIBED, organization_id=context.organization_id, **fields), outcome
    )


def new_id() -> str:
    return str(uuid.uuid4())


async def load(store: LiveStore, limits: Sequence[Limit]) -> None:
    """Load the counters of these limits as the gateway does."""
    for limit in limits:
        until = time.monotonic() + 5
        while not await store.load(snapshots.ledger_totals(counted([limit]))[0]):
            assert time.monotonic() < until, "the counter could not be loaded"
            await asyncio.sleep(0.01)


def counter_of(of: PathAccount, period: Period = FOREVER) -> Counter:
    """Return the live counter; there must be one."""
    (counter,) = [
        each for each in storekeeper.counters_of([of.id]).get(of.id, []) if each.period == period
    ]
    return counter


def is_loaded(of: PathAccount) -> bool:
    return bool(storekeeper.counters_of([of.id])[of.id])


def entries_of(*ids: str) -> list[Entry]:
    """Return what the stream holds of these requests."""
    entries = storekeeper.read_stream(after="0-0", count=1_000_000)
    return [each for each in entries if isinstance(each, Entry) and each.id in ids]


def partition() -> Partition:
    return Partition.objects.get(number=PARTITION)


def record_everything(*, count: int = 1_000) -> None:
    """Bring the whole stream to the ledger, then drop the counters that are listed."""
    current = partition()
    while recorder.record_next(partition=current, now=datetime.now(UTC), count=count):
        pass
    recorder.tell_store(partition())


def running(*, seconds_left: float, seconds_gone: float = 3_600) -> Period:
    """Return a period that began a while ago and ends soon, in whole milliseconds."""
    now_ms = periods.milliseconds(datetime.now(UTC))
    start, end = now_ms - int(seconds_gone * 1_000), now_ms + int(seconds_left * 1_000)
    return Period(*map(periods.from_milliseconds, (start, end)))


def following(period: Period) -> Period:
    return Period(period.end, period.end + timedelta(days=1))


def versions(of: Context, *, organization: int = 0, everybody: int = 0) -> Context:
    """Return the context with its versions shifted."""
    return replace(
        of,
        organization_version=of.organization_version + organization,
        global_version=of.global_version + everybody,
    )


@contextlib.contextmanager
def store_of_another_run() -> Iterator[None]:
    """Have the store look as if the server had been restarted."""
    kept = storekeeper.store().hget(f"{TAG}gen", "run_id")
    storekeeper.store().hset(f"{TAG}gen", "run_id", "0" * 40)
    try:
        yield
    finally:
        storekeeper.store().hset(f"{TAG}gen", "run_id", kept)


@dataclass
class CutWire:
    """
    A proxy before the store that loses requests on their way, or replies on theirs, and then cuts
    the connection: ``cuts`` times, then it is a plain wire. One that hangs does not cut.
    """

    loses: str = "replies"
    cuts: int = 0
    hangs: bool = False
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def __aenter__(self) -> "CutWire":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        parts = urlsplit(settings.REDIS_URL)
        port = self._server.sockets[0].getsockname()[1]
        credentials = parts.netloc.rpartition("@")[0]
        netloc = f"{credentials}@127.0.0.1:{port}" if credentials else f"127.0.0.1:{port}"
        return parts._replace(netloc=netloc).geturl()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        parts = urlsplit(settings.REDIS_URL)
        up_reader, up_writer = await asyncio.open_connection(parts.hostname, parts.port)
        pumps = [
            asyncio.ensure_future(self._pump(reader, up_writer, "requests")),
            asyncio.ensure_future(self._pump(up_reader, writer, "replies")),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (writer, up_writer):
                each.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, what: str
    ) -> None:
        while data := await source.read(65_536):
            if self.cuts and self.loses == what:
                self.cuts -= 1
                if not self.hangs:
                    return
                continue
            target.write(data)
            await target.drain()


def _take_the_lock(holder: "psycopg.Connection") -> None:
    until = time.monotonic() + LOCK_SECONDS_MAX
    while not _one(holder, "SELECT pg_try_advisory_lock(%s, %s)", _LOCK):
        assert time.monotonic() < until, "the recorder's lock could not be had"
        _one(
            holder,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'"
            " AND granted AND classid = %s::bigint::oid AND objid = %s::bigint::oid",
            _LOCK,
        )
        time.sleep(0.02)


def _one(connection: "psycopg.Connection", sql: str, values: Sequence[object]) -> object:
    row = connection.execute(sql, values).fetchone()
    assert row is not None
    return row[0]


def _clean_up() -> None:
    storekeeper.sweep(generation=partition().generation, alive=recovery.alive_members)
    record_everything()
