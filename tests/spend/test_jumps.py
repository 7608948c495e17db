"""Slips in price lists: what is far from what is charged, whichever rate that is by."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import pytest

from spend import price_terms
from spend.catalogues.diff import Book, Change, HeldModel, HeldPrice, compare
from spend.catalogues.listing import BEGINNING, ListedModel, ListedPrice, Listing
from spend.components import Component
from spend.rates import BATCH, Rate

pytestmark = pytest.mark.no_servers

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
NIGHT: Final = "00:00-06:00"
_C = Component


def rate(component: Component, per_million: str, **conditions: object) -> Rate:
    return Rate(component, Decimal(per_million), per=10**6, **conditions)  # type: ignore[arg-type]


INPUT: Final = rate(_C.INPUT, "10")
OUTPUT: Final = rate(_C.OUTPUT, "10")


def change(
    new: Sequence[Rate], *, held: Sequence[Rate] | None = None, currency: str = "USD"
) -> Change:
    """Return what a list of one model changes, of a book that has it at ``held`` or lacks it."""
    prices = (HeldPrice(1, "list", BEGINNING, None, currency, tuple(held or ())),)
    known = [HeldModel("vendor", "m", (), (), prices)] if held else []
    model = ListedModel("vendor", "m", (ListedPrice(BEGINNING, tuple(new), currency=currency),))
    listing = Listing("list", "2", {"vendor": "vendor"}, (model,))
    (found,) = compare(listing, Book(known), now=NOW, jump_max=10).changes
    return found


@pytest.mark.parametrize(
    ("held", "new", "jumps"),
    [
        ([INPUT, rate(_C.CACHED_READ, "0.1")], [INPUT], True),
        ([INPUT, rate(_C.CACHED_READ, "1")], [INPUT], False),
        ([INPUT, rate(_C.CACHED_READ, "0")], [INPUT], True),
        ([OUTPUT], [OUTPUT, rate(_C.REASONING, "101")], True),
        ([OUTPUT], [OUTPUT, rate(_C.REASONING, "100")], False),
        ([OUTPUT], [OUTPUT, rate(_C.REASONING, "0.9")], True),
        ([INPUT], [INPUT, rate(_C.INPUT, "0.4", service_tier=BATCH)], True),
        ([INPUT], [INPUT, rate(_C.INPUT, "0.5", service_tier=BATCH)], False),
        ([INPUT], [INPUT, rate(_C.INPUT, "101", tier_from=200_000)], True),
        ([INPUT], [INPUT, rate(_C.INPUT, "20", tier_from=200_000)], False),
        ([INPUT], [INPUT, rate(_C.INPUT, "0.9", window=NIGHT)], True),
        ([INPUT, rate(_C.INPUT, "0.9", window=NIGHT)], [INPUT], True),
        ([INPUT, rate(_C.INPUT, "5", window=NIGHT)], [INPUT], False),
        ([INPUT], [INPUT, rate(_C.PAGE, "1000000")], False),
        ([INPUT], [INPUT, rate(_C.OUTPUT, "1000.01")], True),
        ([INPUT, rate(_C.PAGE, "9")], [INPUT], False),
    ],
)
def test_what_is_charged_is_compared_and_not_what_is_written(
    held: list[Rate], new: list[Rate], jumps: bool
) -> None:
    assert change(new, held=held).needs_confirmation is jumps
    assert bool(price_terms.jumps(new, held, currency="USD")) is jumps


def test_a_rate_that_goes_is_told_with_the_factor_to_what_takes_its_place() -> None:
    found = change([INPUT], held=[INPUT, rate(_C.CACHED_READ, "0.1")])

    (line,) = found.lines
    assert line.new is None
    assert line.factor == 100


@pytest.mark.parametrize(
    ("new", "currency", "jumps"),
    [
        (Rate(_C.INPUT, Decimal("2.50")), "USD", True),
        (rate(_C.INPUT, "1000.01"), "USD", True),
        (rate(_C.INPUT, "1000"), "USD", False),
        (rate(_C.INPUT, "90000"), "JPY", False),
        (rate(_C.INPUT, "100001"), "JPY", True),
        (Rate(_C.IMAGES, Decimal("2.50")), "USD", False),
    ],
)
def test_a_model_that_is_new_is_measured_by_what_a_token_can_cost(
    new: Rate, currency: str, jumps: bool
) -> None:
    assert change([new], currency=currency).needs_confirmation is jumps
    assert bool(price_terms.jumps([new], [], currency=currency)) is jumps
