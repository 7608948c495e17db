"""
The live store as the recorder, the admin and the API see it: by redis-py, without a hurry.

Who may open it: only the recorder, under the partition's advisory lock (:func:`open_generation`).
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection

from budgets import periods, scripts, store_answers
from budgets.livestore import TOMBSTONE_MS
from budgets.models import ConfigVersion, Enforcement, Partition
from budgets.money import Units
from budgets.periods import Period
from budgets.scripts import TAG
from budgets.unconfirmed import Event

log = logging.getLogger(__name__)

PARTITION: Final = 0
_LOCK_NAMESPACE: Final = 0x636F7374
STREAM: Final = f"{TAG}stream"
JUDGE: Final = f"{TAG}judge"
JUDGE_MS: Final = 5_000
_GENERATION: Final = f"{TAG}gen"
_RESERVATION: Final = ("ceiling", "expected", "admitted", "deadline", "path")


class Closed(Exception):
    """The live store is not the one that Postgres knows: it was lost, or never opened."""


class NotQuiet(Exception):
    """Requests came and went while the store was read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A spend event in the stream, not yet in the ledger."""

    position: str
    id: str
    amount: Units
    admitted_at: datetime
    path: tuple[UUID, ...]
    kind: str
    payload: bytes
    model_path: tuple[UUID, ...] = ()
    """What each holder of the path spends on the model that was asked for."""

    @property
    def all_accounts(self) -> tuple[UUID, ...]:
        return self.path + self.model_path

    def is_after(self, position: str) -> bool:
        """Return whether it came to the stream after what is there."""
        return store_answers.order_of(self.position) > store_answers.order_of(position)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stream entry that lacks what a spend event has: nobody can say what it cost."""

    position: str
    fields: dict[str, str]

    @property
    def all_accounts(self) -> set[UUID]:
        """The accounts that it names, as far as they can be read."""
        return {UUID(hex=id) for id in re.findall(r"\b[0-9a-f]{32}\b", self.fields.get("path", ""))}


@dataclass(frozen=True, slots=True)
class Reservation:
    id: str
    ceiling: Units
    expected: Units
    admitted_at: datetime
    deadline: datetime
    accounts: tuple[UUID, ...]

    def held(self, *, enforcement: str) -> Units:
        """Return what it holds of a budget that is enforced so."""
        return self.ceiling if enforcement == Enforcement.STRICT else self.expected


@dataclass(frozen=True, slots=True)
class Counter:
    """What an account has spent and reserved in a period: at the ceiling, and as expected."""

    period: Period
    spent: Units
    reserved: Units
    expected: Units

    def held(self, *, enforcement: str) -> Units:
        """Return what is reserved of a budget that is enforced so."""
        return self.reserved if enforcement == Enforcement.STRICT else self.expected


@dataclass(frozen=True, slots=True)
class StoreView:
    """Everything that counts in the live store, of one instant."""

    position: str
    entries: list[Entry]
    counters: dict[UUID, list[Counter]]
    in_flight: dict[UUID, int]
    reservations: list[Reservation]


@cache
def store() -> Any:  # redis-py types a reply as all that any command may answer
    """Return the process's client; a broken connection is made anew at the next use."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=10, socket_connect_timeout=5, health_check_interval=30
    )


@contextmanager
def partition_lock() -> Iterator[bool]:
    """Try for the partition's advisory lock; at most one recorder holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_LOCK_NAMESPACE, PARTITION])
        (held,) = cursor.fetchone()
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_LOCK_NAMESPACE, PARTITION])


def run_id() -> str:
    return str(store().info("server")["run_id"])


def is_open(partition: Partition) -> bool:
    """Return whether the store is the one that Postgres knows, rebuilt and open."""
    return partition.is_open and is_known(partition) and store().hget(_GENERATION, "open") == b"1"


def check_open(partition: Partition) -> None:
    """:raises Closed: if the store is not the one that Postgres knows, rebuilt and open"""
    if not is_open(partition):
        raise Closed


def is_known(partition: Partition) -> bool:
    """Return whether the store is of the generation that Postgres has, and not restarted since."""
    number, kept = store().hmget(_GENERATION, "number", "run_id")
    return (
        partition.generation > 0
        and number == str(partition.generation).encode()
        and kept == partition.run_id.encode()
        and run_id() == partition.run_id
    )


def note_judge() -> bool:
    """
    Say that somebody watches the members: who cannot renew is taken for dead in time. Return
    whether it could be said.
    """
    try:
        store().set(JUDGE, "1", px=JUDGE_MS)
    except redis.RedisError:
        log.warning("judge_not_noted")
        return False
    return True


def close_store(*, generation: int) -> None:
    """
    Close the store to every process at once; what it holds stays.

    :raises Closed: if it is of a newer generation than that
    """
    _run(scripts.CLOSE, generation)


