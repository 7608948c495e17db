"""What the reserve script decides beside strict money: modes, rates, requests at once."""

import asyncio
from dataclasses import replace

import pytest

from budgets import storekeeper
from budgets.contexts import Limit, LimitKind, PathAccount
from budgets.errors import (
    BudgetBusy,
    BudgetExceeded,
    CountersMissing,
    LimitReached,
    RateLimited,
    TooManyAtOnce,
)
from budgets.livestore import LiveStore
from budgets.models import Enforcement
from budgets.scripts import TAG
from budgets.unconfirmed import Event
from tests.budgets.support import (
    Bench,
    Held,
    account,
    bench,
    context,
    limit_on,
    load,
    partition,
    rate_on,
)
from tests.budgets.test_livestore import refusal_of
from tests.conftest import Cast

pytestmark = pytest.mark.usefixtures("alone", "orm_in_async")


def limited(store: LiveStore, cast: Cast, of: PathAccount, *limits: Limit) -> Bench:
    return Bench(store, of, context(cast.organization, [of], limits))


async def adaptive(store: LiveStore, cast: Cast, limit: int, *, mode: str = "adaptive") -> Bench:
    of = account(cast.organization)
    limits = [replace(limit_on(of, limit), enforcement=Enforcement(mode))]
    await load(store, limits)
    return limited(store, cast, of, *limits)


def taught(held: Held, cost: int, *, under: PathAccount, tokens: int = 0) -> Event:
    """The event of an answer that teaches what such requests cost."""
    return replace(held.event(cost), learnt_under=under.id.hex, tokens=tokens)


async def teach(bench: Bench, costs: list[int]) -> None:
    for cost in costs:
        held = await bench.reserve(cost, prior=0)
        await bench.store.settle(taught(held, cost, under=bench.account))


# --- Adaptive ----------------------------------------------------------------------------


async def test_adaptive_budget_holds_the_prior_until_such_requests_are_known(
    store: LiveStore, cast: Cast
) -> None:
    team = await adaptive(store, cast, 100)

    held = await team.reserve(90, prior=9)
    again = await team.reserve(90, prior=9)

    assert (held.admission.expected, held.admission.held) == (9, 9)
    assert (team.counter.reserved, team.counter.expected) == (180, 18)
    assert again.admission.standings[0].reserved == 18


async def test_adaptive_budget_holds_what_nine_of_ten_such_requests_have_cost(
    store: LiveStore, cast: Cast
) -> None:
    team = await adaptive(store, cast, 100_000)
    await teach(team, [20] * 29 + [900] * 3)

    held = await team.reserve(1_000, prior=100)

    assert held.admission.expected == 20


async def test_a_fourth_dear_request_of_the_last_32_raises_what_is_held(
    store: LiveStore, cast: Cast
) -> None:
    team = await adaptive(store, cast, 100_000)
    await teach(team, [20] * 28 + [900, 800, 700, 600])

    held = await team.reserve(1_000, prior=100)

    assert held.admission.expected == 600


async def test_few_known_requests_do_not_lower_what_is_held_below_the_prior(
    store: LiveStore, cast: Cast
) -> None:
    team = await adaptive(store, cast, 100_000)
    await teach(team, [20] * 3)
    early = await team.reserve(1_000, prior=100)
    await teach(team, [20])

    later = await team.reserve(1_000, prior=100)

    assert (early.admission.expected, later.admission.expected) == (100, 20)


async def test_adaptive_budget_never_holds_more_than_the_ceiling(
    store: LiveStore, cast: Cast
) -> None:
    team = await adaptive(store, cast, 100_000)
    await teach(team, [500] * 32)

    held = await team.reserve(30, prior=3)

    assert held.admission.expected == 30


async def test_adaptive_budget_with_nothing_left_refuses_also_what_is_expected_to_cost_nothing(
    store: LiveStore, cast: Cast
) -> None:
    team = await adaptive(store, cast, 100)
    await teach(team, [0] * 8)
    held = await team.reserve(100, prior=0)
    await team.settle(held, 100)

    refusal = await refusal_of(team.reserve(5, prior=0))

    assert isinstance(refusal, BudgetExceeded)


