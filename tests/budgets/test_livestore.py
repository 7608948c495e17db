"""The live store's promises, on the real scripts and a real server."""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from budgets import livestore, scripts, snapshots, storekeeper
from budgets.contexts import Context, Limit, PathAccount
from budgets.errors import (
    BudgetBusy,
    BudgetExceeded,
    CountersMissing,
    LimitReached,
    OutcomeUnknown,
    ReservationEnded,
    StaleContext,
    StoreClosed,
    StoreFull,
)
from budgets.livestore import COUNTER_IDLE_MS, UNRECORDED_EVENTS_MAX, LiveStore
from budgets.models import ConfigVersion
from budgets.periods import FOREVER, Period
from budgets.scripts import TAG
from spend import recorder, recovery, verification
from tests.budgets.support import (
    DOLLAR,
    SECONDS,
    Bench,
    Held,
    account,
    bench,
    context,
    counted,
    counter_of,
    entries_of,
    event_of,
    following,
    is_loaded,
    limit_on,
    load,
    new_id,
    partition,
    record_everything,
    running,
    store_of_another_run,
    versions,
)
from tests.conftest import Cast

BEYOND_DOUBLES = 2**53 + 1


async def refusal_of(attempt: Awaitable[object]) -> LimitReached:
    with pytest.raises(LimitReached) as refusal:
        await attempt
    return refusal.value


# --- Limits ------------------------------------------------------------------------------


async def test_parallel_calls_never_reserve_more_than_the_limit(
    store: LiveStore, other_store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    same = Bench(other_store, team.account, team.context)

    outcomes = await asyncio.gather(
        *(each.reserve(DOLLAR) for each in [team, same] * 25), return_exceptions=True
    )

    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, BudgetBusy) for outcome in outcomes) == 40
    assert (team.counter.spent, team.counter.reserved) == (0, 10 * DOLLAR)


async def test_what_fits_to_the_last_unit_is_admitted_and_one_unit_more_is_not(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=100)
    await team.spend(40)
    await team.reserve(35)

    refusal = await refusal_of(team.reserve(26))
    await team.reserve(25)

    assert isinstance(refusal, BudgetBusy)
    assert (team.counter.spent, team.counter.reserved) == (40, 60)


async def test_spent_limit_refuses_for_good_and_tells_its_figures(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=100)
    await team.spend(60)
    await team.reserve(10)

    refusal = await refusal_of(team.reserve(41))

    assert isinstance(refusal, BudgetExceeded)
    assert not refusal.retryable
    assert (refusal.limit_index, refusal.used, refusal.reserved, refusal.needed) == (0, 60, 10, 41)


async def test_held_limit_refuses_for_now_and_tells_its_figures(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=100)
    await team.spend(60)
    held = await team.reserve(10)

    refusal = await refusal_of(team.reserve(40))
    await team.release(held)
    await team.reserve(40)

    assert isinstance(refusal, BudgetBusy)
    assert refusal.retryable
    assert (refusal.limit_index, refusal.used, refusal.reserved, refusal.needed) == (0, 60, 10, 40)


async def test_limit_that_is_spent_is_named_before_a_nearer_one_that_is_only_held(
    store: LiveStore, cast: Cast
) -> None:
    key, team, path = await _two_limits(store, cast, of_key=100, of_team=50)
    await Bench(store, team, context(cast.organization, [team])).spend(50)
    held = Bench(store, key, context(cast.organization, [key]))
    await held.reserve(100)

    refusal = await refusal_of(Bench(store, key, path).reserve(1))

    assert isinstance(refusal, BudgetExceeded)
    assert refusal.limit_index == 1


async def test_nothing_is_reserved_anywhere_if_one_account_refuses(
    store: LiveStore, cast: Cast
) -> None:
    key, team, path = await _two_limits(store, cast, of_key=100, of_team=10)

    await refusal_of(Bench(store, key, path).reserve(11))

    assert (counter_of(key).reserved, counter_of(team).reserved) == (0, 0)
    assert not any(each.accounts[0] == key.id for each in storekeeper.view().reservations)