def forget_what_is_recorded(reservations_recorded: Iterable[str]) -> None:
    """
    Drop counters, stream and tombstones; keep open reservations but those that the ledger has.

    :raises Closed: if another recorder has begun the store meanwhile
    """
    for keys in _batches(f"{TAG}r:{id}".encode() for id in reservations_recorded):
        _run(scripts.FORGET, 0, *(key.decode() for key in keys))
    for pattern in (f"{TAG}c:*", f"{TAG}t:*", f"{TAG}w:*"):
        for keys in _batches(store().scan_iter(match=pattern, count=1_000)):
            _run(scripts.FORGET, 0, *(key.decode() for key in keys))
    _run(scripts.FORGET, 0, STREAM, f"{TAG}mark", f"{TAG}ver")


def begin_store(*, generation: int, of_run: str) -> None:
    """Write the versions, then the generation: from here on members may hand in what they hold."""
    versions = {str(each.scope): each.version for each in ConfigVersion.objects.all()}
    if versions:
        store().hset(f"{TAG}ver", mapping=versions)
    store().hset(_GENERATION, mapping={"number": generation, "run_id": of_run})


def open_store() -> None:
    """From here on requests are admitted."""
    store().hset(_GENERATION, "open", "1")


def evicts() -> str:
    """Return the eviction policy, or ``""`` where the server does not tell it (managed ones)."""
    try:
        return str(store().config_get("maxmemory-policy").get("maxmemory-policy", ""))
    except redis.ResponseError:
        return ""


def read_stream(*, after: str, count: int) -> list[Entry | Unreadable]:
    return [_read(*raw) for raw in store().xrange(STREAM, min=f"({after}", count=count)]


def mirror(*, generation: int, position: str, revision: int | None) -> None:
    """
    Tell the store what is recorded, and trim the stream; no revision while reloads are due.

    :raises Closed: if the store is of another generation
    """
    _run(scripts.MIRROR, generation, position, "" if revision is None else revision)


def reload(*, generation: int, revision: int, accounts: Sequence[UUID]) -> None:
    """
    Drop the counters of ``accounts``; they are loaded anew at their next use.

    :raises Closed: if the store is of another generation
    """
    _run(scripts.RELOAD, generation, revision, *(account.hex for account in accounts))


def sweep(*, generation: int, alive: Callable[[], Iterable[UUID]]) -> int:
    """
    Settle as orphans what nobody will settle any more; return how many there were. Who is
    ``alive`` is asked after the reservations are read: a process is a member before it reserves.

    :raises Closed: if the store is of another generation
    """
    holders = _holders()
    members = [member.hex for member in alive()]
    abandoned = {id for id, holder in holders.items() if holder not in members}
    orphans = 0
    for id in _overdue() | abandoned:
        outcome = _run(scripts.SWEEP, generation, id, TOMBSTONE_MS, *members)
        orphans += outcome == b"orphaned"
    return orphans


def settle(event: Event, *, generation: int) -> bool:
    """
    Settle a request that another process has reserved, as :meth:`LiveStore.settle` does; return
    False if the packet came late, and may be sent again.

    :raises Closed: if the store is of another generation
    """
    not_after = _now_ms() + settings.STORE_TIMEOUT_MS
    outcome = _run(
        scripts.SETTLE, generation, not_after, event.id, event.amount, event.admitted_ms,
        event.path, event.payload.decode(), TOMBSTONE_MS, event.tokens, event.learnt_under,
    )  # fmt: skip
    return outcome != b"late"


def open_reservations() -> list[str]:
    return [raw.decode() for raw in store().zrange(f"{TAG}open", 0, -1)]


def reservations() -> list[Reservation]:
    """Return the open reservations; one that ends meanwhile is absent."""
    ids = open_reservations()
    pipeline = store().pipeline(transaction=False)
    for id in ids:
        pipeline.hmget(f"{TAG}r:{id}", *_RESERVATION)
    rows = zip(ids, pipeline.execute(), strict=True)
    return [_reservation(id, raw) for id, raw in rows if raw[0] is not None]


def wait_for_entry(*, after: str, timeout_ms: int) -> None:
    """Return as soon as the stream has an entry after that position, or after the time-out."""
    store().xread({STREAM: after}, count=1, block=timeout_ms)


def recorded_until() -> datetime:
    """
    Return the instant, by the live store's clock, before which all that was settled is recorded.

    :raises Closed: if the store is not open: nobody knows what it will still be told
    """
    at_ms = _now_ms()  # before the stream is read: what is settled in between is not missed
    partition = Partition.objects.get(number=PARTITION)
    check_open(partition)
    for position, _ in store().xrange(STREAM, min=f"({partition.position}", count=1):
        settled_ms, _ = store_answers.order_of(position.decode())
        at_ms = min(at_ms, settled_ms + settings.STORE_CLOCK_OFFSET_MS)
    return periods.from_milliseconds(at_ms)


def is_reserved(id: str) -> bool:
    return bool(store().exists(f"{TAG}r:{id}"))


def publish_versions(*, scopes: Sequence[int] | None = None) -> None:
    """
    Raise the store's versions to those of Postgres, of the given scopes or of all.

    :raises Closed: if the store is of another generation
    """
    rows = ConfigVersion.objects.all()
    if scopes is not None:
        rows = rows.filter(scope__in=scopes)
    words = [word for row in rows for word in (row.scope, row.version)]
    generation = Partition.objects.values_list("generation", flat=True).get(number=PARTITION)
    if words:
        _run(scripts.RAISE_VERSIONS, generation, *words)


