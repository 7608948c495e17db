"""
Why a provider's figures and ours differ: pure sums, each part of a difference under one cause.

Figures are compared by UTC day, model and (where it is mapped) key. A difference is theirs less
ours. What lines with an id that came before add is a duplicate; what is left of a day's difference
has exactly one cause, the first whose rule fits:

rounding     not more than what the provider's rounding of the lines shown can make up
timing       days in a row whose differences add up to nothing: the same requests, on another day
duplicate    theirs is two to five times ours, in tokens too where they are told
price        the same tokens, other money
missing      one side has nothing, or fewer tokens: past the gateway, or not billed (yet)
unexplained  both have something and the provider tells no tokens to compare

So the parts of all differences add up to the whole difference, to the last digit.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_UP, Decimal
from enum import StrEnum
from functools import reduce
from typing import Final

from budgets.money import EXACT, WIDE

ROUNDING_MIN: Final = Decimal("0.000000001")
ROUNDING_MAX: Final = Decimal("0.005")
MULTIPLES: Final = range(2, 6)
DAYS_IN_A_ROW_MAX: Final = 7
PERCENT_STEP: Final = Decimal("0.0001")
PERCENT_MAX: Final = Decimal("9999999999.9999")
NOTHING: Final = Decimal(0)
Tokens = tuple[int, int]
"""Input and output."""


class Cause(StrEnum):
    ROUNDING = "rounding"
    TIMING = "timing"
    DUPLICATE = "duplicate"
    PRICE = "price"
    MISSING = "missing"
    UNEXPLAINED = "unexplained"


HARMLESS: Final = frozenset({Cause.ROUNDING, Cause.TIMING})
"""Causes that are no drift: nobody pays more or less for them."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What is compared as one: a day of a model, under a key or, where that is empty, under all."""

    day: date
    model: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """What one side says of a place; tokens that it does not tell are None."""

    amount: Decimal = NOTHING
    tokens: Tokens | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """
    Both sides of a place; a side that has nothing there is None.

    ``repeated`` is what lines add to theirs whose id came before, ``tolerance`` what rounding may.
    """

    place: Place
    theirs: Side | None
    ours: Side | None
    repeated: Decimal = NOTHING
    tolerance: Decimal = NOTHING

    @property
    def difference(self) -> Decimal:
        return EXACT.subtract(amount_of(self.theirs), amount_of(self.ours))

    @property
    def rest(self) -> Decimal:
        """What is left of the difference without the repeated lines."""
        return EXACT.subtract(self.difference, self.repeated)


@dataclass(frozen=True, slots=True)
class Part:
    cause: Cause
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Explained:
    """A cell with the parts of its difference, none where there is no difference."""

    cell: Cell
    parts: tuple[Part, ...]


def rounding_of(decimals: int) -> Decimal:
    """Return by how much a line may be off that shows so many decimals: half of the last one."""
    half = Decimal(5).scaleb(-(decimals + 1))
    return min(max(half, ROUNDING_MIN), ROUNDING_MAX)


def explain(cells: Iterable[Cell]) -> list[Explained]:
    """Return every cell, ordered by its place, with why its sides differ."""
    ordered = sorted(cells, key=lambda cell: cell.place)
    moved = _moved(ordered)
    return [Explained(cell, _parts(cell, cell.place in moved)) for cell in ordered]


def sums_by_cause(explained: Iterable[Explained]) -> dict[Cause, Decimal]:
    """Return the sum of all parts of each cause there is; together they are the difference."""
    sums: dict[Cause, Decimal] = defaultdict(Decimal)
    for part in (part for each in explained for part in each.parts):
        sums[part.cause] = EXACT.add(sums[part.cause], part.amount)
    return {cause: sums[cause] for cause in Cause if cause in sums}


def drift_of(explained: Iterable[Explained]) -> Decimal:
    """Return what is not harmless, whichever way it goes: none makes up for another."""
    return total(
        abs(part.amount) for each in explained for part in each.parts if part.cause not in HARMLESS
    )


def percent_of(drift: Decimal, theirs: Decimal) -> Decimal | None:
    """Return drift in per cent of theirs, rounded away from 0; of nothing there is none."""
    if theirs == 0:
        return None
    percent = WIDE.divide(EXACT.multiply(drift, Decimal(100)), theirs)
    return min(percent.quantize(PERCENT_STEP, ROUND_UP, WIDE), PERCENT_MAX)