async def test_strict_order_holds_on_many_accounts_under_concurrency(
    store: LiveStore, cast: Cast
) -> None:
    shared, other = account(cast.organization, "shared"), account(cast.organization, "other")
    keys = [account(cast.organization, f"key {n}") for n in range(4)]
    limits = {each.id: limit_on(each, 300) for each in (shared, *keys)}
    await load(store, [*limits.values(), limit_on(other, 10**6)])
    benches = [
        Bench(
            store,
            key,
            context(cast.organization, [key, shared], [limits[key.id], limits[shared.id]]),
        )
        for key in keys
    ]

    outcomes = await asyncio.gather(
        *(each.reserve(100) for each in benches * 5), return_exceptions=True
    )

    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 3
    assert counter_of(shared).reserved == 300
    assert sum(counter_of(key).reserved for key in keys) == 300
    assert counter_of(other).reserved == 0


async def test_every_account_of_the_path_is_debited_alike(store: LiveStore, cast: Cast) -> None:
    key, team, path = await _two_limits(store, cast, of_key=100, of_team=100)
    both = Bench(store, key, path)
    held = await both.reserve(30)
    reserved = counter_of(key).reserved, counter_of(team).reserved

    await both.settle(held, 7)

    assert reserved == (30, 30)
    assert [(c.spent, c.reserved) for c in map(counter_of, (key, team))] == [(7, 0), (7, 0)]


async def test_account_without_limits_never_refuses_and_gets_no_counter(
    store: LiveStore, cast: Cast
) -> None:
    free = account(cast.organization)
    unlimited = Bench(store, free, context(cast.organization, [free]))

    await unlimited.spend(10**17)
    admission = (await unlimited.reserve(10**17)).admission

    assert admission.standings == ()
    assert not is_loaded(free)


async def test_limit_of_zero_refuses_all_that_may_cost_and_admits_what_cannot(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=0)

    refusal = await refusal_of(team.reserve(1))
    await team.reserve(0)

    assert isinstance(refusal, BudgetExceeded)


async def test_admission_tells_how_every_limit_stands_after_it(
    store: LiveStore, cast: Cast
) -> None:
    key, team, path = await _two_limits(store, cast, of_key=100, of_team=200)
    await Bench(store, team, context(cast.organization, [team])).spend(5)

    admission = (await Bench(store, key, path).reserve(30)).admission

    assert [(s.used, s.reserved) for s in admission.standings] == [(0, 30), (5, 30)]


