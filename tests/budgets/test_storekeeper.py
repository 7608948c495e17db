"""The recorder's side of the live store."""

import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import redis
from django.conf import settings

from budgets import scripts, storekeeper
from budgets.livestore import LiveStore
from budgets.models import ConfigVersion, Partition
from budgets.money import Units
from budgets.periods import FOREVER
from budgets.scripts import TAG
from budgets.storekeeper import Counter, NotQuiet
from spend import recorder
from tests.budgets.support import (
    DOLLAR,
    Bench,
    account,
    bench,
    context,
    entries_of,
    is_loaded,
    partition,
    record_everything,
    store_of_another_run,
)
from tests.conftest import Cast

pytestmark = pytest.mark.usefixtures("alone")


def member_of(store: LiveStore) -> uuid.UUID:
    return uuid.UUID(store._member)


def sweep(*alive: LiveStore) -> int:
    members = [member_of(each) for each in alive]
    return storekeeper.sweep(generation=partition().generation, alive=lambda: members)


# --- Sweeping ----------------------------------------------------------------------------


async def test_process_that_joins_while_a_sweep_runs_is_not_taken_for_dead(
    store: LiveStore, other_store: LiveStore, cast: Cast
) -> None:
    """Who is alive is asked after the reservations are read."""
    team = await bench(other_store, cast.organization)
    held = await team.reserve(5)
    asked: list[bool] = []

    def alive() -> list[uuid.UUID]:
        asked.append(storekeeper.is_reserved(held.id))
        return [member_of(other_store), member_of(store)]

    storekeeper.sweep(generation=partition().generation, alive=alive)

    assert asked == [True]
    assert storekeeper.is_reserved(held.id)


