"""In which order deployments are tried, and which of them carry a request's tags."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import tags
from gateway.routing.health import HALF_LIFE_SECONDS, Failure, HealthBoard, Standing
from gateway.routing.strategies import Choice, Strategy, plan

pytestmark = pytest.mark.no_servers


@dataclass(frozen=True)
class Deployment:
    public_id: str
    weight: int = 1
    tags: tuple[str, ...] = ()


A, B, C = Deployment("a"), Deployment("b"), Deployment("c")
TIMED = (Strategy.LATENCY, Strategy.TIME_TO_FIRST_TOKEN)
NO_COST: Mapping[str, Decimal | None] = {}


def planned(
    candidates: Sequence[Deployment],
    strategy: Strategy = Strategy.WEIGHTED,
    *,
    board: HealthBoard | None = None,
    now: float = 0.0,
    costs: Mapping[str, Decimal | None] = NO_COST,
    seed: int = 1,
) -> list[Choice[Deployment]]:
    return plan(
        candidates,
        strategy=strategy,
        board=board or HealthBoard(),
        now=now,
        cost_of=lambda each: costs.get(each.public_id),
        rng=random.Random(seed),
    )


def firsts(candidates: Sequence[Deployment], strategy: Strategy, **told: Any) -> set[str]:
    """Return which deployments come first in fifty plans."""
    return {planned(candidates, strategy, seed=n, **told)[0].target.public_id for n in range(50)}


def names(choices: Sequence[Choice[Deployment]]) -> list[str]:
    return [each.target.public_id for each in choices]


def words(choices: Sequence[Choice[Deployment]]) -> list[str]:
    return [each.why.value for each in choices]


def cool(board: HealthBoard, id: str, *, now: float = 0.0, seconds: float = 60.0) -> None:
    trial = board.of(id).began(now)
    assert trial is not None
    trial.failed(now, Failure.RATE_LIMITED, seconds)
    trial.ended()


def answer(
    board: HealthBoard, id: str, seconds: float, *, now: float = 0.0, tokens: int = 1
) -> None:
    """Have a deployment answer three requests, each in so many seconds."""
    for _ in range(3):
        trial = board.of(id).began(now)
        assert trial is not None
        trial.first_byte(now + seconds, since=now)
        trial.succeeded(now, seconds=seconds, output_tokens=tokens)
        trial.ended()


def busy(board: HealthBoard, id: str, requests: int) -> None:
    for _ in range(requests):
        assert board.of(id).began(0.0) is not None


# --- All of them, once ---------------------------------------------------------------------

deployments = st.lists(
    st.builds(Deployment, st.text("abcdef", min_size=1), st.integers(1, 1_000)),
    unique_by=lambda each: each.public_id,
    max_size=12,
)
histories = st.dictionaries(
    st.text("abcdef", min_size=1),
    st.lists(st.sampled_from(["ok", "slow", "fail", "broken", "open"]), max_size=8),
)


def lived(history: Mapping[str, list[str]]) -> HealthBoard:
    board = HealthBoard()
    for id, events in history.items():
        for event in events:
            trial = board.of(id).began(0.0, last_resort=True)
            assert trial is not None
            if event in {"ok", "slow"}:
                trial.succeeded(0.0, seconds=9.0 if event == "slow" else 1.0, output_tokens=3)
            if event in {"fail", "broken"}:
                trial.failed(0.0, Failure.UNREACHABLE if event == "fail" else Failure.BROKEN)
            if event != "open":
                trial.ended()
    return board


@given(
    candidates=deployments,
    strategy=st.sampled_from(Strategy),
    history=histories,
    now=st.floats(0, 100),
    seed=st.integers(0, 1_000),
)
def test_a_plan_has_each_deployment_once_and_those_that_cool_down_last(
    candidates: list[Deployment],
    strategy: Strategy,
    history: Mapping[str, list[str]],
    now: float,
    seed: int,
) -> None:
    board = lived(history)

    choices = planned(candidates, strategy, board=board, now=now, seed=seed)

    assert sorted(names(choices)) == sorted(each.public_id for each in candidates)
    cools = [board.of(id).standing(now) is Standing.COOLING for id in names(choices)]
    assert cools == sorted(cools)
    assert [each.is_last_resort for each in choices] == cools
    if choices:
        first = board.of(names(choices)[0])
        assert first.began(now, last_resort=choices[0].is_last_resort) is not None


def test_the_only_deployment_is_said_to_be_the_only_one() -> None:
    assert words(planned([A], Strategy.LOWEST_COST)) == ["only_one"]


def test_the_only_deployment_is_there_even_while_it_cools_down() -> None:
    board = HealthBoard()
    cool(board, "a")

    assert words(planned([A], board=board)) == ["last_resort"]


def test_of_those_that_cool_down_the_one_that_is_ready_first_comes_first() -> None:
    board = HealthBoard()
    for id, seconds in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        cool(board, id, seconds=seconds)

    assert names(planned([A, B, C], board=board)) == ["b", "c", "a"]


def test_what_has_cooled_down_is_probed_by_one_request_and_passed_by_by_the_next() -> None:
    board = HealthBoard()
    cool(board, "a", seconds=10.0)
    costs = {"a": Decimal(1), "b": Decimal(2)}

    first = planned([A, B], Strategy.LOWEST_COST, board=board, now=11.0, costs=costs)
    assert board.of("a").began(11.0) is not None
    second = planned([A, B], Strategy.LOWEST_COST, board=board, now=11.0, costs=costs)

    assert (names(first), words(first)) == (["a", "b"], ["probe", "lowest_cost"])
    assert (names(second), words(second)) == (["b", "a"], ["lowest_cost", "last_resort"])


# --- The strategies ------------------------------------------------------------------------


def first_places(weights: Sequence[int], draws: int) -> Counter[str]:
    rng = random.Random(20_261_124)
    candidates = [Deployment(str(n), weight) for n, weight in enumerate(weights)]
    board = HealthBoard()
    return Counter(
        plan(
            candidates,
            strategy=Strategy.WEIGHTED,
            board=board,
            now=0.0,
            cost_of=lambda _: None,
            rng=rng,
        )[0].target.public_id
        for _ in range(draws)
    )


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (5, 1, 1, 1), (1_000, 1), (2, 3, 5, 7)])
def test_in_the_long_run_weights_are_respected(weights: tuple[int, ...]) -> None:
    draws, total = 20_000, sum(weights)

    drawn = first_places(weights, draws)

    expected = [draws * weight / total for weight in weights]
    chi_square = sum((drawn[str(n)] - e) ** 2 / e for n, e in enumerate(expected))
    assert chi_square < 16.27  # 3 degrees of freedom, 1 in 1,000; the seed is fixed


def test_after_the_first_the_rest_is_drawn_by_weight_too() -> None:
    candidates = [Deployment("first", 1_000), Deployment("heavy", 9), Deployment("light", 1)]

    seconds = Counter(names(planned(candidates, seed=seed))[1] for seed in range(2_000))

    assert seconds["heavy"] / (seconds["heavy"] + seconds["light"]) == pytest.approx(0.9, abs=0.03)


def test_the_least_busy_is_the_one_with_the_fewest_in_flight_for_its_weight() -> None:
    board = HealthBoard()
    busy(board, "a", 3)
    busy(board, "b", 1)
    heavy = Deployment("heavy", weight=10)
    busy(board, "heavy", 5)

    choices = planned([A, B, heavy], Strategy.LEAST_BUSY, board=board)

    assert names(choices) == ["heavy", "b", "a"]


def test_the_cheapest_comes_first_and_what_nobody_can_price_last() -> None:
    costs = {"a": Decimal("0.02"), "b": None, "c": Decimal("0.0199999999999999999999")}

    choices = planned([A, B, C], Strategy.LOWEST_COST, costs=costs)

    assert names(choices) == ["c", "a", "b"]
    assert words(choices) == ["lowest_cost"] * 3


def test_what_costs_the_same_is_drawn_by_weight() -> None:
    costs = {"a": Decimal(1), "b": Decimal(1)}

    assert firsts([A, B], Strategy.LOWEST_COST, costs=costs) == {"a", "b"}


def test_costs_are_asked_for_by_the_strategy_alone_that_needs_them() -> None:
    def asked(_: Deployment) -> Decimal | None:
        raise AssertionError("nobody wants to know")

    for strategy in set(Strategy) - {Strategy.LOWEST_COST}:
        plan(
            [A, B], strategy=strategy, board=HealthBoard(), now=0.0, cost_of=asked,
            rng=random.Random(1),
        )  # fmt: skip


@pytest.mark.parametrize("strategy", TIMED)
def test_the_fastest_comes_first(strategy: Strategy) -> None:
    board = HealthBoard()
    for id, seconds in (("a", 2.0), ("b", 0.5), ("c", 1.0)):
        answer(board, id, seconds)

    choices = planned([A, B, C], strategy, board=board)

    assert names(choices) == ["b", "c", "a"]
    assert words(choices) == [strategy.value] * 3


def test_long_answers_do_not_make_a_deployment_slow() -> None:
    board = HealthBoard()
    answer(board, "a", 20.0, tokens=4_000)
    answer(board, "b", 2.0, tokens=100)

    assert names(planned([A, B], Strategy.LATENCY, board=board)) == ["a", "b"]


def test_where_one_tells_no_tokens_whole_answers_are_compared() -> None:
    board = HealthBoard()
    answer(board, "a", 20.0, tokens=4_000)
    answer(board, "b", 2.0, tokens=0)

    assert names(planned([A, B], Strategy.LATENCY, board=board)) == ["b", "a"]


@pytest.mark.parametrize("strategy", TIMED)
def test_what_was_never_measured_is_explored_by_one_request_at_a_time(strategy: Strategy) -> None:
    board = HealthBoard()
    answer(board, "a", 1.0)

    first = planned([A, B], strategy, board=board)
    assert board.of("b").began(0.0) is not None
    second = planned([A, B], strategy, board=board)

    assert (names(first), words(first)) == (["b", "a"], ["explore", strategy.value])
    assert names(second) == ["a", "b"]


@pytest.mark.parametrize("strategy", TIMED)
def test_what_was_slow_long_ago_is_explored_again(strategy: Strategy) -> None:
    board = HealthBoard()
    answer(board, "a", 1.0)
    answer(board, "b", 60.0)
    later = 5 * HALF_LIFE_SECONDS
    answer(board, "a", 1.0, now=later)

    choices = planned([A, B], strategy, board=board, now=later)

    assert (names(choices)[0], words(choices)[0]) == ("b", "explore")


@pytest.mark.parametrize("strategy", TIMED)
def test_those_that_are_ahead_by_a_hair_share_the_load(strategy: Strategy) -> None:
    board = HealthBoard()
    answer(board, "a", 1.0)
    answer(board, "b", 1.001)

    assert firsts([A, B], strategy, board=board) == {"a", "b"}


def test_the_most_reliable_comes_first() -> None:
    board = HealthBoard()
    for id, failures in (("a", 2), ("b", 0), ("c", 1)):
        for each in range(6):
            trial = board.of(id).began(0.0)
            assert trial is not None
            if each % 3 == 1 and each // 3 < failures:
                trial.failed(0.0, Failure.SERVER_ERROR)
            else:
                trial.succeeded(0.0, seconds=1.0, output_tokens=1)
            trial.ended()

    assert names(planned([A, B, C], Strategy.AVAILABILITY, board=board)) == ["b", "c", "a"]


def test_unreliability_is_forgotten_so_that_nothing_is_shunned_for_ever() -> None:
    board = HealthBoard()
    for _ in range(3):
        trial = board.of("a").began(0.0)
        assert trial is not None
        trial.failed(0.0, Failure.SERVER_ERROR)
        trial.ended()
    answer(board, "b", 1.0)

    later = 12 * HALF_LIFE_SECONDS
    assert firsts([A, B], Strategy.AVAILABILITY, board=board) == {"b"}
    assert firsts([A, B], Strategy.AVAILABILITY, board=board, now=later) == {"a", "b"}


# --- Tags ----------------------------------------------------------------------------------

EU, FREE = Deployment("eu", tags=("eu", "gdpr")), Deployment("free", tags=("free",))
PLAIN, FALLBACK = Deployment("plain"), Deployment("fallback", tags=("default", "us"))


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        (["eu"], ["eu"]),
        (["free", "gdpr"], ["eu", "free"]),
        (["us"], ["fallback"]),
        (["unheard of"], ["plain", "fallback"]),
        (["EU"], ["plain", "fallback"]),
        ([], ["plain", "fallback"]),
    ],
)
def test_a_request_goes_to_what_carries_its_tags_or_to_what_has_none(
    wanted: list[str], fitting: list[str]
) -> None:
    found = tags.fitting([EU, FREE, PLAIN, FALLBACK], tags=wanted)

    assert [each.public_id for each in found] == fitting


@pytest.mark.parametrize("wanted", [[], ["us"]])
def test_where_all_carry_other_tags_none_fits(wanted: list[str]) -> None:
    assert tags.fitting([EU, FREE], tags=wanted) == []


@given(
    carried=st.lists(st.lists(st.sampled_from(["a", "b", "default"]), max_size=2), max_size=6),
    wanted=st.lists(st.sampled_from(["a", "b", "c"]), max_size=3),
)
def test_what_fits_carries_a_tag_that_is_wanted_or_nothing_does(
    carried: list[list[str]], wanted: list[str]
) -> None:
    candidates = [Deployment(str(n), tags=tuple(each)) for n, each in enumerate(carried)]

    found = tags.fitting(candidates, tags=wanted)

    matching = [each for each in candidates if set(each.tags) & set(wanted)]
    assert found == (matching or [e for e in candidates if not e.tags or "default" in e.tags])