async def test_reserving_twice_under_one_id_reserves_once(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    id = new_id()

    first, second = await team.reserve(DOLLAR, id=id), await team.reserve(DOLLAR, id=id)

    assert first.admission.admitted_ms == second.admission.admitted_ms
    assert team.counter.reserved == DOLLAR


async def test_one_id_at_a_full_limit_is_still_the_same_reservation(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=DOLLAR)
    held = await team.reserve(DOLLAR)

    again = await team.reserve(DOLLAR, id=held.id)

    assert again.admission.admitted_ms == held.admission.admitted_ms
    assert team.counter.reserved == DOLLAR


# --- Release and settle ------------------------------------------------------------------


async def test_release_frees_what_was_held_and_emits_nothing(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)

    await team.release(held)
    await team.release(held)

    assert (team.counter.spent, team.counter.reserved) == (0, 0)
    assert not await store.is_reserved(held.id)
    assert entries_of(held.id) == []


async def test_release_of_what_the_store_does_not_know_settles_nothing_under_its_id(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    id = new_id()

    await store.release(id, otherwise=event_of(id, 0, team.context, _now_ms()))

    assert [entry.amount for entry in entries_of(id)] == [0]
    with pytest.raises(ReservationEnded):
        await team.reserve(DOLLAR, id=id)


async def test_settle_replaces_the_reservation_by_the_true_cost_and_emits_the_event(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)

    await team.settle(held, 123_456_789, payload=b"\x00\xff payload")

    (entry,) = entries_of(held.id)
    assert (team.counter.spent, team.counter.reserved) == (123_456_789, 0)
    assert (entry.amount, entry.kind, entry.payload) == (123_456_789, "usage", b"\x00\xff payload")
    assert entry.path == tuple(each.id for each in team.context.path)
    assert not await store.is_reserved(held.id)


async def test_cost_above_the_reservation_is_settled_in_full(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization, limit=100)
    held = await team.reserve(100)

    await team.settle(held, 250)
    refusal = await refusal_of(team.reserve(1))

    assert team.counter.spent == 250
    assert isinstance(refusal, BudgetExceeded)
    assert refusal.used == 250


async def test_settling_twice_counts_once(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)

    await asyncio.gather(*(store.settle(held.event(5)) for _ in range(5)))

    assert team.counter.spent == 5
    assert len(entries_of(held.id)) == 1


async def test_settle_without_reservation_counts_in_full(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    event = event_of(new_id(), 77, team.context, _now_ms())

    await store.settle(event)

    assert (team.counter.spent, team.counter.reserved) == (77, 0)
    assert len(entries_of(event.id)) == 1


async def test_settle_needs_no_counter(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    _drop(team.account)

    await team.settle(held, 42)
    was_loaded = is_loaded(team.account)
    await load(store, team.context.limits)

    assert not was_loaded
    assert (team.counter.spent, team.counter.reserved) == (42, 0)


async def test_settle_after_release_changes_nothing(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    await team.release(held)

    await team.settle(held, 5)

    assert team.counter.spent == 0
    assert entries_of(held.id) == []


@pytest.mark.parametrize("ending", ["release", "settle", "sweep"])
async def test_reserve_after_the_end_of_its_id_is_refused(
    ending: str, store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    if ending == "release":
        await team.release(held)
    elif ending == "settle":
        await team.settle(held, 0)
    else:
        sweep_as_dead(held)

    with pytest.raises(ReservationEnded):
        await team.reserve(DOLLAR, id=held.id)

    assert team.counter.reserved == 0


async def test_amounts_that_no_double_holds_are_exact(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization, limit=10**18)
    held = [await team.reserve(BEYOND_DOUBLES) for _ in range(3)]
    reserved = team.counter.reserved

    await team.settle(held[0], BEYOND_DOUBLES)
    await team.settle(held[1], BEYOND_DOUBLES + 2)

    assert reserved == 3 * BEYOND_DOUBLES
    assert (team.counter.spent, team.counter.reserved) == (2 * BEYOND_DOUBLES + 2, BEYOND_DOUBLES)
    assert entries_of(held[1].id)[0].amount == BEYOND_DOUBLES + 2


async def test_amounts_that_no_double_holds_are_loaded_exactly(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=10**18)
    await team.spend(BEYOND_DOUBLES)
    record_everything()
    await team.spend(BEYOND_DOUBLES)
    await team.reserve(BEYOND_DOUBLES)
    _drop(team.account)

    await load(store, team.context.limits)

    assert (team.counter.spent, team.counter.reserved) == (2 * BEYOND_DOUBLES, BEYOND_DOUBLES)


async def test_swept_amounts_that_no_double_holds_are_exact(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization, limit=10**18)
    held = await team.reserve(BEYOND_DOUBLES)

    sweep_as_dead(held)

    assert (team.counter.spent, team.counter.reserved) == (BEYOND_DOUBLES, 0)


# --- Orphans -----------------------------------------------------------------------------


async def test_settle_after_an_orphan_counts_and_the_ledger_takes_the_orphan_back(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    sweep_as_dead(held)

    await team.settle(held, 5)
    before = team.counter.spent
    record_everything()
    await load(store, team.context.limits)

    assert before == DOLLAR + 5
    assert (team.counter.spent, team.counter.reserved) == (5, 0)


async def test_release_of_a_swept_request_takes_the_charge_back(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    sweep_as_dead(held)
    record_everything()

    await team.release(held)
    record_everything()
    await load(store, team.context.limits)

    assert (team.counter.spent, team.counter.reserved) == (0, 0)


async def test_release_of_a_swept_request_needs_not_know_when_it_was_admitted(
    store: LiveStore, cast: Cast
) -> None:
    """After a reserve of unknown outcome the gateway has no admission time to give."""
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    sweep_as_dead(held)
    record_everything()

    unsent = event_of(held.id, 0, team.context, 0)
    await store.release(held.id, otherwise=unsent)
    record_everything()
    await load(store, team.context.limits)

    assert (team.counter.spent, team.counter.reserved) == (0, 0)


# --- Late packets ------------------------------------------------------------------------


async def test_late_reserve_does_nothing(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    id = new_id()
    await _run_late(store)

    with pytest.raises(OutcomeUnknown):
        await team.reserve(DOLLAR, id=id)

    assert team.counter.reserved == 0
    assert not await store.is_reserved(id)


async def test_late_settle_and_release_do_nothing_and_the_event_is_kept(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held, unsent = await team.reserve(DOLLAR), await team.reserve(DOLLAR)

    outcomes = [
        storekeeper._run(scripts.SETTLE, store.generation, _now_ms() - 1, held.id, 5,
                         held.admission.admitted_ms, held.context.path_text, "event", 1_000),
        storekeeper._run(scripts.RELEASE, store.generation, _now_ms() - 1, unsent.id, 1_000),
    ]  # fmt: skip

    assert outcomes == [b"late", b"late"]
    assert (team.counter.spent, team.counter.reserved) == (0, 2 * DOLLAR)


async def test_gateway_whose_clock_lags_behind_the_store_measures_it_anew(
    store: LiveStore, cast: Cast
) -> None:
    """The store's clock was set, or the gateway's machine slept: that must not be for ever."""
    team = await bench(store, cast.organization)
    await _run_late(store)
    with pytest.raises(OutcomeUnknown):
        await team.reserve(DOLLAR)

    held = await team.reserve(DOLLAR)

    assert team.counter.reserved == DOLLAR
    assert await store.is_reserved(held.id)


async def test_settle_that_came_late_is_sent_again_and_counts_once(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    await _run_late(store)

    await team.settle(held, 5)
    await store.resend()

    assert (team.counter.spent, team.counter.reserved) == (5, 0)
    assert len(entries_of(held.id)) == 1


# --- Stale contexts ----------------------------------------------------------------------


@pytest.mark.parametrize("older", [{"organization": -1}, {"everybody": -1}])
async def test_context_of_an_older_version_is_refused(
    older: dict[str, int], store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    storekeeper.publish_versions()
    team.context = versions(team.context, **older)

    with pytest.raises(StaleContext):
        await team.reserve(DOLLAR)

    assert team.counter.reserved == 0


async def test_context_of_a_newer_version_raises_that_of_the_store(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    older, newer = team.context, versions(team.context, organization=+3)
    team.context = newer
    await team.reserve(DOLLAR)

    team.context = older

    with pytest.raises(StaleContext):
        await team.reserve(DOLLAR)


async def test_version_never_falls(store: LiveStore, cast: Cast) -> None:
    scope = cast.organization.pk
    storekeeper.publish_versions(scopes=[scope])
    known = ConfigVersion.objects.get(scope=scope).version

    storekeeper._run(scripts.RAISE_VERSIONS, store.generation, scope, known - 1)

    assert storekeeper.store().hget(f"{TAG}ver", str(scope)) == str(known).encode()


async def test_refused_request_does_not_raise_the_version_of_others(
    store: LiveStore, cast: Cast
) -> None:
    """Stale by the global version: the organization's is not taken over from such a context."""
    team = await bench(store, cast.organization)
    storekeeper.publish_versions()
    newer_and_older = versions(team.context, organization=+5, everybody=-1)
    with pytest.raises(StaleContext):
        await Bench(store, team.account, newer_and_older).reserve(1)

    await team.reserve(1)

    assert team.counter.reserved == 1


@pytest.mark.parametrize("shift", [timedelta(days=-1), timedelta(days=1)])
async def test_context_holds_only_within_its_validity_by_the_stores_clock(
    shift: timedelta, store: LiveStore, cast: Cast
) -> None:
    now = running(seconds_left=60)
    elsewhen = Period(now.start + shift, now.end + shift)
    of = account(cast.organization)
    limits = [limit_on(of, DOLLAR, period=elsewhen)]
    await load(store, limits)

    with pytest.raises(StaleContext):
        await Bench(store, of, context(cast.organization, [of], limits)).reserve(1)

    assert counter_of(of, elsewhen).reserved == 0


# --- Periods -----------------------------------------------------------------------------


async def test_gateway_whose_idea_of_the_clock_is_stale_asks_again_after_a_refusal(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    offset = await store.now_ms()
    assert offset
    assert store._clock_offset_ms is not None
    store._clock_offset_ms += 60_000
    ended = replace(team.context, valid_until_ms=1)

    with pytest.raises(StaleContext):
        await Bench(store, team.account, ended).reserve(1)
    now_ms = await store.now_ms()

    assert abs(now_ms - offset) < 30_000


async def test_settle_lands_in_the_period_of_its_admission(store: LiveStore, cast: Cast) -> None:
    of = account(cast.organization)
    old = running(seconds_left=0.3)
    new = following(old)
    before, after = (limit_on(of, 100, period=period) for period in (old, new))
    await load(store, [before, after])
    held = await Bench(store, of, context(cast.organization, [of], [before])).reserve(60)
    await asyncio.sleep(0.35)

    fresh = Bench(store, of, context(cast.organization, [of], [after]))
    await fresh.reserve(100)
    await store.settle(held.event(50))

    assert (counter_of(of, old).spent, counter_of(of, old).reserved) == (50, 0)
    assert (counter_of(of, new).spent, counter_of(of, new).reserved) == (0, 100)


async def test_counter_of_an_ended_period_is_loaded_with_what_was_admitted_in_it(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    old = running(seconds_left=0.2)
    free = Bench(store, of, context(cast.organization, [of]))
    await free.spend(7)
    await free.reserve(30)
    await asyncio.sleep(0.25)
    await free.spend(11)

    await load(store, [limit_on(of, 100, period=old), limit_on(of, 100, period=following(old))])

    assert (counter_of(of, old).spent, counter_of(of, old).reserved) == (7, 30)
    assert (counter_of(of, following(old)).spent, counter_of(of, following(old)).reserved) == (
        11,
        0,
    )


async def test_loading_drops_what_ended_long_ago_and_keeps_the_rest(
    store: LiveStore, cast: Cast
) -> None:
    of, idle = account(cast.organization), timedelta(milliseconds=COUNTER_IDLE_MS)
    now = datetime.now(UTC).replace(microsecond=0)
    ended = Period(now - timedelta(days=60), now - idle - timedelta(seconds=1))
    recent = Period(now - timedelta(days=60), now - idle + timedelta(seconds=60))
    await load(store, [limit_on(of, 1, period=period) for period in (ended, recent)])

    await load(store, [limit_on(of, 1)])

    periods = {each.period for each in storekeeper.counters_of([of.id])[of.id]}
    assert periods == {recent, FOREVER}


# --- Loading -----------------------------------------------------------------------------


async def test_missing_counters_are_named_by_the_index_of_their_limit(
    store: LiveStore, cast: Cast
) -> None:
    path = [account(cast.organization, f"{n}") for n in range(3)]
    limits = [limit_on(each, 100) for each in path]
    await load(store, limits[1:2])

    with pytest.raises(CountersMissing) as missing:
        await Bench(store, path[0], context(cast.organization, path, limits)).reserve(1)

    assert missing.value.limit_indexes == (0, 2)
    assert counter_of(path[1]).reserved == 0


async def test_counter_is_loaded_from_ledger_stream_and_reservations(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    await team.spend(1_000)
    record_everything()
    await team.spend(200)
    await team.reserve(30)
    _drop(team.account)

    await load(store, team.context.limits)

    assert (team.counter.spent, team.counter.reserved) == (1_200, 30)


async def test_loading_a_counter_that_is_there_changes_nothing(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    await team.spend(5)

    await load(store, team.context.limits)

    assert team.counter.spent == 5


async def test_event_that_is_recorded_and_not_yet_trimmed_is_loaded_once(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    with monkeypatch.context() as patched:
        patched.setattr(recorder, "tell_store", lambda partition: None)
        recorder.record_next(partition=partition(), now=datetime.now(UTC), count=1_000)
    _drop(team.account)

    await load(store, team.context.limits)

    assert entries_of(event.id) != []
    assert team.counter.spent == 5


async def test_total_read_before_the_recorded_position_moved_is_read_again(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    (old,) = snapshots.ledger_totals(counted(team.context.limits))
    await team.spend(5)
    record_everything()
    _drop(team.account)

    loaded = await store.load(old)

    assert not loaded
    assert not is_loaded(team.account)


async def test_total_of_an_older_revision_is_read_again(store: LiveStore, cast: Cast) -> None:
    of = account(cast.organization)
    (old,) = snapshots.ledger_totals(counted([limit_on(of, 100)]))
    current = partition()
    storekeeper.reload(generation=current.generation, revision=old.revision, accounts=[])
    older = replace(old, revision=old.revision - 1)

    assert not await store.load(older)
    assert await store.load(old)


async def test_loading_waits_while_the_recorder_is_far_behind(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    waiting = limit_on(account(cast.organization), 100)
    record_everything()
    path = context(cast.organization, [waiting.account])
    now = _now_ms()
    settles = [store.settle(event_of(new_id(), 1, path, now)) for _ in range(UNRECORDED_EVENTS_MAX)]
    await asyncio.gather(*settles)
    at_the_bound = await store.load(snapshots.ledger_totals(counted([waiting]))[0])
    _drop(waiting.account)

    await team.spend(1)
    above = await store.load(snapshots.ledger_totals(counted([waiting]))[0])
    record_everything(count=10_000)
    await load(store, [waiting])

    assert (at_the_bound, above) == (True, False)
    assert counter_of(waiting.account).spent == UNRECORDED_EVENTS_MAX


async def test_account_that_gets_a_limit_while_requests_run_counts_all_of_them(
    store: LiveStore, cast: Cast
) -> None:
    """Found by the model, trace 4: the second request settles with a context without the limit."""
    of = account(cast.organization)
    without = Bench(store, of, context(cast.organization, [of]))
    first, second = await without.reserve(10), await without.reserve(20)
    await without.settle(first, 3)

    await load(store, [limit_on(of, 100)])
    loaded = counter_of(of)
    await without.settle(second, 7)
    third = await without.reserve(40)

    assert (loaded.spent, loaded.reserved) == (3, 20)
    assert (counter_of(of).spent, counter_of(of).reserved) == (10, 40)
    assert third.admission.standings == ()


async def test_limit_that_is_removed_and_added_again_has_missed_nothing(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    await team.spend(5)
    without = Bench(store, team.account, context(cast.organization, [team.account]))

    await without.spend(6)
    held = await without.reserve(7)
    await team.settle(held, 8)

    assert (team.counter.spent, team.counter.reserved) == (19, 0)


async def test_total_of_an_older_generation_is_never_loaded_into_a_new_one(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the model, 15: a total read while recovery drains misses what was drained."""
    team = await bench(store, cast.organization)
    await team.spend(5)
    (old,) = snapshots.ledger_totals(counted(team.context.limits))
    monkeypatch.setattr(settings, "GATEWAY_MEMBER_SECONDS", 0)  # all are taken for dead
    storekeeper.close_store(generation=partition().generation)
    store.generation = recovery.ensure_open(now=datetime.now(UTC)).generation

    if not await store.load(old):
        await load(store, team.context.limits)

    spent = team.counter.spent
    _drop(team.account)
    assert spent == 5


# --- Closed and full ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["another generation", "another run"])
async def test_store_that_is_not_the_known_one_answers_nothing(
    how: str, store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(10)
    total = snapshots.ledger_totals(counted([limit_on(account(cast.organization), 1)]))[0]

    with _not_the_known_one(store, how):
        with pytest.raises(StoreClosed):
            await team.reserve(1)
        with pytest.raises(StoreClosed):
            await store.load(replace(total, generation=store.generation))
        await team.settle(held, 5)
        is_open = await store.is_open()

    assert not is_open
    assert [event.id for event in store.unconfirmed.of_unknown_outcome()] == [held.id]
    assert (team.counter.spent, team.counter.reserved) == (0, 10)


async def test_release_that_the_closed_store_did_not_take_is_made_up_for(
    store: LiveStore, cast: Cast
) -> None:
    """Else the sweeper charges in full for a request that was never sent."""
    team = await bench(store, cast.organization)
    held = await team.reserve(10)
    with store_of_another_run():
        await team.release(held)

    await store.resend()

    assert (team.counter.spent, team.counter.reserved) == (0, 0)
    assert not await store.is_reserved(held.id)


@pytest.mark.parametrize("how", ["another generation", "another run"])
def test_recorder_of_another_store_changes_nothing(how: str, alone: None, cast: Cast) -> None:
    current = partition()
    generation = current.generation + (how == "another generation")
    calls = [
        lambda: storekeeper.mirror(generation=generation, position="9-9", revision=10**9),
        lambda: storekeeper.reload(generation=generation, revision=10**9, accounts=[]),
        lambda: storekeeper._run(scripts.SWEEP, generation, "any", 1),
        lambda: storekeeper._run(scripts.RAISE_VERSIONS, generation, 0, 10**9),
    ]

    if how == "another run":
        with store_of_another_run():
            refused = [_is_closed(call) for call in calls]
    else:
        refused = [_is_closed(call) for call in calls]

    assert refused == [True] * 4
    assert storekeeper.store().hget(f"{TAG}mark", "revision") != b"1000000000"


async def test_event_settled_while_the_store_was_closed_is_sent_again(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(10)
    with store_of_another_run():
        await team.settle(held, 4)

    await store.resend()

    assert (team.counter.spent, team.counter.reserved) == (4, 0)
    assert store.unconfirmed.of_unknown_outcome() == []


async def test_full_stream_refuses_reserve_and_lets_settle_pass(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(10)
    await team.spend(1)
    monkeypatch.setattr(livestore, "STREAM_EVENTS_MAX", 1)

    with pytest.raises(StoreFull):
        await team.reserve(10)
    await team.settle(held, 10)

    assert (team.counter.spent, team.counter.reserved) == (11, 0)


async def test_event_is_remembered_until_the_ledger_has_it(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    kept = list(store.unconfirmed)

    record_everything()
    await store.resend()

    assert kept == [event]
    assert len(store.unconfirmed) == 0


async def test_all_that_is_remembered_is_sent_again_in_a_new_generation_and_counts_once(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    events = [await team.spend(n) for n in range(1, 4)]
    store.unconfirmed.begin_generation()

    await store.resend()

    assert team.counter.spent == 6
    assert len(entries_of(*(event.id for event in events))) == 3


# --- Any order of events -----------------------------------------------------------------


@dataclass
class Request:
    held: Held
    amount: int
    by_dead: bool
    cost: int | None = None
    swept: bool = False
    released: bool = False

    @property
    def is_open(self) -> bool:
        return self.cost is None and not self.swept and not self.released

    @property
    def charge(self) -> int:
        """What the request costs in the end: the true cost, else that of the orphan."""
        if self.cost is not None:
            return self.cost
        return self.amount if self.swept and not self.released else 0


@dataclass
class World:
    """A few accounts under random use, and beside them a model in plain Python."""

    living: LiveStore
    dying: LiveStore
    chance: random.Random
    paths: dict[str, Context] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    refused: int = 0

    @property
    def limits(self) -> list[Limit]:
        return list(dict.fromkeys(each for path in self.paths.values() for each in path.limits))

    async def reserve(self) -> None:
        path = self.chance.choice(list(self.paths.values()))
        by_dead = self.chance.random() < 0.3
        amount = self.chance.choice([0, 1, 50, 100, 400])
        through = Bench(self.dying if by_dead else self.living, path.path[0], path)
        try:
            held = await through.reserve(amount)
        except CountersMissing as missing:
            await load(self.living, [path.limits[i] for i in missing.limit_indexes])
        except LimitReached as refusal:
            self.refused += 1
            limit = path.limits[refusal.limit_index]
            assert self.committed(limit.account) + amount > limit.limit or self.overstated(
                limit.account
            )
        else:
            for limit in path.limits:
                assert not amount or self.committed(limit.account) + amount <= limit.limit
            self.requests.append(Request(held, amount, by_dead))

    def committed(self, of: PathAccount) -> int:
        mine = [r for r in self.requests if of in r.held.context.path]
        return sum(r.charge + (r.amount if r.is_open else 0) for r in mine)

    def overstated(self, of: PathAccount) -> bool:
        """An orphan counts beside its true cost until the ledger has taken it back."""
        return any(
            r.swept and (r.cost is not None or r.released) and of in r.held.context.path
            for r in self.requests
        )

    async def settle(self) -> None:
        if (request := self._any(lambda r: r.cost is None and not r.released)) is None:
            return
        request.cost = self.chance.choice([0, 1, request.amount, request.amount + 7])
        await self._store(request).settle(request.held.event(request.cost))

    async def settle_again(self) -> None:
        if (request := self._any(lambda r: r.cost is not None)) is not None:
            await self._store(request).settle(request.held.event(request.cost or 0))

    async def release(self) -> None:
        if (request := self._any(lambda r: r.cost is None and not r.released)) is None:
            return
        request.released = True
        await self._store(request).release(request.held.id, otherwise=request.held.event(0))

    async def sweep(self) -> None:
        member = uuid.UUID(self.living._member)
        storekeeper.sweep(generation=self.living.generation, alive=lambda: [member])
        for request in self.requests:
            request.swept |= request.is_open and request.by_dead

    async def drop_counter(self) -> None:
        _drop(self.chance.choice(self.limits).account)

    async def load(self) -> None:
        (total,) = snapshots.ledger_totals(counted([self.chance.choice(self.limits)]))
        await self.living.load(total)

    async def record_some(self) -> None:
        recorder.record_next(
            partition=partition(), now=datetime.now(UTC), count=self.chance.randint(1, 5)
        )

    async def crash_after_recording(self) -> None:
        """Ledger, totals and position are committed; the store is not told."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(recorder, "tell_store", lambda partition: None)
            await self.record_some()

    async def come_to_rest(self) -> None:
        record_everything()
        await load(self.living, self.limits)

    def figures(self) -> dict[str, tuple[int, int]]:
        counters = {limit.account: counter_of(limit.account) for limit in self.limits}
        return {of.label: (each.spent, each.reserved) for of, each in counters.items()}

    def expected(self) -> dict[str, tuple[int, int]]:
        return {
            limit.account.label: (
                sum(r.charge for r in self._through(limit.account)),
                sum(r.amount for r in self._through(limit.account) if r.is_open),
            )
            for limit in self.limits
        }

    def _through(self, of: PathAccount) -> list[Request]:
        return [r for r in self.requests if of in r.held.context.path]

    def _any(self, fits: Callable[[Request], bool]) -> Request | None:
        fitting = [r for r in self.requests if fits(r)]
        return self.chance.choice(fitting) if fitting else None

    def _store(self, request: Request) -> LiveStore:
        return self.dying if request.by_dead else self.living


SEEDS = [1, 2, 3, 4, 5, 6]
STEPS = 150


@pytest.mark.parametrize("seed", [*SEEDS, pytest.param(None, id="any")])
async def test_counters_are_right_at_rest_whatever_happened_in_whatever_order(
    seed: int | None, store: LiveStore, other_store: LiveStore, cast: Cast
) -> None:
    seed = seed if seed is not None else time.time_ns() % 10**9
    print(f"seed {seed}")  # noqa: T201  # shown if it fails: put it into SEEDS
    world = _world(seed, store, other_store, cast)
    steps = [
        *[world.reserve] * 6, *[world.settle] * 4, world.settle_again, world.release, world.sweep,
        world.drop_counter, world.load, world.record_some, world.crash_after_recording,
    ]  # fmt: skip

    for n in range(STEPS):
        await world.chance.choice(steps)()
        if n % 30 == 29:
            await world.come_to_rest()
            assert world.figures() == world.expected()

    assert world.refused
    assert verification.verify().differences == ()


def _world(seed: int, living: LiveStore, dying: LiveStore, cast: Cast) -> World:
    world = World(living, dying, random.Random(seed))
    team, other = account(cast.organization, "team"), account(cast.organization, "other")
    for label, parent in (("a", team), ("b", team), ("c", other)):
        key = account(cast.organization, label)
        limits = [limit_on(key, 600), limit_on(parent, 900)]
        world.paths[label] = context(cast.organization, [key, parent], limits)
    free = account(cast.organization, "free")
    world.paths["free"] = context(cast.organization, [free, team])
    return world


# --- Helpers -----------------------------------------------------------------------------


async def _two_limits(
    store: LiveStore, cast: Cast, *, of_key: int, of_team: int
) -> tuple[PathAccount, PathAccount, Context]:
    key, team = account(cast.organization, "key"), account(cast.organization, "team")
    limits = [limit_on(key, of_key), limit_on(team, of_team)]
    await load(store, limits)
    return key, team, context(cast.organization, [key, team], limits)


def sweep_as_dead(held: Held) -> None:
    """Sweep one reservation as if its gateway process were gone."""
    current = partition()
    assert storekeeper._run(scripts.SWEEP, current.generation, held.id, 120_000) == b"orphaned"


@contextlib.contextmanager
def _not_the_known_one(store: LiveStore, how: str) -> Iterator[None]:
    if how == "another run":
        with store_of_another_run():
            yield
    else:
        store.generation += 1
        yield
        store.generation -= 1


def _is_closed(call: Callable[[], object]) -> bool:
    try:
        call()
    except storekeeper.Closed:
        return True
    return False


async def _run_late(store: LiveStore) -> None:
    """Have the gateway believe that it is a minute earlier than the store's clock says."""
    await store.now_ms()
    assert store._clock_offset_ms is not None
    store._clock_offset_ms -= SECONDS * 1_000


def _drop(of: PathAccount) -> None:
    storekeeper.store().delete(f"{TAG}c:{of.id.hex}")


def _now_ms() -> int:
    return int(time.time() * 1_000)
