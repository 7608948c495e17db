"""
A stateful machine: Hypothesis drives the real scripts on the real store and ledger in any order,
and holds them against a plain-Python model that knows nothing of Lua, streams or counters.

The model knows what each request holds or has cost, by account, and nothing else. After every
step the limits must have been decided as the model would, and every counter that is loaded must
say what the model does; at the end the ledger must too.
"""

import asyncio
import os
import uuid
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from budgets import snapshots, storekeeper
from budgets.contexts import Limit, LimitKind
from budgets.errors import (
    BudgetExceeded,
    CountersMissing,
    LimitReached,
    ReservationEnded,
    StaleContext,
)
from budgets.livestore import LiveStore
from budgets.models import Organization
from budgets.periods import FOREVER
from budgets.scripts import TAG
from spend import events, ledger, recorder, recovery, verification
from spend.models import SpendEvent
from tests.budgets.support import (
    Bench,
    Held,
    account,
    context,
    counted,
    limit_on,
    new_store,
    partition,
    rate_on,
    record_everything,
)
from tests.conftest import make_cast

pytestmark = pytest.mark.usefixtures("alone", "orm_in_async")

T = TypeVar("T")
AMOUNTS = st.sampled_from([0, 1, 7, 40, 100])
LIMITS = (300, 500)
SLOTS = 4
EXAMPLES = 1_000 if os.environ.get("FAULTS") == "full" else 50


@dataclass
class Request:
    """What the model knows of a request: what it holds, or what became of it."""

    held: Held
    ceiling: int
    member: uuid.UUID
    cost: int | None = None
    """What it was settled at."""
    released: bool = False
    orphaned: bool = False
    is_forgotten: bool = False
    """The store was lost since it ended, and with it the tombstone; packets of then are closed."""

    @property
    def is_open(self) -> bool:
        return self.cost is None and not self.released and not self.orphaned

    @property
    def is_overstated(self) -> bool:
        """The orphan and the true cost both count, until the ledger has taken the orphan back."""
        return self.orphaned and (self.cost is not None or self.released)


