"""
In which order the deployments of a model are tried.

Each strategy orders a draw by weight, so that what is equal shares the load by weight. Times and
success rates are equal where they differ by less than a tenth or a hundredth: otherwise all
requests would run to whichever is ahead by a hair.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import StrEnum, auto
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from gateway.routing.decay import Decayed
from gateway.routing.health import Health, HealthBoard, Standing

SECONDS_MIN: Final = 1e-6
NEAR: Final = math.log(1.1)
PRIOR_WEIGHT: Final = 2.0
"""So many answers a deployment is trusted to have given before it has given any."""
PERCENT: Final = 100


class Strategy(StrEnum):
    WEIGHTED = "weighted"
    """Drawn by weight."""
    LEAST_BUSY = "least_busy"
    """The fewest requests in flight, for its weight."""
    LOWEST_COST = "lowest_cost"
    """The least expected cost of this very request."""
    LATENCY = "latency"
    """The least time for each token, or for an answer where tokens are not known."""
    TIME_TO_FIRST_TOKEN = auto()
    """The least time until a streamed answer begins; others measure nothing."""
    AVAILABILITY = "availability"
    """The highest rate of success lately."""


class Why(StrEnum):
    """Why a deployment stands where it does; these words go into a header."""

    WEIGHTED = "weighted"
    LEAST_BUSY = "least_busy"
    LOWEST_COST = "lowest_cost"
    LATENCY = "latency"
    TIME_TO_FIRST_TOKEN = auto()
    AVAILABILITY = "availability"
    ONLY_ONE = "only_one"
    EXPLORE = "explore"
    """Nobody knows how fast it is: it is tried in order to learn."""
    PROBE = "probe"
    """It has cooled down; this request finds out whether it works again."""
    LAST_RESORT = "last_resort"
    """It cools down, and there is no other."""
    CACHE = "cache"
    """It gave the answer that the response cache has kept; nothing is sent to it."""


class Candidate(Protocol):
    @property
    def public_id(self) -> str: ...
    @property
    def weight(self) -> int: ...


C = TypeVar("C", bound=Candidate)


class Choice(NamedTuple, Generic[C]):
    target: C
    why: Why

    @property
    def is_last_resort(self) -> bool:
        return self.why is Why.LAST_RESORT


class _Entry(NamedTuple, Generic[C]):
    target: C
    health: Health
    standing: Standing


Key = Callable[[_Entry[Any]], Any]


def plan(
    candidates: Sequence[C],
    *,
    strategy: Strategy,
    board: HealthBoard,
    now: float,
    cost_of: Callable[[C], Decimal | None],
    rng: random.Random,
) -> list[Choice[C]]:
    """
    Return all candidates, each once: those that may be tried in the strategy's order, then those
    that cool down, the one that is ready first in front.

    ``cost_of`` tells what this request is expected to cost at a deployment, in one currency for
    all; None is: nobody knows, and comes after all that is known.
    """
    drawn = [_entry(each, board, now) for each in _drawn(candidates, rng)]
    able = [each for each in drawn if each.standing is not Standing.COOLING]
    cooling = [each for each in drawn if each.standing is Standing.COOLING]
    measure = _measure(strategy, able, now)
    if len(able) > 1 and strategy is not Strategy.WEIGHTED:
        able.sort(key=_time_key(measure, now) if measure else _key(strategy, now, cost_of))
    cooling.sort(key=lambda each: each.health.cooling_seconds(now))
    usual = Why.ONLY_ONE if len(drawn) == 1 else Why(strategy)
    return [
        *(Choice(each.target, _why(each, measure, usual, now)) for each in able),
        *(Choice(each.target, Why.LAST_RESORT) for each in cooling),
    ]


def _drawn(candidates: Sequence[C], rng: random.Random) -> Sequence[C]:
    """Return the candidates in an order drawn by weight, without putting any back."""
    if len(candidates) == 1:
        return candidates
    return sorted(candidates, key=lambda each: rng.expovariate(each.weight))


def _entry(target: C, board: HealthBoard, now: float) -> _Entry[C]:
    health = board.of(target.public_id)
    return _Entry(target, health, health.standing(now))


Measure = Callable[[Health], Decayed]


def _why(entry: _Entry[Any], measure: Measure | None, usual: Why, now: float) -> Why:
    if entry.standing is Standing.PROBE_DUE:
        return Why.PROBE
    if usual is Why.ONLY_ONE or measure is None:
        return usual
    return usual if entry.health.is_measured(measure(entry.health), now) else Why.EXPLORE


def _key(strategy: Strategy, now: float, cost_of: Callable[[Any], Decimal | None]) -> Key:
    """Return what the entries are sorted by; the draw decides between equals."""
    if strategy is Strategy.LEAST_BUSY:
        return lambda entry: entry.health.in_flight / entry.target.weight
    if strategy is Strategy.LOWEST_COST:
        return lambda entry: _cost_key(cost_of(entry.target))
    assert strategy is Strategy.AVAILABILITY, "the others compare times, or nothing"
    return lambda entry: -_percent_served(entry.health, now)


def _cost_key(cost: Decimal | None) -> tuple[bool, Decimal]:
    return (cost is None, Decimal(0) if cost is None else cost)


def _percent_served(health: Health, now: float) -> int:
    weight = health.success.weight_at(now)
    served = (health.success.mean() or 0.0) * weight
    return round(PERCENT * (served + PRIOR_WEIGHT) / (weight + PRIOR_WEIGHT))


def _measure(strategy: Strategy, entries: Iterable[_Entry[Any]], now: float) -> Measure | None:
    """Return the measure by which times are compared; None: the strategy compares none."""
    if strategy is Strategy.TIME_TO_FIRST_TOKEN:
        return lambda health: health.first_byte_seconds
    if strategy is not Strategy.LATENCY:
        return None
    answered = [
        each.health for each in entries if each.health.is_measured(each.health.answer_seconds, now)
    ]
    if all(health.is_measured(health.token_seconds, now) for health in answered):
        return lambda health: health.token_seconds
    return lambda health: health.answer_seconds


def _time_key(measure: Measure, now: float) -> Key:
    """
    What was not measured lately goes first while nothing is in flight there, so that it is learnt
    by one request at a time; until that has come back it goes last.
    """

    def key(entry: _Entry[Any]) -> tuple[int, int]:
        measured = measure(entry.health)
        seconds = measured.mean()
        if seconds is None or not entry.health.is_measured(measured, now):
            return (0 if entry.health.in_flight == 0 else 2, 0)
        return (1, math.floor(math.log(max(seconds, SECONDS_MIN)) / NEAR))

    return key
