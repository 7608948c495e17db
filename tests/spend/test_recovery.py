"""The store is opened at the first start and after every loss, and only when that is safe."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models.functions import Now

from budgets import storekeeper
from budgets.errors import StoreClosed
from budgets.livestore import LiveStore
from budgets.models import ConfigVersion, Member, Partition, PeriodTotal
from budgets.scripts import TAG
from spend import recorder, recovery, verification
from spend.recovery import Evicting, MembersJoining
from tests.budgets.support import (
    bench,
    entries_of,
    is_loaded,
    load,
    partition,
    record_everything,
)
from tests.budgets.test_livestore import sweep_as_dead
from tests.conftest import Cast
from tests.spend.support import crash_before_telling_the_store, now, record_once, rows_of

pytestmark = pytest.mark.usefixtures("alone", "all_dead", "orm_in_async")


@pytest.fixture
def all_dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take every gateway process for dead; leave an open store behind."""
    monkeypatch.setattr(settings, "GATEWAY_MEMBER_SECONDS", 0)
    yield
    monkeypatch.setattr(settings, "GATEWAY_MEMBER_SECONDS", 0)
    storekeeper.store().config_set("maxmemory-policy", "noeviction")
    recovery.ensure_open(now=now())


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> Iterator[Member]:
    monkeypatch.setattr(settings, "GATEWAY_MEMBER_SECONDS", 30)
    member = Member.objects.create(id=uuid.uuid4(), name="test", renewed_at=Now())
    yield member
    member.delete()


def restart_the_store() -> None:
    """What a restarted server looks like: its data, and another run_id."""
    storekeeper.store().hset(f"{TAG}gen", "run_id", "0" * 40)


def reopened(store: LiveStore) -> Partition:
    opened = recovery.ensure_open(now=now())
    store.generation = opened.generation
    return opened