class Machine(RuleBasedStateMachine):
    """Two gateway processes, a key under a team, a strict limit on each, and slots on the team."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.requests: list[Request] = []
        self.generation = 0

    @initialize()
    def begin(self) -> None:
        self.organization: Organization = make_cast().organization
        self.key, self.team = (account(self.organization, name) for name in ("key", "team"))
        self.limits: list[Limit] = [
            limit_on(self.key, LIMITS[0]),
            limit_on(self.team, LIMITS[1]),
            rate_on(self.team, LimitKind.PARALLEL, SLOTS),
        ]
        self.gateways = [new_store(), new_store()]

    # --- What gateways do ----------------------------------------------------------------

    @rule(amount=AMOUNTS, through=st.integers(0, 1))
    def reserve(self, amount: int, through: int) -> None:
        bench = self._bench(through)
        try:
            held = self._run(bench.reserve(amount))
        except CountersMissing as missing:
            self._load([self.limits[index] for index in missing.limit_indexes])
            return
        except LimitReached as refusal:
            self._check_refused(amount, refusal)
            return
        except StaleContext:
            return
        if not any(each.is_overstated for each in self.requests):
            self._check_admitted(amount)
        member = uuid.UUID(self.gateways[through]._member)
        self.requests.append(Request(held, amount, member))

    @precondition(lambda self: any(r.cost is None and not r.released for r in self.requests))
    @rule(data=st.data(), cost=AMOUNTS, times=st.integers(1, 2))
    def settle(self, data: Any, cost: int, times: int) -> None:
        """Also after it was swept: the true cost wins."""
        request = self._one(data, lambda r: r.cost is None and not r.released)
        for _ in range(times):
            self._run(self._of(request).settle(request.held.event(cost)))
        request.cost = cost

    @precondition(lambda self: any(r.cost is None and not r.released for r in self.requests))
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        request = self._one(data, lambda r: r.cost is None and not r.released)
        nothing = request.held.event(0)
        self._run(self._of(request).release(request.held.id, otherwise=nothing))
        request.released = True

    @precondition(lambda self: any(not r.is_open and not r.is_forgotten for r in self.requests))
    @rule(data=st.data())
    def reserve_again_under_an_ended_id(self, data: Any) -> None:
        request = self._one(data, lambda r: not r.is_open and not r.is_forgotten)
        with pytest.raises((ReservationEnded, StaleContext)):
            self._run(self._bench(0).reserve(1, id=request.held.id))

    # --- What happens to them ------------------------------------------------------------

    @rule(dead=st.integers(0, 1))
    def sweep(self, dead: int) -> None:
        alive = uuid.UUID(self.gateways[1 - dead]._member)
        storekeeper.sweep(generation=partition().generation, alive=lambda: [alive])
        for request in self.requests:
            request.orphaned |= request.is_open and request.member != alive

    @rule(count=st.integers(1, 4))
    def record_some(self, count: int) -> None:
        recorder.record_next(partition=partition(), now=datetime.now(UTC), count=count)

    @rule()
    def record_all(self) -> None:
        record_everything()

    @rule(of=st.integers(0, 1))
    def forget_a_counter(self, of: int) -> None:
        storekeeper.store().delete(f"{TAG}c:{(self.key, self.team)[of].id.hex}")

    @rule()
    def load_everything(self) -> None:
        self._load(self.limits)

    @rule(how=st.sampled_from(["flush", "restart"]))
    def lose_the_store(self, how: str) -> None:
        """Emptied, or restarted with its data: rebuilt with what both processes hold."""
        if how == "flush":
            storekeeper.store().delete(*storekeeper.store().scan_iter(match=f"{TAG}*"))
        else:
            storekeeper.store().hset(f"{TAG}gen", "run_id", "0" * 40)
        begun = recovery.ensure_open(now=datetime.now(UTC), alive=list)
        storekeeper.store().hset(f"{TAG}gen", "open", "0")
        for gateway in self.gateways:
            self._run(
                gateway.join(
                    generation=begun.generation,
                    settled=partial(_in_ledger, ledger.true_rows),
                    recorded=partial(_in_ledger, ledger.recorded_requests),
                )
            )
        storekeeper.open_store()
        for request in self.requests:
            # An orphan that was lost with the stream is no orphan: its process lives, and holds it.
            request.orphaned &= _is_orphan_in_ledger(request)
            request.is_forgotten |= not request.is_open

    # --- What must hold ------------------------------------------------------------------

    @invariant()
    def counters_say_what_the_model_does(self) -> None:
        if not hasattr(self, "gateways") or any(r.is_overstated for r in self.requests):
            return
        for of in (self.key, self.team):
            for counter in storekeeper.counters_of([of.id])[of.id]:
                assert (counter.spent, counter.reserved) == (self._spent(), self._reserved())

    def teardown(self) -> None:
        try:
            if hasattr(self, "gateways"):
                self._check_ledger()
        finally:
            for gateway in getattr(self, "gateways", ()):
                self._run(gateway.close())
            self._run(asyncio.sleep(0))
            self.loop.close()

    def _check_ledger(self) -> None:
        record_everything()
        self._load(self.limits)
        record_everything()
        assert verification.verify().differences == ()
        (total,) = snapshots.ledger_totals([(self.team.id, FOREVER)])
        assert total.spent == self._spent()

    def _check_refused(self, amount: int, refusal: LimitReached) -> None:
        if any(each.is_overstated for each in self.requests):
            return
        limit = self.limits[refusal.limit_index]
        if limit.kind == LimitKind.PARALLEL:
            assert self._in_flight() + 1 > SLOTS
        elif isinstance(refusal, BudgetExceeded):
            assert self._spent() + amount > limit.limit
        else:
            assert self._spent() + self._reserved() + amount > limit.limit

    def _check_admitted(self, amount: int) -> None:
        assert self._in_flight() + 1 <= SLOTS
        if amount:
            assert self._spent() + self._reserved() + amount <= min(LIMITS)

    def _spent(self) -> int:
        return sum(
            each.ceiling if each.cost is None and each.orphaned else each.cost or 0
            for each in self.requests
            if not each.released
        )

    def _reserved(self) -> int:
        return sum(each.ceiling for each in self.requests if each.is_open)

    def _in_flight(self) -> int:
        return sum(each.is_open for each in self.requests)

    def _bench(self, through: int) -> Bench:
        path = [self.key, self.team]
        return Bench(
            self.gateways[through], self.key, context(self.organization, path, self.limits)
        )

    def _of(self, request: Request) -> LiveStore:
        return next(g for g in self.gateways if uuid.UUID(g._member) == request.member)

    def _one(self, data: Any, wanted: Any) -> Request:
        found: Request = data.draw(st.sampled_from([r for r in self.requests if wanted(r)]))
        return found

    def _load(self, limits: list[Limit]) -> None:
        for limit in limits:
            if limit.period is None:
                self._run(self.gateways[0].load_in_flight(limit.account.id))
        for counter in counted(limits):
            while not self._run(self.gateways[0].load(snapshots.ledger_totals([counter])[0])):
                record_everything()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)


def _is_orphan_in_ledger(request: Request) -> bool:
    orphan = events.orphan_id(uuid.UUID(request.held.id))
    return SpendEvent.objects.filter(id=orphan).exists()


async def _in_ledger(look: Any, ids: Any) -> set[str]:
    return {str(id) for id in look([uuid.UUID(id) for id in ids])}


@pytest.fixture(autouse=True)
def _open_store() -> Iterator[None]:
    yield
    recovery.ensure_open(now=datetime.now(UTC), alive=list)


def test_scripts_decide_and_count_as_a_plain_model_does_in_any_order() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=40, deadline=None,
            suppress_health_check=list(HealthCheck), print_blob=True, report_multiple_bugs=False,
        ),
    )  # fmt: skip
