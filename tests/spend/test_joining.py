"""
A lost store is rebuilt beside living gateway processes: what they hold, and nothing else, is in
it when it opens. Each case is a schedule that breaks a looser protocol.
"""

import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from django.conf import settings
from django.db.models.functions import Now

from budgets import periods, storekeeper
from budgets.errors import BudgetBusy, BudgetExceeded, CountersMissing, StoreClosed
from budgets.livestore import LiveStore
from budgets.models import Member
from budgets.scripts import TAG
from spend import events, ledger, recovery, verification
from spend.events import Outcome
from spend.models import SpendEvent
from tests.budgets.support import (
    Bench,
    bench,
    entries_of,
    event_of,
    load,
    new_id,
    partition,
    record_everything,
)
from tests.budgets.test_livestore import refusal_of
from tests.conftest import Cast
from tests.spend.support import now, rows_of

pytestmark = pytest.mark.usefixtures("alone", "orm_in_async")

NAME = "test of joining"


@pytest.fixture(autouse=True)
def open_store_is_left_behind() -> Iterator[None]:
    yield
    Member.objects.filter(name=NAME).delete()
    ensure_open()


def ensure_open() -> None:
    """As the recorder does; processes of other tests are not waited for."""
    members = Member.objects.filter(name=NAME)
    recovery.ensure_open(now=now(), alive=lambda: list(members.values_list("id", flat=True)))


@pytest.fixture
def members(store: LiveStore, other_store: LiveStore) -> list[LiveStore]:
    for each in (store, other_store):
        Member.objects.create(
            id=uuid.UUID(each._member), name=NAME, generation=each.generation, renewed_at=Now()
        )
    return [store, other_store]


async def settled(ids: Sequence[str]) -> Collection[str]:
    return {str(id) for id in ledger.true_rows([uuid.UUID(id) for id in ids])}


async def recorded(ids: Sequence[str]) -> Collection[str]:
    return {str(id) for id in ledger.recorded_requests([uuid.UUID(id) for id in ids])}


def flush() -> None:
    store = storekeeper.store()
    store.delete(*store.scan_iter(match=f"{TAG}*", count=1_000))


def begin() -> int:
    """Begin a new generation; it does not open, since members live."""
    with pytest.raises(recovery.MembersJoining):
        ensure_open()
    return partition().generation


async def join(store: LiveStore, generation: int) -> None:
    await store.join(generation=generation, settled=settled, recorded=recorded)
    Member.objects.filter(id=store._member).update(generation=generation)


async def reopen(members: Sequence[LiveStore]) -> None:
    generation = begin()
    for member in members:
        await join(member, generation)
    ensure_open()


async def test_requests_in_flight_are_held_again_in_an_emptied_store(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization, limit=100)
    held = await team.reserve(60)

    flush()
    await reopen(members)
    await load(members[0], team.context.limits)
    refusal = await refusal_of(team.reserve(41))

    assert isinstance(refusal, BudgetBusy)
    assert (team.counter.spent, team.counter.reserved) == (0, 60)
    await team.settle(held, 7)
    assert (team.counter.spent, team.counter.reserved) == (7, 0)


async def test_events_that_were_settled_and_not_recorded_are_sent_again(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization, limit=100)
    event = await team.spend(90)

    flush()
    await reopen(members)
    await load(members[0], team.context.limits)
    refusal = await refusal_of(team.reserve(11))
    record_everything()

    assert isinstance(refusal, BudgetExceeded)
    assert rows_of(event.id) == [("usage", 90)]
    assert verification.verify().differences == ()


