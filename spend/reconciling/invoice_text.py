"""A comparison as plain text: a table for terminals, the sums under it."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from budgets import display, money
from spend.invoices.differences import Cause, Explained, Side
from spend.reconciling.reconciliation import Comparison

HEAD: Final = ("day", "model", "key", "theirs", "ours", "difference", "cause")
RIGHT: Final = frozenset({3, 4, 5})
ROWS_MAX: Final = 1_000
NAME_MAX: Final = 48
NOTHING: Final = "–"
CAUSE_WORDS: Final = {
    Cause.ROUNDING: "rounding",
    Cause.TIMING: "timing",
    Cause.DUPLICATE: "duplicate",
    Cause.PRICE: "price",
    Cause.MISSING: "missing",
    Cause.UNEXPLAINED: "unexplained",
}


def table(found: Comparison) -> Iterator[str]:
    """Yield the lines of a table of what differs, and of the sums of everything."""
    differing = [row for row in found.rows if row.parts]
    if differing:
        yield from _aligned([HEAD, *(_cells(row) for row in differing[:ROWS_MAX])])
        if len(differing) > ROWS_MAX:
            yield f"and {display.count(len(differing) - ROWS_MAX)} more"
        yield ""
    yield f"{found.provider}, {found.first_day} to {found.last_day}, in {_measure(found)}"
    yield (
        f"theirs {money.plain(found.theirs)}, ours {money.plain(found.ours)}, "
        f"difference {signed(found.difference)}"
    )
    for cause, amount in found.by_cause.items():
        yield f"  {CAUSE_WORDS[cause]} {signed(amount)}"
    for currency in found.other_currencies:
        yield f"not compared: what the ledger has in {currency}"
    if found.unlisted:
        yield f"requests without a list price, ours as 0: {display.count(found.unlisted)}"
    if found.unmapped_keys:
        yield f"keys that are not mapped: {display.count(len(found.unmapped_keys))}"
    yield f"drift {money.plain(found.drift)}{_share(found)}: {found.state.label.lower()}"


def signed(amount: Decimal) -> str:
    return f"+{money.plain(amount)}" if amount > 0 else money.plain(amount)


def side_words(cause: Cause, amount: Decimal) -> str:
    """Return a cause in words that say which side has more, where that is what it is about."""
    if cause != Cause.MISSING:
        return CAUSE_WORDS[cause]
    return "missing in the ledger" if amount > 0 else "missing on the invoice"


def _cells(row: Explained) -> tuple[str, ...]:
    place, cell = row.cell.place, row.cell
    causes = [f"{side_words(part.cause, part.amount)}" for part in row.parts]
    return (
        f"{place.day}", place.model[:NAME_MAX] or NOTHING, place.key[:NAME_MAX] or NOTHING,
        _amount(cell.theirs), _amount(cell.ours), signed(cell.difference), ", ".join(causes),
    )  # fmt: skip


def _amount(side: Side | None) -> str:
    return NOTHING if side is None else money.plain(side.amount)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            text.rjust(width) if n in RIGHT else text.ljust(width)
            for n, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _measure(found: Comparison) -> str:
    return found.currency or "tokens"


def _share(found: Comparison) -> str:
    percent = found.drift_percent
    return "" if percent is None else f" ({money.plain(percent)} % of theirs)"
