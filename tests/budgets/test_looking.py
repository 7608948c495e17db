"""Looking says what reserving would, and leaves no trace."""

import random
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from budgets import storekeeper
from budgets.contexts import Limit, LimitKind, PathAccount
from budgets.errors import BudgetExceeded, CountersMissing, LimitReached, StoreClosed
from budgets.livestore import LiveStore
from budgets.models import Enforcement
from budgets.reservations import Look
from budgets.scripts import TAG
from tests.budgets.support import (
    Bench,
    Held,
    account,
    bench,
    context,
    limit_on,
    load,
    rate_on,
    store_of_another_run,
)
from tests.budgets.test_limits import taught, teach
from tests.conftest import Cast

pytestmark = pytest.mark.usefixtures("alone", "orm_in_async")
RATES = (LimitKind.REQUESTS, LimitKind.TOKENS, LimitKind.PARALLEL)


async def look(of: Bench, amount: int, **demanded: Any) -> Look:
    return await of.store.look(of.demand(amount, **demanded), context=of.context)


async def outcome_of(attempt: Awaitable[Held]) -> Held | LimitReached:
    try:
        return await attempt
    except LimitReached as refusal:
        return refusal


def traces(*accounts: PathAccount) -> dict[bytes, Any]:
    """Return everything that the store holds of these accounts, and of any reservation."""
    store = storekeeper.store()
    kept: dict[bytes, Any] = {}
    for each in accounts:
        for kind in ("c", "w", "l"):
            kept[f"{kind}:{each.id.hex}".encode()] = store.hgetall(f"{TAG}{kind}:{each.id.hex}")
    kept[b"open"] = store.zrange(f"{TAG}open", 0, -1, withscores=True)
    kept[b"unnamed"] = store.exists(f"{TAG}r:")
    return kept


async def drawn(store: LiveStore, cast: Cast, draw: random.Random) -> Bench:
    """Return a path of three accounts with limits of all kinds and modes."""
    path = [account(cast.organization, f"Account {n}") for n in range(3)]
    limits: list[Limit] = []
    for each in path:
        mode = draw.choice(list(Enforcement))
        limits.append(replace(limit_on(each, draw.randint(0, 400)), enforcement=mode))
        if draw.random() < 0.5:
            rate = rate_on(each, draw.choice(RATES), draw.randint(0, 60))
            limits.append(replace(rate, enforcement=draw.choice(list(Enforcement))))
    await load(store, [each for each in limits if each.is_money])
    for each in path:
        await store.load_in_flight(each.id)
    return Bench(store, path[0], context(cast.organization, path, limits))


@pytest.mark.parametrize("seed", range(12))
async def test_a_look_says_what_reserving_says_right_after_it(
    seed: int, store: LiveStore, cast: Cast
) -> None:
    draw = random.Random(seed)
    of = await drawn(store, cast, draw)
    holding: list[Held] = []

    for _ in range(25):
        amount, tokens = draw.choice([0, 1, 20, 90]), draw.randint(0, 20)
        wanted: dict[str, Any] = {"prior": amount // 4, "tokens": tokens}
        before = traces(*of.context.path)
        looked = await look(of, amount, **wanted)
        assert traces(*of.context.path) == before

        outcome = await outcome_of(of.reserve(amount, **wanted))

        if isinstance(outcome, Held):
            assert looked.refusal is None
            assert looked.expected == outcome.admission.expected
            assert looked.observed == outcome.admission.observed
            holding.append(outcome)
        else:
            assert type(looked.refusal) is type(outcome)
            assert {**vars(looked.refusal), "wait_ms": 0} == {**vars(outcome), "wait_ms": 0}
        if holding and draw.random() < 0.5:
            held = holding.pop(draw.randrange(len(holding)))
            cost = draw.randint(0, held.admission.expected)
            await store.settle(taught(held, cost, under=of.account))


async def test_a_look_tells_what_each_limit_holds_also_when_one_refuses(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=100)
    await team.spend(30)
    await team.reserve(20)

    fits, refused = await look(team, 50), await look(team, 71)

    assert fits.refusal is None
    assert isinstance(refused.refusal, BudgetExceeded)
    assert [(each.used, each.reserved) for each in fits.standings] == [(30, 20)]
    assert refused.standings == fits.standings


async def test_a_look_tells_what_such_requests_have_cost_and_how_many_are_known(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization, limit=10_000)
    unknown = await look(team, 90, prior=9)
    await teach(team, [20] * 3)

    known = await look(team, 90, prior=9)

    assert (unknown.learnt_from, unknown.expected) == (0, 9)
    assert (known.learnt, known.learnt_from) == (20, 3)


async def test_a_look_needs_the_counters_and_an_open_store_as_reserving_does(
    store: LiveStore, cast: Cast
) -> None:
    of = account(cast.organization)
    unloaded = Bench(store, of, context(cast.organization, [of], [limit_on(of, 10)]))

    with pytest.raises(CountersMissing):
        await look(unloaded, 1)
    with store_of_another_run(), pytest.raises(StoreClosed):
        await look(unloaded, 1)
