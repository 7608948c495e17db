"""No float comes near an amount: not in the source of what computes money, and not at run time."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from budgets import money
from spend import events
from spend.components import Component
from spend.rates import Price, Rate

pytestmark = pytest.mark.no_servers

ROOT = Path(__file__).parent.parent
MONEY_PATHS = sorted(
    path
    for pattern in (
        "budgets/money.py", "spend/components.py", "spend/rates.py", "spend/pricing.py",
        "spend/pricebook.py", "spend/events.py", "spend/ledger.py", "spend/rerating.py",
        "spend/currencies/*.py", "spend/reconciling/*.py", "spend/reporting/*.py", "spend/jumps.py",
        "spend/catalogues/*.py", "spend/usage/*.py", "spend/services/*.py", "spend/models/*.py",
        "spend/invoices/*.py", "gateway/offers.py", "gateway/metering.py",
    )
    for path in ROOT.glob(pattern)
    # What providers send is taken out of JSON there, floats too, and made whole numbers; and the
    # other one counts seconds.
    if path.name not in {"counts.py", "fetching.py"}
)  # fmt: skip


def floats_in(source: str) -> Iterator[str]:
    """
    Yield each place of a source that makes or names a float, or divides with ``/``; a source that
    computes with fractions divides exactly.
    """
    is_exact = "from fractions import Fraction" in source
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=float()):
                yield f"line {node.lineno}: the number {node.value!r}"
            case ast.Name(id="float"):
                yield f"line {node.lineno}: float"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()) if not is_exact:
                yield f"line {node.lineno}: /"


def test_the_files_that_compute_money_are_there() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in MONEY_PATHS}

    assert {"budgets/money.py", "spend/pricing.py", "spend/rates.py", "spend/ledger.py"} <= names


@pytest.mark.parametrize("path", MONEY_PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_float_is_in_the_source(path: Path) -> None:
    assert list(floats_in(path.read_text())) == []


@pytest.mark.parametrize("source", ["x = 1.5", "x = float(y)", "x: float", "x = y / 2", "x /= 2"])
def test_a_float_would_be_found(source: str) -> None:
    assert len(list(floats_in(source))) == 1


@pytest.mark.parametrize("amount", [0.1, 1, "1", True, None])
def test_what_is_no_decimal_becomes_no_units(amount: Any) -> None:
    with pytest.raises(AssertionError):
        money.to_units(amount, currency="USD")


def test_a_float_as_cost_reaches_no_event() -> None:
    cost: Any = 0.1
    outcome = events.Outcome(status=200, cost=cost, usage={})

    with pytest.raises(AssertionError):
        events.encode(None, outcome)  # type: ignore[arg-type]  # it is not looked at


def test_a_float_as_rate_makes_no_price() -> None:
    rate: Any = 0.1

    with pytest.raises(AssertionError):
        Price("USD", (Rate(Component.INPUT, rate),), "x")
