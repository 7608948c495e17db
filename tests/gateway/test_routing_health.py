"""What a deployment's health is made of, and when it is left alone."""

import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.routing.decay import Decayed
from gateway.routing.health import (
    AT_ONCE,
    COOL_DOWN_SECONDS,
    COOL_DOWN_SECONDS_MAX,
    COOL_DOWN_SECONDS_MIN,
    HALF_LIFE_SECONDS,
    MEASURES_WEIGHT_MAX,
    RECENT_OUTCOMES_MIN,
    RECENT_SECONDS,
    Failure,
    Health,
    HealthBoard,
    Standing,
    Trial,
    failure_of,
)

pytestmark = pytest.mark.no_servers

BY_RATE = sorted(set(Failure) - AT_ONCE)
LONG = COOL_DOWN_SECONDS_MAX + 1


def begun(health: Health, now: float = 0.0) -> Trial:
    trial = health.began(now)
    assert trial is not None
    return trial


def fail(health: Health, failure: Failure, now: float = 0.0, wait: float | None = None) -> None:
    trial = begun(health, now)
    trial.failed(now, failure, wait)
    trial.ended()


def succeed(health: Health, now: float = 0.0, seconds: float = 1.0, tokens: int = 10) -> None:
    trial = begun(health, now)
    trial.succeeded(now, seconds=seconds, output_tokens=tokens)
    trial.ended()


# --- Tripping ------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", sorted(AT_ONCE))
def test_some_failures_trip_at_once(failure: Failure) -> None:
    health = Health()

    fail(health, failure)

    assert health.standing(0.0) is Standing.COOLING
    assert health.cooling_seconds(0.0) == COOL_DOWN_SECONDS[failure]


@pytest.mark.parametrize("failure", BY_RATE)
def test_other_failures_trip_when_most_of_at_least_five_recent_requests_have_failed(
    failure: Failure,
) -> None:
    health = Health()
    for _ in range(RECENT_OUTCOMES_MIN - 1):
        fail(health, failure)
    assert health.standing(0.0) is Standing.HEALTHY

    fail(health, failure)

    assert health.standing(0.0) is Standing.COOLING


def test_half_of_the_requests_failing_does_not_trip() -> None:
    health = Health()

    for _ in range(50):
        succeed(health)
        fail(health, Failure.SERVER_ERROR)

    assert health.standing(0.0) is Standing.HEALTHY


def test_failures_of_long_ago_do_not_count_with_those_of_now() -> None:
    health = Health()
    for _ in range(RECENT_OUTCOMES_MIN - 1):
        fail(health, Failure.TIMEOUT, now=0.0)

    fail(health, Failure.TIMEOUT, now=RECENT_SECONDS + 1)

    assert health.standing(RECENT_SECONDS + 1) is Standing.HEALTHY


def test_a_long_record_of_success_delays_tripping_by_a_few_requests_only() -> None:
    health = Health()
    for _ in range(10_000):
        succeed(health)

    for _ in range(6):
        fail(health, Failure.SERVER_ERROR)

    assert health.standing(0.0) is Standing.COOLING


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (30.0, 30.0), (0.0, COOL_DOWN_SECONDS_MIN), (-5.0, COOL_DOWN_SECONDS_MIN),
        (math.nan, COOL_DOWN_SECONDS_MIN), (86_400.0, COOL_DOWN_SECONDS_MAX),
        (math.inf, COOL_DOWN_SECONDS_MAX),
    ],
)  # fmt: skip
def test_retry_after_is_obeyed_within_bounds(asked: float, seconds: float) -> None:
    health = Health()

    fail(health, Failure.RATE_LIMITED, wait=asked)

    assert health.cooling_seconds(0.0) == seconds


def test_retry_after_of_another_failure_is_not_obeyed() -> None:
    health = Health()

    fail(health, Failure.UNREACHABLE, wait=400.0)

    assert health.cooling_seconds(0.0) == COOL_DOWN_SECONDS[Failure.UNREACHABLE]


def test_many_requests_that_fail_together_trip_once() -> None:
    health = Health()
    trials = [begun(health) for _ in range(20)]

    for trial in trials:
        trial.failed(0.0, Failure.UNREACHABLE)

    assert health.trips == 1
    assert health.cooling_seconds(0.0) == COOL_DOWN_SECONDS[Failure.UNREACHABLE]


# --- Half-open -----------------------------------------------------------------------------


@pytest.fixture
def half_open() -> Health:
    """A deployment that was not reached, at the second when it has cooled down."""
    health = Health()
    fail(health, Failure.UNREACHABLE, now=-COOL_DOWN_SECONDS[Failure.UNREACHABLE])
    return health


