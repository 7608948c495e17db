"""Why figures differ: each part has one cause, and together they are the whole difference."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.money import EXACT
from spend.invoices import differences
from spend.invoices.differences import (
    HARMLESS,
    Cause,
    Cell,
    Part,
    Place,
    Side,
    drift_of,
    explain,
    is_drifting,
    percent_of,
    rounding_of,
    sums_by_cause,
)

pytestmark = pytest.mark.no_servers

FIRST: Final = date(2026, 11, 1)
CENT: Final = Decimal("0.01")


def side(amount: str | None, tokens: Any = None) -> Side | None:
    return None if amount is None else Side(Decimal(amount), tokens)


def cell(theirs: Side | None, ours: Side | None, *, day: int = 0, **more: Any) -> Cell:
    fields = {"tolerance": Decimal("0.005")} | more
    return Cell(Place(FIRST + timedelta(days=day), "m"), theirs, ours, **fields)


def causes(*cells: Cell) -> list[list[Cause]]:
    return [[part.cause for part in each.parts] for each in explain(cells)]


def test_what_agrees_has_no_cause() -> None:
    assert causes(cell(side("1"), side("1.00"))) == [[]]


@pytest.mark.parametrize(
    ("decimals", "tolerance"),
    [(0, "0.005"), (2, "0.005"), (3, "0.0005"), (6, "0.0000005"), (18, "0.000000001")],
)
def test_a_line_may_be_off_by_half_of_its_last_digit_within_bounds(
    decimals: int, tolerance: str
) -> None:
    assert rounding_of(decimals) == Decimal(tolerance)


def test_within_the_tolerance_it_is_rounding_and_beyond_it_is_not() -> None:
    within, beyond = side("1.005"), side("1.0050001")

    assert causes(cell(within, side("1"))) == [[Cause.ROUNDING]]
    assert causes(cell(beyond, side("1"))) == [[Cause.UNEXPLAINED]]


def test_days_in_a_row_that_add_up_are_timing() -> None:
    pair = [cell(side("1"), side("3")), cell(side("5"), side("3"), day=1)]
    chain = [
        cell(side("2"), side("3")),
        cell(side("2"), side("3"), day=1),
        cell(side("5"), side("3"), day=2),
    ]

    assert causes(*pair) == [[Cause.TIMING]] * 2
    assert causes(*chain) == [[Cause.TIMING]] * 3


def test_a_day_that_only_one_side_has_may_be_timing() -> None:
    late = [cell(None, side("3")), cell(side("3"), None, day=1)]

    assert causes(*late) == [[Cause.TIMING]] * 2


def test_days_apart_days_of_other_models_and_too_many_days_are_no_timing() -> None:
    apart = [cell(side("1"), side("3")), cell(side("5"), side("3"), day=2)]
    other = cell(side("5"), side("3"), day=1)
    other_model = [apart[0], Cell(Place(other.place.day, "n"), other.theirs, other.ours)]
    long = [cell(side("2"), side("3"), day=n) for n in range(7)]
    long.append(cell(side("10"), side("3"), day=7))

    assert [Cause.TIMING] not in causes(*apart) + causes(*other_model)
    assert causes(*long) == [[Cause.UNEXPLAINED]] * 8


def test_days_whose_tokens_agree_or_do_not_add_up_are_no_timing() -> None:
    same = (10, 2)
    prices = [
        cell(side("1", same), side("3", same)),
        cell(side("5", same), side("3", same), day=1),
    ]
    others = [
        cell(side("1", (1, 0)), side("3", (3, 0))),
        cell(side("5", (9, 0)), side("3", (3, 0)), day=1),
    ]

    assert causes(*prices) == [[Cause.PRICE]] * 2
    assert causes(*others) == [[Cause.MISSING]] * 2


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_multiple_of_ours_is_a_duplicate(times: int) -> None:
    ours = side("1.25", (100, 7))
    theirs = Side(Decimal("1.25") * times, (100 * times, 7 * times))
    without_tokens = Side(Decimal("1.25") * times)

    assert causes(cell(theirs, ours)) == [[Cause.DUPLICATE]]
    assert causes(cell(without_tokens, ours)) == [[Cause.DUPLICATE]]


def test_a_multiple_in_money_alone_is_a_price_and_six_times_is_no_duplicate() -> None:
    assert causes(cell(side("2", (9, 9)), side("1", (9, 9)))) == [[Cause.PRICE]]
    assert causes(cell(side("6"), side("1"))) == [[Cause.UNEXPLAINED]]


def test_repeated_lines_are_a_duplicate_and_the_rest_has_a_cause_of_its_own() -> None:
    twice = cell(side("2", (9, 9)), side("1", (9, 9)), repeated=Decimal(1))
    and_more = cell(side("2.5", (9, 9)), side("1", (9, 9)), repeated=Decimal(1))

    assert causes(twice, and_more) == [[Cause.DUPLICATE], [Cause.DUPLICATE, Cause.PRICE]]


def test_a_side_that_has_nothing_or_other_tokens_is_missing() -> None:
    theirs_only, ours_only = cell(side("1"), None), cell(None, side("1"))
    more = cell(side("2", (3, 3)), side("1", (2, 3)))

    assert [causes(each) for each in (theirs_only, ours_only, more)] == [[[Cause.MISSING]]] * 3


def test_without_tokens_nobody_can_tell_price_from_missing() -> None:
    assert causes(cell(side("1.3"), side("1", (2, 3)))) == [[Cause.UNEXPLAINED]]


# --- Of any figures whatever ---------------------------------------------------------------

AMOUNTS = st.decimals(min_value=0, max_value=10**6, places=4) | st.sampled_from(
    [Decimal(text) for text in ("0", "1", "2", "1.005", "0.000000000000000001")]
)
TOKENS = st.none() | st.tuples(st.integers(0, 5), st.integers(0, 3))
THEIRS = st.none() | st.builds(Side, amount=AMOUNTS, tokens=TOKENS)
OURS = st.none() | st.builds(
    Side, amount=AMOUNTS, tokens=st.tuples(st.integers(0, 5), st.integers(0, 3))
)
CELLS = st.lists(
    st.builds(
        Cell,
        place=st.builds(
            Place,
            day=st.integers(0, 9).map(lambda n: FIRST + timedelta(days=n)),
            model=st.sampled_from("mn"),
        ),
        theirs=THEIRS,
        ours=OURS,
        repeated=st.just(Decimal(0)) | AMOUNTS,
        tolerance=st.sampled_from([Decimal(0), Decimal("0.005"), Decimal(1)]),
    ),
    max_size=12,
    unique_by=lambda each: each.place,
)


@given(CELLS)
def test_the_parts_of_all_differences_are_the_whole_difference(cells: list[Cell]) -> None:
    explained = explain(cells)

    whole = differences.total(each.difference for each in cells)
    assert differences.total(sums_by_cause(explained).values()) == whole
    for each in explained:
        parts = differences.total(part.amount for part in each.parts)
        assert parts == each.cell.difference


@given(CELLS)
def test_every_difference_has_a_cause_and_what_is_left_of_repeats_has_one(
    cells: list[Cell],
) -> None:
    for each in explain(cells):
        rest = [part for part in each.parts if part != Part(Cause.DUPLICATE, each.cell.repeated)]

        assert all(part.amount != 0 for part in each.parts)
        assert len(each.parts) == bool(each.cell.repeated) + bool(each.cell.rest)
        assert len(rest) <= 1 or each.cell.repeated == each.cell.rest


@given(CELLS)
def test_each_rule_is_what_it_says(cells: list[Cell]) -> None:
    for each in explain(cells):
        cell, rest = each.cell, each.parts[-1:]
        if not cell.rest:
            continue
        (part,) = rest
        told = cell.theirs is not None and cell.theirs.tokens is not None
        both = cell.theirs is not None and cell.ours is not None
        same = both and cell.theirs.tokens == cell.ours.tokens  # type: ignore[union-attr]  # both
        rule = {
            Cause.ROUNDING: abs(cell.rest) <= cell.tolerance,
            Cause.TIMING: abs(cell.rest) > cell.tolerance and not same,
            Cause.DUPLICATE: both,
            Cause.PRICE: both and told and same,
            Cause.MISSING: not both or (told and not same),
            Cause.UNEXPLAINED: both and not told,
        }
        assert rule[part.cause], part


@given(CELLS, st.randoms())
def test_the_order_of_the_lines_changes_nothing(cells: list[Cell], random: Any) -> None:
    shuffled = list(cells)
    random.shuffle(shuffled)

    assert explain(shuffled) == explain(cells)


@given(CELLS)
def test_drift_is_what_is_not_harmless_whichever_way_it_goes(cells: list[Cell]) -> None:
    explained = explain(cells)

    parts = [part for each in explained for part in each.parts]
    harmful = [abs(part.amount) for part in parts if part.cause not in HARMLESS]
    assert drift_of(explained) == differences.total(harmful)


# --- Drift ---------------------------------------------------------------------------------


def test_what_goes_one_way_does_not_make_up_for_what_goes_the_other() -> None:
    both_ways = [cell(side("3"), side("1.5")), cell(side("1"), side("2.5"), day=3)]
    assert sum(each.difference for each in both_ways) == 0

    assert drift_of(explain(both_ways)) == 3


def test_percent_is_of_theirs_and_of_nothing_there_is_none() -> None:
    assert percent_of(Decimal(1), Decimal(3)) == Decimal("33.3334")
    assert percent_of(Decimal("-1e-18"), Decimal(3)) == Decimal("-0.0001")
    assert percent_of(Decimal(1), Decimal(0)) is None
    assert percent_of(Decimal(10**20), Decimal("1e-18")) == differences.PERCENT_MAX


def test_drift_must_be_beyond_the_threshold_exactly() -> None:
    at, beyond = CENT, EXACT.add(CENT, Decimal("1e-18"))

    assert not is_drifting(at, Decimal(1), percent_max=1)
    assert is_drifting(beyond, Decimal(1), percent_max=1)
    assert not is_drifting(Decimal(0), Decimal(0), percent_max=0)
    assert is_drifting(Decimal("1e-18"), Decimal(0), percent_max=100)