async def test_open_store_is_left_alone(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    before = partition()

    opened = recovery.ensure_open(now=now())

    assert opened.generation == before.generation
    assert is_loaded(team.account)


@pytest.mark.parametrize("lost", ["restarted", "emptied", "rolled back to another generation"])
async def test_lost_store_gets_a_new_generation_and_answers_again(
    lost: str, store: LiveStore, cast: Cast
) -> None:
    before = partition().generation
    record_everything()
    if lost == "restarted":
        restart_the_store()
    elif lost == "emptied":
        _empty_the_store()
    else:
        storekeeper.store().hset(f"{TAG}gen", "number", before - 1)

    opened = reopened(store)
    team = await bench(store, cast.organization)
    await team.spend(5)

    assert opened.generation == before + 1
    assert storekeeper.is_open(opened)
    assert team.counter.spent == 5


async def test_older_generation_is_closed_for_good(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    restart_the_store()
    recovery.ensure_open(now=now())

    with pytest.raises(StoreClosed):
        await team.reserve(1)


async def test_what_the_stream_held_is_in_the_ledger_before_it_is_dropped(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    record_everything()
    spent = [await team.spend(n) for n in (1, 2, 3)]
    restart_the_store()

    opened = reopened(store)
    await load(store, team.context.limits)

    assert [rows_of(event.id) for event in spent] == [[("usage", n)] for n in (1, 2, 3)]
    assert team.counter.spent == 6
    assert opened.position == "0-0"
    assert entries_of(*(event.id for event in spent)) == []


async def test_stream_is_drained_whatever_the_position_says(store: LiveStore, cast: Cast) -> None:
    """A rolled-back store shows again what is recorded; a failed-over one what is not."""
    team = await bench(store, cast.organization)
    first = await team.spend(1)
    with crash_before_telling_the_store():
        record_once()
    second = await team.spend(2)
    Partition.objects.update(position="99999999999999-0")
    restart_the_store()

    reopened(store)

    total = PeriodTotal.objects.get(account=team.account.id)
    assert (rows_of(first.id), rows_of(second.id)) == ([("usage", 1)], [("usage", 2)])
    assert (total.amount_units, total.events) == (3, 2)


async def test_long_stream_is_drained_in_batches(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(store, cast.organization)
    record_everything()
    spent = [await team.spend(1) for _ in range(5)]
    monkeypatch.setattr(recovery, "DRAIN_EVENTS", 2)
    restart_the_store()

    reopened(store)

    assert [rows_of(event.id) for event in spent] == [[("usage", 1)]] * 5


async def test_reservations_outlive_the_loss_and_still_hold_their_money(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(7)
    restart_the_store()

    reopened(store)
    await load(store, team.context.limits)
    reserved = team.counter.reserved
    await team.settle(held, 5)

    assert reserved == 7
    assert (team.counter.spent, team.counter.reserved) == (5, 0)


async def test_reservation_that_the_ledger_has_settled_is_not_held_again(
    store: LiveStore, cast: Cast
) -> None:
    """The store was rolled back to a moment before the settle; the ledger was not."""
    team = await bench(store, cast.organization)
    settled, orphaned = await team.reserve(7), await team.reserve(9)
    kept = {id: storekeeper.store().hgetall(f"{TAG}r:{id}") for id in (settled.id, orphaned.id)}
    await team.settle(settled, 5)
    sweep_as_dead(orphaned)
    record_everything()
    for id, fields in kept.items():
        storekeeper.store().hset(f"{TAG}r:{id}", mapping=fields)
        storekeeper.store().zadd(f"{TAG}open", {id: int(fields[b"deadline"])})
    restart_the_store()

    reopened(store)
    await load(store, team.context.limits)

    assert (team.counter.spent, team.counter.reserved) == (5 + 9, 0)
    assert not storekeeper.is_reserved(settled.id)


async def test_counters_and_tombstones_are_dropped(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    restart_the_store()

    reopened(store)

    assert not is_loaded(team.account)
    assert not storekeeper.store().exists(f"{TAG}t:{event.id}")
    assert list(storekeeper.store().scan_iter(match=f"{TAG}c:*")) == []


async def test_event_that_is_sent_again_after_recovery_counts_once(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    restart_the_store()
    reopened(store)

    store.unconfirmed.begin_generation()
    await store.resend()
    record_everything()
    await load(store, team.context.limits)

    assert rows_of(event.id) == [("usage", 5)]
    assert team.counter.spent == 5


async def test_request_that_was_never_sent_is_not_charged_after_recovery(
    store: LiveStore, cast: Cast
) -> None:
    """Its reservation outlives the loss; who does not end it has it charged in full."""
    team = await bench(store, cast.organization)
    held = await team.reserve(7)
    restart_the_store()
    await store.release(held.id, otherwise=replace(held.event(0), admitted_ms=0, is_unsent=True))

    reopened(store)
    store.unconfirmed.begin_generation()
    await store.resend()
    storekeeper.sweep(generation=store.generation, alive=list)
    record_everything()

    assert sum(amount for _, amount in rows_of(held.id)) == 0


async def test_versions_are_those_of_postgres_from_the_first_request_on(
    store: LiveStore, cast: Cast
) -> None:
    storekeeper.store().hset(f"{TAG}ver", str(cast.organization.pk), 10**6)
    restart_the_store()

    reopened(store)

    known = storekeeper.store().hgetall(f"{TAG}ver")
    assert {int(scope): int(version) for scope, version in known.items()} == dict(
        ConfigVersion.objects.values_list("scope", "version")
    )


async def test_crash_in_the_midst_begins_again_at_the_first_step(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    before = partition().generation
    restart_the_store()

    def crash(**_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(storekeeper, "begin_store", crash)
        with pytest.raises(ConnectionError):
            recovery.ensure_open(now=now())
    opened = reopened(store)

    assert opened.generation == before + 2
    assert rows_of(event.id) == [("usage", 5)]


async def test_recorder_of_the_lost_store_is_fenced(store: LiveStore, cast: Cast) -> None:
    fenced = partition()
    restart_the_store()
    reopened(store)
    team = await bench(store, cast.organization)
    event = await team.spend(5)

    with pytest.raises((recorder.LostRace, storekeeper.Closed)):
        recorder.record_next(partition=fenced, now=now(), count=1_000)
    with pytest.raises(storekeeper.Closed):
        recorder.tell_store(fenced)

    assert rows_of(event.id) == []


async def test_nothing_has_drifted_after_recovery(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    await team.spend(5)
    await team.reserve(7)
    sweep_as_dead(await team.reserve(9))
    restart_the_store()

    reopened(store)
    await load(store, team.context.limits)
    await team.spend(1)

    assert (team.counter.spent, team.counter.reserved) == (5 + 9 + 1, 7)
    assert verification.verify().differences == ()


def test_crash_before_the_store_opens_goes_on_in_the_same_generation(
    store: LiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = partition().generation
    restart_the_store()

    def crash(**_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(storekeeper, "open_store", crash)
        with pytest.raises(ConnectionError):
            recovery.ensure_open(now=now())
    opened = reopened(store)

    assert opened.generation == before + 1
    assert storekeeper.is_open(opened)


def test_lost_store_opens_when_every_living_process_has_handed_in_what_it_holds(
    living: Member,
) -> None:
    restart_the_store()

    with pytest.raises(MembersJoining):
        recovery.ensure_open(now=now(), alive=lambda: [living.id])
    begun = partition()
    closed = storekeeper.is_open(begun)
    Member.objects.filter(id=living.id).update(generation=begun.generation)
    recovery.ensure_open(now=now(), alive=lambda: [living.id])

    assert not closed
    assert storekeeper.is_open(partition())
    assert partition().generation == begun.generation


def test_process_that_has_not_renewed_in_time_is_not_alive(living: Member) -> None:
    alive = recovery.alive_members()
    Member.objects.filter(id=living.id).update(renewed_at=Now() - timedelta(seconds=31))

    later = recovery.alive_members()

    assert living.id in alive
    assert living.id not in later


def test_store_that_may_forget_a_counter_is_not_opened() -> None:
    restart_the_store()
    storekeeper.store().config_set("maxmemory-policy", "allkeys-lru")

    with pytest.raises(Evicting, match="allkeys-lru"):
        recovery.ensure_open(now=now())

    assert not storekeeper.is_open(partition())


def _empty_the_store() -> None:
    """FLUSHALL for the partition's keys; other users of the server are left alone."""
    for key in list(storekeeper.store().scan_iter(match=f"{TAG}*", count=1_000)):
        storekeeper.store().delete(key)