def test_while_it_cools_nobody_is_let_through_but_a_last_resort() -> None:
    health = Health()
    fail(health, Failure.UNREACHABLE)

    assert health.began(1.0) is None
    assert health.in_flight == 0
    assert health.began(1.0, last_resort=True) is not None
    assert health.in_flight == 1


def test_after_it_one_probe_is_let_through_and_no_other(half_open: Health) -> None:
    assert half_open.standing(0.0) is Standing.PROBE_DUE

    probe = half_open.began(0.0)

    assert probe is not None
    assert probe.is_probe
    assert half_open.began(0.0) is None
    assert half_open.standing(LONG) is Standing.COOLING


def test_a_probe_that_is_answered_closes(half_open: Health) -> None:
    begun(half_open).succeeded(0.0, seconds=1.0, output_tokens=1)

    assert half_open.standing(0.0) is Standing.HEALTHY


def test_the_first_byte_of_a_probes_answer_is_enough(half_open: Health) -> None:
    begun(half_open).first_byte(0.5, since=0.0)

    assert half_open.standing(0.5) is Standing.HEALTHY


def test_a_probe_that_fails_doubles_the_cool_down_up_to_the_cap(half_open: Health) -> None:
    now, expected = 0.0, COOL_DOWN_SECONDS[Failure.UNREACHABLE]
    for _ in range(12):
        fail(half_open, Failure.SERVER_ERROR, now=now)
        expected = min(2 * expected, COOL_DOWN_SECONDS_MAX)
        assert half_open.cooling_seconds(now) == expected
        now += expected
    assert expected == COOL_DOWN_SECONDS_MAX


def test_after_an_answer_the_next_cool_down_begins_small_again(half_open: Health) -> None:
    fail(half_open, Failure.UNREACHABLE)
    succeed(half_open, now=100.0)

    fail(half_open, Failure.UNREACHABLE, now=100.0)

    assert half_open.cooling_seconds(100.0) == COOL_DOWN_SECONDS[Failure.UNREACHABLE]


def test_a_probe_that_came_to_nothing_may_be_sent_again(half_open: Health) -> None:
    refused_by_its_budget = begun(half_open)

    refused_by_its_budget.ended()

    assert half_open.standing(0.0) is Standing.PROBE_DUE


def test_an_answer_to_what_was_sent_before_it_tripped_does_not_close() -> None:
    health = Health()
    early = begun(health)
    fail(health, Failure.RATE_LIMITED, wait=30.0)

    early.succeeded(1.0, seconds=1.0, output_tokens=1)

    assert health.standing(1.0) is Standing.COOLING


def test_an_answer_to_a_last_resort_closes() -> None:
    health = Health()
    fail(health, Failure.RATE_LIMITED, wait=30.0)
    trial = health.began(1.0, last_resort=True)
    assert trial is not None

    trial.succeeded(2.0, seconds=1.0, output_tokens=1)

    assert health.standing(2.0) is Standing.HEALTHY


def test_last_resorts_that_fail_do_not_prolong_the_cool_down() -> None:
    health = Health()
    fail(health, Failure.UNREACHABLE)
    for _ in range(20):
        trial = health.began(1.0, last_resort=True)
        assert trial is not None
        trial.failed(1.0, Failure.UNREACHABLE)

    assert health.cooling_seconds(0.0) == COOL_DOWN_SECONDS[Failure.UNREACHABLE]


def test_a_trial_ends_once() -> None:
    health = Health()
    trial = begun(health)
    begun(health)

    trial.ended()
    trial.ended()

    assert health.in_flight == 1


class Interleavings(RuleBasedStateMachine):
    """Any order of beginnings, outcomes and endings, in any order of time that clocks know."""

    def __init__(self) -> None:
        super().__init__()
        self.health, self.now = Health(), 0.0
        self.open: list[Trial] = []

    @rule(seconds=st.floats(0, 700))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(last_resort=st.booleans())
    def begin(self, last_resort: bool) -> None:
        standing = self.health.standing(self.now)
        trial = self.health.began(self.now, last_resort=last_resort)
        assert (trial is None) == (standing is Standing.COOLING and not last_resort)
        if trial is not None:
            assert trial.is_probe == (standing is Standing.PROBE_DUE)
            self.open.append(trial)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), failure=st.sampled_from(Failure), wait=st.none() | st.floats())
    def fail(self, data: st.DataObject, failure: Failure, wait: float | None) -> None:
        trial = data.draw(st.sampled_from(self.open))
        was_probe = trial.is_probe
        trial.failed(self.now, failure, wait)
        if was_probe:
            assert self.health.standing(self.now) is Standing.COOLING

    @precondition(lambda self: self.open)
    @rule(data=st.data(), seconds=st.floats(-1, 1e6), tokens=st.integers(0, 10**6))
    def succeed(self, data: st.DataObject, seconds: float, tokens: int) -> None:
        trial = data.draw(st.sampled_from(self.open))
        was_probe = trial.is_probe
        trial.succeeded(self.now, seconds=seconds, output_tokens=tokens)
        if was_probe:
            assert self.health.standing(self.now) is Standing.HEALTHY

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        trial = data.draw(st.sampled_from(self.open))
        trial.ended()
        self.open.remove(trial)

    @invariant()
    def at_most_one_probe_is_under_way(self) -> None:
        assert sum(trial.is_probe for trial in self.open) <= 1

    @invariant()
    def what_is_in_flight_is_what_has_not_ended(self) -> None:
        assert self.health.in_flight == len(self.open)

    @invariant()
    def cool_downs_are_within_their_bounds(self) -> None:
        assert 0 <= self.health.cooling_seconds(self.now) <= COOL_DOWN_SECONDS_MAX

    @invariant()
    def it_is_never_left_alone_for_ever(self) -> None:
        later = self.now + LONG
        under_way = any(trial.is_probe for trial in self.open)
        assert under_way or self.health.standing(later) is not Standing.COOLING


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# --- Measures ------------------------------------------------------------------------------