def is_drifting(drift: Decimal, theirs: Decimal, *, percent_max: int) -> bool:
    """Return whether drift is above so many per cent of theirs; of nothing any is."""
    return EXACT.multiply(drift, Decimal(100)) > EXACT.multiply(theirs, Decimal(percent_max))


def amount_of(side: Side | None) -> Decimal:
    return NOTHING if side is None else side.amount


def total(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(EXACT.add, amounts, NOTHING)


def _parts(cell: Cell, is_moved: bool) -> tuple[Part, ...]:
    parts = [Part(Cause.DUPLICATE, cell.repeated)] if cell.repeated else []
    if cell.rest:
        parts.append(Part(_cause(cell, is_moved), cell.rest))
    return tuple(parts)


def _cause(cell: Cell, is_moved: bool) -> Cause:
    if abs(cell.rest) <= cell.tolerance:
        return Cause.ROUNDING
    if is_moved:
        return Cause.TIMING
    if _is_multiple(cell):
        return Cause.DUPLICATE
    if cell.theirs is None or cell.ours is None:
        return Cause.MISSING
    if cell.theirs.tokens is None or cell.ours.tokens is None:
        return Cause.UNEXPLAINED
    return Cause.PRICE if cell.theirs.tokens == cell.ours.tokens else Cause.MISSING


def _is_multiple(cell: Cell) -> bool:
    if cell.theirs is None or cell.ours is None or cell.ours.amount <= 2 * cell.tolerance:
        return False
    theirs, ours = cell.theirs, cell.ours
    once = EXACT.subtract(theirs.amount, cell.repeated)
    return any(
        abs(EXACT.subtract(once, EXACT.multiply(ours.amount, Decimal(n)))) <= cell.tolerance
        and _are_times(theirs.tokens, ours.tokens, n)
        for n in MULTIPLES
    )


def _are_times(theirs: Tokens | None, ours: Tokens | None, n: int) -> bool:
    return None in {theirs, ours} or theirs == tuple(n * each for each in ours or ())


def _moved(ordered: Sequence[Cell]) -> set[Place]:
    """Return the places of runs of days whose differences add up to nothing."""
    series: Mapping[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in ordered:
        series[cell.place.model, cell.place.key].append(cell)
    moved: set[Place] = set()
    for cells in series.values():
        start = 0
        while start < len(cells):
            run = _run(cells[start : start + DAYS_IN_A_ROW_MAX])
            moved |= {cell.place for cell in run}
            start += max(1, len(run))
    return moved


def _run(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Return the shortest run from the first day on that adds up to nothing, or none."""
    for length, cell in enumerate(cells, start=1):
        before = cells[length - 2] if length > 1 else None
        if not _may_move(cell) or (before and not _follows(cell, before)):
            return ()
        if before and _adds_up(cells[:length]):
            return cells[:length]
    return ()


def _may_move(cell: Cell) -> bool:
    """Return whether requests may have been counted on another day: not if the tokens agree."""
    if abs(cell.rest) <= cell.tolerance:
        return False
    theirs, ours = _tokens(cell.theirs), _tokens(cell.ours)
    return theirs is None or ours is None or theirs != ours


def _follows(cell: Cell, before: Cell) -> bool:
    return cell.place.day - before.place.day == timedelta(days=1)


def _adds_up(run: Sequence[Cell]) -> bool:
    if abs(total(cell.rest for cell in run)) > total(cell.tolerance for cell in run):
        return False
    theirs, ours = ([_tokens(side) for side in sides] for sides in (
        [cell.theirs for cell in run], [cell.ours for cell in run],
    ))  # fmt: skip
    if None in theirs or None in ours:
        return True
    return _summed(theirs) == _summed(ours)


def _tokens(side: Side | None) -> Tokens | None:
    """Return the tokens of a side; a side that has nothing has none of them."""
    return (0, 0) if side is None else side.tokens


def _summed(tokens: Iterable[Tokens | None]) -> Tokens:
    told = [each for each in tokens if each is not None]
    return sum(each[0] for each in told), sum(each[1] for each in told)