async def test_event_that_the_ledger_has_is_not_sent_again(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    event = await team.spend(5)
    record_everything()

    flush()
    await reopen(members)
    await load(members[0], team.context.limits)

    assert entries_of(event.id) == []
    assert team.counter.spent == 5


async def test_store_stays_closed_to_new_requests_until_all_have_joined(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    elsewhere = Bench(members[1], team.account, team.context)
    held = await elsewhere.reserve(7)
    flush()
    generation = begin()

    await join(members[0], generation)
    with pytest.raises(StoreClosed):
        await team.reserve(1)
    with pytest.raises(recovery.MembersJoining):
        ensure_open()
    await join(members[1], generation)
    ensure_open()
    await load(members[0], team.context.limits)

    assert team.counter.reserved == 7
    await elsewhere.settle(held, 3)
    assert team.counter.spent == 3


async def test_dead_process_is_not_waited_for_and_its_reservation_becomes_an_orphan(
    members: list[LiveStore], cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(members[0], cast.organization)
    elsewhere = Bench(members[1], team.account, team.context)
    held = await elsewhere.reserve(7)
    Member.objects.filter(id=members[1]._member).delete()
    storekeeper.store().hset(f"{TAG}gen", "run_id", "0" * 40)  # restarted, its data kept

    generation = begin()
    await join(members[0], generation)
    ensure_open()
    storekeeper.sweep(generation=generation, alive=lambda: [uuid.UUID(members[0]._member)])
    record_everything()

    assert rows_of(held.id) == [("orphan", 7)]


async def test_reservation_that_a_rolled_back_store_has_again_is_dropped(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    held = await team.reserve(60)
    kept = storekeeper.store().hgetall(f"{TAG}r:{held.id}")
    event = await team.settle(held, 5)
    record_everything()

    # As a replica that lagged would have it: the reservation, and nothing that came after.
    flush()
    storekeeper.store().hset(f"{TAG}r:{held.id}", mapping=kept)
    storekeeper.store().zadd(f"{TAG}open", {held.id: 9_999_999_999_999})
    await reopen(members)
    await load(members[0], team.context.limits)

    assert (team.counter.spent, team.counter.reserved) == (5, 0)
    assert rows_of(event.id) == [("usage", 5)]


async def test_released_request_is_not_held_again(members: list[LiveStore], cast: Cast) -> None:
    team = await bench(members[0], cast.organization)
    held = await team.reserve(60)
    kept = storekeeper.store().hgetall(f"{TAG}r:{held.id}")
    await team.release(held)

    flush()
    storekeeper.store().hset(f"{TAG}r:{held.id}", mapping=kept)
    storekeeper.store().zadd(f"{TAG}open", {held.id: 9_999_999_999_999})
    await reopen(members)
    await load(members[0], team.context.limits)

    assert team.counter.reserved == 0


async def test_settle_while_the_store_was_lost_is_handed_in(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    held = await team.reserve(60)
    flush()

    event = await team.settle(held, 9)
    await reopen(members)
    await load(members[0], team.context.limits)
    record_everything()

    assert (team.counter.spent, team.counter.reserved) == (9, 0)
    assert rows_of(event.id) == [("usage", 9)]


async def test_release_of_unknown_outcome_while_the_store_was_lost_charges_nothing(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    id = new_id()
    flush()

    await members[0].release(id, otherwise=event_of(id, 0, team.context, 0))
    await reopen(members)
    with pytest.raises(CountersMissing):
        await team.reserve(1)
    await load(members[0], team.context.limits)
    record_everything()

    assert (team.counter.spent, team.counter.reserved) == (0, 0)
    assert [amount for _, amount in rows_of(id)] == [0]


async def test_second_loss_while_members_join_begins_again(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    held = await team.reserve(60)
    event = await team.spend(5)
    flush()
    first = begin()
    await join(members[0], first)

    flush()
    second = begin()
    for member in members:
        await join(member, second)
    ensure_open()
    await load(members[0], team.context.limits)
    record_everything()

    assert second == first + 1
    assert (team.counter.spent, team.counter.reserved) == (5, 60)
    assert rows_of(event.id) == [("usage", 5)]
    await team.release(held)


async def test_joining_twice_changes_nothing(members: list[LiveStore], cast: Cast) -> None:
    team = await bench(members[0], cast.organization)
    await team.reserve(60)
    event = await team.spend(5)
    flush()
    generation = begin()

    for _ in range(2):
        for member in members:
            await join(member, generation)
    ensure_open()
    await load(members[0], team.context.limits)
    record_everything()

    assert (team.counter.spent, team.counter.reserved) == (5, 60)
    assert rows_of(event.id) == [("usage", 5)]


async def test_process_that_hung_through_the_recovery_hands_in_late(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    elsewhere = Bench(members[1], team.account, team.context)
    event = await elsewhere.spend(5)
    held = await elsewhere.reserve(60)
    Member.objects.filter(id=members[1]._member).delete()
    flush()
    generation = begin()
    await join(members[0], generation)
    ensure_open()

    await join(members[1], generation)
    await load(members[0], team.context.limits)
    await elsewhere.settle(held, 7)
    record_everything()

    assert (team.counter.spent, team.counter.reserved) == (12, 0)
    assert rows_of(event.id) == [("usage", 5)]
    assert verification.verify().differences == ()


async def test_stream_ids_that_go_backwards_confirm_nothing_that_is_not_recorded(
    members: list[LiveStore], cast: Cast
) -> None:
    storekeeper.store().xadd(storekeeper.STREAM, {"x": "y"}, id="9999999999998-0")
    storekeeper.store().xtrim(storekeeper.STREAM, maxlen=0)
    team = await bench(members[0], cast.organization)
    event = await team.spend(5)  # its id in the old stream is beyond any of the new one

    flush()
    await reopen(members)
    await members[0].resend()
    before = [each.id for each in members[0].unconfirmed]
    record_everything()
    await members[0].resend()

    assert before == [event.id]
    assert len(members[0].unconfirmed) == 0
    assert rows_of(event.id) == [("usage", 5)]


async def test_event_that_is_sent_again_keeps_the_time_of_its_admission(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    held = await team.reserve(60)
    event = await team.settle(held, 5)

    flush()
    await reopen(members)
    record_everything()

    (row,) = SpendEvent.objects.filter(id=event.id)
    assert periods.milliseconds(row.admitted_at) == held.admission.admitted_ms


async def test_request_that_was_never_sent_takes_its_orphan_back_however_late_it_is(
    members: list[LiveStore], cast: Cast
) -> None:
    """The gateway was cut off and never learned when it was admitted; its tombstone is gone."""
    team = await bench(members[0], cast.organization)
    held = await team.reserve(60)
    storekeeper.sweep(generation=partition().generation, alive=list)
    record_everything()
    storekeeper.store().delete(f"{TAG}t:{held.id}")

    described = replace(events.decode(held.event(0).payload).described, reserved_units=0)
    nothing = events.encode(described, Outcome(status=0, cost=Decimal(0), usage={}))
    unsent = replace(held.event(0, payload=nothing), admitted_ms=0, is_unsent=True)
    await members[0].release(held.id, otherwise=unsent)
    record_everything()

    assert sum(amount for _, amount in rows_of(held.id)) == 0
    assert verification.verify().differences == ()


async def test_recorder_that_wakes_up_late_drops_nothing_of_a_store_that_another_has_begun(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    event = await team.spend(5)

    with pytest.raises(storekeeper.Closed):
        storekeeper.forget_what_is_recorded([])
    with pytest.raises(storekeeper.Closed):
        storekeeper.close_store(generation=partition().generation - 1)

    assert len(entries_of(event.id)) == 1
    assert storekeeper.is_open(partition())


async def test_request_that_was_taken_for_an_orphan_is_not_held_beside_its_charge(
    members: list[LiveStore], cast: Cast
) -> None:
    team = await bench(members[0], cast.organization)
    held = await team.reserve(60)
    storekeeper.sweep(generation=partition().generation, alive=list)
    record_everything()
    flush()

    await reopen(members)
    await load(members[0], team.context.limits)
    before = (team.counter.spent, team.counter.reserved)
    await team.settle(held, 7)
    record_everything()
    await load(members[0], team.context.limits)

    assert before == (60, 0)
    assert (team.counter.spent, team.counter.reserved) == (7, 0)


def test_watcher_takes_nobody_for_dead_before_it_has_watched_for_a_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = Member.objects.create(id=uuid.uuid4(), name="gone", renewed_at="2026-01-01T00:00Z")
    clock = Clock()
    monkeypatch.setattr("spend.recovery.time.monotonic", clock)
    judge = recovery.Judge()

    early = judge.alive()
    clock.watch(judge, seconds=settings.GATEWAY_MEMBER_SECONDS)
    late = judge.alive()
    clock.now += 10  # Postgres, or the watcher itself, was away
    judge.beat()
    after_a_gap = judge.alive()

    assert (gone.id in early, gone.id in late, gone.id in after_a_gap) == (True, False, True)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def watch(self, judge: recovery.Judge, *, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            judge.beat()