def counters_of(accounts: Sequence[UUID]) -> dict[UUID, list[Counter]]:
    """Return the live counters of each account; one that is not loaded is absent."""
    pipeline = store().pipeline(transaction=False)
    for account in accounts:
        pipeline.hgetall(f"{TAG}c:{account.hex}")
    return {
        account: _counters(raw) for account, raw in zip(accounts, pipeline.execute(), strict=True)
    }


def view() -> StoreView:
    """Return stream, counters and open reservations as they were at one instant."""
    accounts = [
        UUID(key.decode().rpartition(":")[2])
        for key in store().scan_iter(match=f"{TAG}c:*", count=1_000)
    ]
    ids = open_reservations()
    pipeline = store().pipeline(transaction=True)
    pipeline.hget(f"{TAG}mark", "position")
    pipeline.xrange(STREAM)
    pipeline.zrange(f"{TAG}open", 0, -1)
    for account in accounts:
        pipeline.hgetall(f"{TAG}c:{account.hex}")
    for id in ids:
        pipeline.hmget(f"{TAG}r:{id}", *_RESERVATION)
    position, entries, open_now, *rest = pipeline.execute()
    if [raw.decode() for raw in open_now] != ids:
        raise NotQuiet
    hashes = dict(zip(accounts, rest[: len(accounts)], strict=True))
    held = zip(ids, rest[len(accounts) :], strict=True)
    return StoreView(
        position=(position or b"0-0").decode(),
        entries=[_entry(*raw) for raw in entries],
        counters={account: _counters(raw) for account, raw in hashes.items()},
        in_flight={account: int(raw[b"p"]) for account, raw in hashes.items() if b"p" in raw},
        reservations=[_reservation(id, raw) for id, raw in held],
    )


def _overdue() -> set[str]:
    return {raw.decode() for raw in store().zrangebyscore(f"{TAG}open", "-inf", _now_ms())}


def _now_ms() -> int:
    seconds, microseconds = store().time()
    return int(seconds * 1_000 + microseconds // 1_000 + settings.STORE_CLOCK_OFFSET_MS)


def _holders() -> dict[str, str]:
    """Return the open reservations, each with the gateway process that made it."""
    ids = open_reservations()
    pipeline = store().pipeline(transaction=False)
    for id in ids:
        pipeline.hget(f"{TAG}r:{id}", "member")
    holders = pipeline.execute()
    return {id: (holder or b"").decode() for id, holder in zip(ids, holders, strict=True)}


def _run(script: scripts.Script, *words: object) -> bytes:
    arguments = [str(word) for word in words]
    try:
        outcome, *_ = store().evalsha(script.sha, 1, TAG, *arguments)
    except redis.exceptions.NoScriptError:
        outcome, *_ = store().eval(script.text, 1, TAG, *arguments)
    if outcome == b"closed":
        raise Closed
    return bytes(outcome)


def _read(position: bytes, fields: dict[bytes, bytes]) -> Entry | Unreadable:
    try:
        return _entry(position, fields)
    except (KeyError, ValueError, OverflowError):
        readable = {
            name.decode(errors="replace"): value.decode(errors="replace").replace("\x00", "\\0")
            for name, value in fields.items()
        }
        return Unreadable(position.decode(), readable)


def _entry(position: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(
        position=position.decode(),
        id=str(UUID(fields[b"id"].decode())),
        amount=Units(int(fields[b"amount"])),
        admitted_at=periods.from_milliseconds(int(fields[b"admitted"])),
        path=_path(fields[b"path"])[0],
        model_path=_path(fields[b"path"])[1],
        kind=fields[b"kind"].decode(),
        payload=fields[b"event"],
    )


def _reservation(id: str, raw: Sequence[bytes]) -> Reservation:
    ceiling, expected, admitted, deadline, path = raw
    accounts, models = _path(path)
    return Reservation(
        id=id,
        ceiling=Units(int(ceiling)),
        expected=Units(int(expected)),
        admitted_at=periods.from_milliseconds(int(admitted)),
        deadline=periods.from_milliseconds(int(deadline)),
        accounts=accounts + models,
    )


def _path(raw: bytes) -> tuple[tuple[UUID, ...], tuple[UUID, ...]]:
    """Return the accounts of a path, and those of holder and model."""
    accounts, _, models = raw.decode().partition(";")
    return tuple(map(UUID, accounts.split(","))), tuple(
        UUID(part) for part in models.split(",") if part
    )


def _counters(raw: dict[bytes, bytes]) -> list[Counter]:
    counters = []
    for field, spent in raw.items():
        kind, _, bounds = field.decode().partition(":")
        if kind == "s":
            reserved, expected = (Units(int(raw[f"{k}:{bounds}".encode()])) for k in "re")
            period = Period(*map(periods.from_milliseconds, map(int, bounds.split(":"))))
            counters.append(Counter(period, Units(int(spent)), reserved, expected))
    return counters


def _batches(keys: Iterable[bytes], size: int = 1_000) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for key in keys:
        batch.append(key)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