async def test_overshoot_of_an_adaptive_budget_is_what_requests_in_flight_cost_beyond_expectation(
    store: LiveStore, cast: Cast
) -> None:
    team = await adaptive(store, cast, 100)
    admitted = [await team.reserve(50, prior=10) for _ in range(10)]

    refusal = await refusal_of(team.reserve(50, prior=10))
    for held in admitted:
        await team.settle(held, 50)

    bound = sum(50 - held.admission.expected for held in admitted)
    assert isinstance(refusal, BudgetBusy)
    assert team.counter.spent - 100 == bound


async def test_strict_and_adaptive_budgets_on_one_path_each_hold_their_own(
    store: LiveStore, cast: Cast
) -> None:
    key, top = account(cast.organization, "key"), account(cast.organization, "team")
    limits = [
        replace(limit_on(key, 1_000), enforcement=Enforcement.ADAPTIVE),
        limit_on(top, 100),
    ]
    await load(store, limits)
    path = Bench(store, key, context(cast.organization, [key, top], limits))

    held = await path.reserve(90, prior=9)
    refusal = await refusal_of(path.reserve(90, prior=9))

    assert [each.reserved for each in held.admission.standings] == [9, 90]
    assert held.admission.held == 90
    assert (refusal.limit_index, type(refusal)) == (1, BudgetBusy)


# --- Observed and soft -------------------------------------------------------------------


async def test_observed_budget_refuses_nothing_and_says_what_it_would_have(
    store: LiveStore, cast: Cast
) -> None:
    team = await adaptive(store, cast, 10, mode="observe")

    fitting = await team.reserve(5)
    above = await team.reserve(50)

    assert (fitting.admission.observed, above.admission.observed) == ((), (0,))
    assert team.counter.reserved == 55


async def test_soft_limit_admits_and_is_told(store: LiveStore, cast: Cast) -> None:
    of = account(cast.organization)
    limits = [limit_on(of, 100), replace(limit_on(of, 10), kind=LimitKind.SOFT)]
    await load(store, limits)

    held = await limited(store, cast, of, *limits).reserve(50)

    assert held.admission.observed == (1,)


# --- Free --------------------------------------------------------------------------------


async def test_request_that_cannot_cost_anything_passes_an_overspent_budget_but_not_its_rates(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=100)
    await team.settle(await team.reserve(100), 250)
    rated = limited(
        store, cast, team.account, *team.context.limits,
        rate_on(team.account, LimitKind.REQUESTS, 1),
    )  # fmt: skip

    paid = await refusal_of(rated.reserve(1))
    await rated.reserve(0)
    second = await refusal_of(rated.reserve(0))

    assert isinstance(paid, BudgetExceeded)
    assert isinstance(second, RateLimited)


# --- Rates -------------------------------------------------------------------------------


def age(of: PathAccount, *, seconds: int) -> None:
    """Move what the last minute of an account holds into the past."""
    key = f"{TAG}w:{of.id.hex}"
    store = storekeeper.store()
    fields = store.hgetall(key)
    store.delete(key)
    moved = {
        f"{name[:1].decode()}{int(name[1:]) - seconds}": value for name, value in fields.items()
    }
    store.hset(key, mapping=moved)