async def test_reservation_past_its_deadline_is_settled_as_an_orphan_at_what_it_held(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    overdue = await team.reserve(DOLLAR, seconds=0, orphan=b"orphan")
    kept = await team.reserve(5)

    sweep(store)

    (entry,) = entries_of(overdue.id)
    assert (entry.kind, entry.amount, entry.payload) == ("orphan", DOLLAR, b"orphan")
    assert storekeeper.is_reserved(kept.id)
    assert not storekeeper.is_reserved(overdue.id)
    assert (team.counter.spent, team.counter.reserved) == (DOLLAR, 5)


async def test_reservation_of_a_process_that_is_gone_is_swept_before_its_deadline(
    store: LiveStore, other_store: LiveStore, cast: Cast
) -> None:
    mine = await bench(store, cast.organization)
    theirs = Bench(other_store, mine.account, mine.context)
    kept, gone = await mine.reserve(3), await theirs.reserve(5)

    sweep(store)

    assert [entry.kind for entry in entries_of(gone.id)] == ["orphan"]
    assert storekeeper.is_reserved(kept.id)
    assert (mine.counter.spent, mine.counter.reserved) == (5, 3)


async def test_sweeping_twice_charges_once(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    await team.reserve(5, seconds=0)

    swept = [sweep(store), sweep(store)]

    assert swept[0] >= 1
    assert swept[1] == 0
    assert team.counter.spent == 5


async def test_what_is_settled_between_look_and_sweep_is_not_charged_twice(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(5)
    monkeypatch.setattr(storekeeper, "_overdue", lambda: {held.id})
    await team.settle(held, 2)

    sweep(store)

    assert [entry.kind for entry in entries_of(held.id)] == ["usage"]
    assert (team.counter.spent, team.counter.reserved) == (2, 0)


async def test_alive_and_in_time_is_kept_even_if_it_was_looked_at(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(5)
    monkeypatch.setattr(storekeeper, "_overdue", lambda: {held.id})

    sweep(store)

    assert storekeeper.is_reserved(held.id)


# --- Mirror and reload -------------------------------------------------------------------


async def test_mirror_trims_the_stream_up_to_the_position_and_not_beyond(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    record_everything()
    events = [await team.spend(n) for n in (1, 2, 3)]
    entries = entries_of(*(event.id for event in events))

    recorder.record_next(partition=partition(), now=datetime.now(UTC), count=2)

    assert storekeeper.read_stream(after="0-0", count=10) == entries[2:]


async def test_mirrored_position_and_revision_never_fall(store: LiveStore) -> None:
    current = partition()
    storekeeper.mirror(
        generation=store.generation, position=current.position, revision=current.revision
    )

    storekeeper.mirror(generation=store.generation, position="0-1", revision=0)

    position, revision = storekeeper.store().hmget(f"{TAG}mark", "position", "revision")
    assert (position.decode(), int(revision)) == (current.position, current.revision)


async def test_mirror_without_a_revision_leaves_the_one_that_is_there(store: LiveStore) -> None:
    current = partition()
    storekeeper.mirror(
        generation=store.generation, position=current.position, revision=current.revision
    )

    storekeeper.mirror(generation=store.generation, position=current.position, revision=None)

    assert int(storekeeper.store().hget(f"{TAG}mark", "revision")) == current.revision


async def test_reload_drops_the_counters_of_the_accounts_it_names_only(
    store: LiveStore, cast: Cast
) -> None:
    named, other = await bench(store, cast.organization), await bench(store, cast.organization)

    storekeeper.reload(
        generation=store.generation, revision=partition().revision, accounts=[named.account.id]
    )

    assert not is_loaded(named.account)
    assert is_loaded(other.account)


async def test_script_that_the_store_has_forgotten_is_loaded_again(store: LiveStore) -> None:
    storekeeper.store().script_flush()

    outcome = storekeeper._run(scripts.RAISE_VERSIONS, store.generation)

    assert outcome == b"raised"


# --- Versions ----------------------------------------------------------------------------


def test_versions_of_all_scopes_are_published_or_of_those_that_are_named(cast: Cast) -> None:
    ours, theirs = cast.organization.pk, cast.outsider.pk
    storekeeper.store().hdel(f"{TAG}ver", str(ours), str(theirs))

    storekeeper.publish_versions(scopes=[ours])
    after_one = storekeeper.store().hmget(f"{TAG}ver", str(ours), str(theirs))
    storekeeper.publish_versions()
    after_all = storekeeper.store().hmget(f"{TAG}ver", str(ours), str(theirs))

    kept = dict(ConfigVersion.objects.values_list("scope", "version"))
    assert after_one == [str(kept[ours]).encode(), None]
    assert after_all == [str(kept[ours]).encode(), str(kept[theirs]).encode()]


# --- Open or closed ----------------------------------------------------------------------


def test_store_is_open_only_as_the_one_that_postgres_knows() -> None:
    current = partition()
    newer = Partition(generation=current.generation + 1, run_id=current.run_id)
    never_opened = Partition(generation=0, run_id="")

    with store_of_another_run():
        of_another_run = storekeeper.is_open(current)

    assert storekeeper.is_open(current)
    assert not of_another_run
    assert not storekeeper.is_open(newer)
    assert not storekeeper.is_open(never_opened)


def test_at_most_one_recorder_holds_the_lock() -> None:
    """The fixture holds it by another connection, as another recorder would."""
    with storekeeper.partition_lock() as held:
        assert not held

    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as onlooker:
        row = onlooker.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = %s::bigint::oid",
            [storekeeper._LOCK_NAMESPACE],
        ).fetchone()
    assert row == (1,)


def test_eviction_policy_is_told_or_empty_where_the_server_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str) -> None:
        raise redis.ResponseError("unknown command 'CONFIG'")

    told = storekeeper.evicts()
    monkeypatch.setattr(storekeeper.store(), "config_get", refuse)
    untold = storekeeper.evicts()

    assert told == "noeviction"
    assert not untold


# --- Reading -----------------------------------------------------------------------------


async def test_view_shows_stream_counters_and_reservations_of_one_instant(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    event = await team.spend(7)
    held = await team.reserve(5)

    view = storekeeper.view()

    (reservation,) = [each for each in view.reservations if each.id == held.id]
    assert view.counters[team.account.id] == [Counter(FOREVER, Units(7), Units(5), Units(5))]
    assert [entry.amount for entry in view.entries if entry.id == event.id] == [7]
    assert reservation.ceiling == 5
    assert reservation.accounts == tuple(each.id for each in team.context.path)
    assert reservation.deadline - reservation.admitted_at == timedelta(seconds=60)
    assert view.position == partition().position


async def test_view_is_refused_while_reservations_come_and_go(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = storekeeper.open_reservations()
    await (await bench(store, cast.organization)).reserve(5)
    monkeypatch.setattr(storekeeper, "open_reservations", lambda: before)

    with pytest.raises(NotQuiet):
        storekeeper.view()


async def test_account_that_is_not_loaded_has_no_counters(store: LiveStore, cast: Cast) -> None:
    free = account(cast.organization)
    await Bench(store, free, context(cast.organization, [free])).spend(5)

    assert storekeeper.counters_of([free.id]) == {free.id: []}
    assert storekeeper.counters_of([]) == {}


async def test_entry_tells_what_was_settled_when_and_on_which_accounts(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    before = datetime.now(UTC) - timedelta(milliseconds=1)

    event = await team.spend(7)

    (entry,) = entries_of(event.id)
    assert before <= entry.admitted_at <= datetime.now(UTC)
    assert entry.path == tuple(each.id for each in team.context.path)
    assert (entry.amount, entry.payload) == (7, event.payload)


async def test_waiting_for_an_entry_ends_with_the_entry_or_the_time_out(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    record_everything()
    after = partition().position
    began = datetime.now(UTC)
    storekeeper.wait_for_entry(after=after, timeout_ms=50)
    waited = datetime.now(UTC) - began

    await team.spend(1)
    began = datetime.now(UTC)
    storekeeper.wait_for_entry(after=after, timeout_ms=5_000)

    assert waited >= timedelta(milliseconds=45)
    assert datetime.now(UTC) - began < timedelta(seconds=2)