def test_times_are_measured_for_each_token_and_for_whole_answers() -> None:
    health = Health()
    trial = begun(health)

    trial.first_byte(1.25, since=1.0)
    trial.succeeded(3.0, seconds=2.0, output_tokens=8)

    assert health.first_byte_seconds.mean() == 0.25
    assert health.answer_seconds.mean() == 2.0
    assert health.token_seconds.mean() == 0.25
    assert health.success.mean() == 1.0


def test_an_answer_without_tokens_says_nothing_of_the_time_for_each() -> None:
    health = Health()

    succeed(health, seconds=3.0, tokens=0)

    assert health.token_seconds.mean() is None
    assert health.answer_seconds.mean() == 3.0


def test_what_happened_a_half_life_ago_counts_half() -> None:
    average = Decayed(HALF_LIFE_SECONDS)

    average.add(0.0, 4.0)
    average.add(HALF_LIFE_SECONDS, 1.0)

    assert average.mean() == pytest.approx((4.0 / 2 + 1.0) / 1.5)
    assert average.weight_at(HALF_LIFE_SECONDS) == pytest.approx(1.5)


def test_a_clock_that_went_backwards_makes_nothing_heavier() -> None:
    average = Decayed(10.0)

    average.add(100.0, 1.0)
    average.add(50.0, 1.0)

    assert average.weight == 2.0
    assert average.weight_at(0.0) == 2.0


def test_a_busy_past_is_outweighed_in_a_bounded_time() -> None:
    health = Health()
    for _ in range(1_000):
        succeed(health, seconds=9.0, tokens=1)
    assert health.answer_seconds.weight == pytest.approx(MEASURES_WEIGHT_MAX)

    for _ in range(40):
        succeed(health, seconds=1.0, tokens=1)

    average = health.answer_seconds.mean()
    assert average is not None
    assert average < 2.0


@given(
    values=st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0.001, 100)), min_size=1
    )
)
def test_an_average_lies_between_what_went_into_it(
    values: list[tuple[float, float, float]],
) -> None:
    average = Decayed(HALF_LIFE_SECONDS, weight_max=50.0)

    for at, value, weight in values:
        average.add(at, value, weight)

    mean = average.mean()
    assert mean is not None
    assert min(v for _, v, _ in values) - 1e-6 <= mean <= max(v for _, v, _ in values) + 1e-6
    assert average.weight <= 50.0 + 1e-6


# --- Statuses and board --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (200, None), (400, None), (409, None), (413, None), (422, None), (499, None),
        (301, Failure.SERVER_ERROR), (401, Failure.AUTHENTICATION),
        (402, Failure.AUTHENTICATION), (403, Failure.AUTHENTICATION), (404, Failure.NOT_FOUND),
        (408, Failure.TIMEOUT), (429, Failure.RATE_LIMITED), (500, Failure.SERVER_ERROR),
        (503, Failure.SERVER_ERROR), (504, Failure.TIMEOUT), (529, Failure.SERVER_ERROR),
    ],
)  # fmt: skip
def test_what_a_status_says_of_the_deployment(status: int, failure: Failure | None) -> None:
    assert failure_of(status) is failure


def test_the_board_tells_the_same_health_until_the_deployment_has_left() -> None:
    board = HealthBoard()
    stays, leaves = board.of("stays"), board.of("leaves")

    board.keep(["stays", "never seen"])

    assert board.of("stays") is stays
    assert board.of("leaves") is not leaves


def test_the_board_keeps_so_many_and_no_more() -> None:
    board = HealthBoard(healths_max=3)

    for id in ids(10):
        board.of(id)

    assert len(board) == 3


def ids(number: int) -> Iterator[str]:
    return (f"deployment-{each}" for each in range(number))