async def test_no_more_requests_than_the_limit_are_admitted_in_any_minute(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    key = limited(store, cast, of, rate_on(of, LimitKind.REQUESTS, 3))

    outcomes = await asyncio.gather(*(key.reserve(1) for _ in range(10)), return_exceptions=True)
    age(of, seconds=58)
    still = await refusal_of(key.reserve(1))
    age(of, seconds=4)
    await key.reserve(1)

    assert sum(isinstance(each, Held) for each in outcomes) == 3
    assert isinstance(still, RateLimited)
    assert 0 < still.wait_ms <= 3_000


async def test_wait_is_until_the_window_has_room_for_this_request(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    key = limited(store, cast, of, rate_on(of, LimitKind.TOKENS, 100))
    await key.reserve(1, tokens=40)
    age(of, seconds=30)
    await key.reserve(1, tokens=60)

    small = await refusal_of(key.reserve(1, tokens=40))
    large = await refusal_of(key.reserve(1, tokens=70))

    assert 29_000 < small.wait_ms <= 31_000
    assert 59_000 < large.wait_ms <= 61_000


async def test_tokens_are_put_right_when_the_answer_tells_how_many_it_were(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    key = limited(store, cast, of, rate_on(of, LimitKind.TOKENS, 100))
    held = await key.reserve(1, tokens=90)
    full = await refusal_of(key.reserve(1, tokens=20))

    await store.settle(taught(held, 1, under=of, tokens=10))
    after = await key.reserve(1, tokens=90)

    assert (full.used, full.needed) == (90, 20)
    assert after.admission.standings[0].used == 100


async def test_released_request_leaves_its_tokens_but_counts_as_a_request(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    limits = [rate_on(of, LimitKind.TOKENS, 100), rate_on(of, LimitKind.REQUESTS, 10)]
    key = limited(store, cast, of, *limits)
    held = await key.reserve(1, tokens=90)

    await key.release(held)
    after = await key.reserve(1, tokens=5)

    assert [each.used for each in after.admission.standings] == [5, 2]


async def test_refused_requests_do_not_count_in_rates(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization, limit=10)
    rate = rate_on(team.account, LimitKind.REQUESTS, 2)
    key = limited(store, cast, team.account, *team.context.limits, rate)

    for _ in range(5):
        await refusal_of(key.reserve(11))
    held = await key.reserve(1)

    assert held.admission.standings[1].used == 1


# --- Requests at once --------------------------------------------------------------------


async def at_once(store: LiveStore, cast: Cast, number: int) -> Bench:
    of = account(cast.organization)
    await store.load_in_flight(of.id)
    return limited(store, cast, of, rate_on(of, LimitKind.PARALLEL, number))


async def test_slots_end_with_their_reservation_in_either_way(store: LiveStore, cast: Cast) -> None:
    key = await at_once(store, cast, 2)
    first, second = await key.reserve(1), await key.reserve(1)

    third = await refusal_of(key.reserve(1))
    await key.settle(first, 1)
    await key.release(second)
    await key.reserve(1)
    last = await key.reserve(1)

    assert isinstance(third, TooManyAtOnce)
    assert last.admission.standings[0].used == 2


async def test_slots_of_a_dead_process_end_when_it_is_swept(
    store: LiveStore, other_store: LiveStore, cast: Cast
) -> None:
    key = await at_once(store, cast, 1)
    elsewhere = Bench(other_store, key.account, key.context)
    await elsewhere.reserve(1)
    full = await refusal_of(key.reserve(1))

    storekeeper.sweep(generation=partition().generation, alive=list)
    await key.reserve(1)

    assert isinstance(full, TooManyAtOnce)


async def test_limit_that_comes_later_counts_what_is_in_flight_already(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    unlimited = limited(store, cast, of)
    await unlimited.reserve(1)
    await unlimited.reserve(1)
    key = limited(store, cast, of, rate_on(of, LimitKind.PARALLEL, 3))

    with pytest.raises(CountersMissing):
        await key.reserve(1)
    await store.load_in_flight(of.id)
    third = await key.reserve(1)
    fourth = await refusal_of(key.reserve(1))

    assert third.admission.standings[0].used == 3
    assert isinstance(fourth, TooManyAtOnce)


async def test_no_more_than_the_limit_are_in_flight_under_concurrency(
    store: LiveStore, cast: Cast
) -> None:
    key = await at_once(store, cast, 5)

    outcomes = await asyncio.gather(*(key.reserve(1) for _ in range(50)), return_exceptions=True)

    assert sum(isinstance(each, Held) for each in outcomes) == 5
    assert all(isinstance(each, Held | TooManyAtOnce) for each in outcomes)


# --- Which refusal is told ---------------------------------------------------------------


async def test_what_only_a_reset_helps_is_told_before_what_a_wait_does(
    store: LiveStore, cast: Cast
) -> None:
    near, far = account(cast.organization, "near"), account(cast.organization, "far")
    limits = [rate_on(near, LimitKind.REQUESTS, 0), limit_on(far, 0)]
    await load(store, limits[1:])
    path = Bench(store, near, context(cast.organization, [near, far], limits))

    refusal = await refusal_of(path.reserve(1))

    assert (type(refusal), refusal.limit_index) == (BudgetExceeded, 1)


async def test_of_equal_refusals_the_nearest_to_the_caller_is_told(
    store: LiveStore, cast: Cast
) -> None:
    near, far = account(cast.organization, "near"), account(cast.organization, "far")
    limits = [limit_on(near, 0), limit_on(far, 0)]
    await load(store, limits)
    path = Bench(store, near, context(cast.organization, [near, far], limits))

    refusal = await refusal_of(path.reserve(1))

    assert isinstance(refusal, LimitReached)
    assert refusal.limit_index == 0
