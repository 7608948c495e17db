"""A comparison as the admin's pages show it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from budgets import display, money
from budgets.admin import bars
from budgets.admin.lists import state
from spend.invoices import differences
from spend.invoices.differences import HARMLESS, Cause, Explained, Part, Side
from spend.models import InvoiceState
from spend.reconciling.invoice_text import CAUSE_WORDS, side_words
from spend.reconciling.reconciliation import Comparison

ROWS_SHOWN_MAX: Final = 500
KEYS_SHOWN_MAX: Final = 20
PERCENT_STEP: Final = Decimal("0.01")
AGREES: Final = state("fine", "check_circle", "agrees")
_ICONS: Final = {
    Cause.ROUNDING: ("fine", "decimal_decrease"),
    Cause.TIMING: ("fine", "schedule"),
    Cause.DUPLICATE: ("full", "content_copy"),
    Cause.PRICE: ("warning", "sell"),
    Cause.MISSING: ("full", "link_off"),
    Cause.UNEXPLAINED: ("warning", "help"),
}
_MEANINGS: Final = {
    Cause.ROUNDING: "within half of the last digit that the provider shows",
    Cause.TIMING: "the same requests, counted on another day",
    Cause.DUPLICATE: "the provider counts something more than once",
    Cause.PRICE: "the same tokens at another price",
    Cause.MISSING: "one side lacks requests that the other has",
    Cause.UNEXPLAINED: "the file tells no tokens: a price or missing requests",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One place; it is unmatched where one side has nothing."""

    day: Any
    model: str
    key: str
    theirs: SafeString | str
    ours: SafeString | str
    difference: SafeString | str
    percent: str
    cause: SafeString
    is_unmatched: bool


@dataclass(frozen=True, slots=True)
class CauseTold:
    cause: SafeString
    meaning: str
    amount: SafeString | str
    is_drift: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A comparison with its rows; ``left_out`` counts those that agree and are not shown."""

    measure: str
    days: str
    theirs: SafeString | str
    ours: SafeString | str
    difference: SafeString | str
    drift: SafeString | str
    percent: str
    state: SafeString
    causes: list[CauseTold]
    rows: list[Row]
    left_out: int
    cut: int
    has_keys: bool
    other_currencies: str
    unmapped_keys: str
    unlisted: str


def told(found: Comparison, *, everything: bool) -> Told:
    """Return what a page says of a comparison: what differs, or every place."""
    differing = [row for row in found.rows if row.parts]
    wanted: Sequence[Explained] = found.rows if everything else differing
    return Told(
        measure=found.currency or "tokens",
        days=f"{found.first_day} to {found.last_day}",
        theirs=figure(found.theirs, found.currency),
        ours=figure(found.ours, found.currency),
        difference=signed(found.difference, found.currency),
        drift=figure(found.drift, found.currency),
        percent=percent(found.drift_percent),
        state=state_of(found.state),
        causes=[_cause(cause, amount, found.currency) for cause, amount in found.by_cause.items()],
        rows=[_row(row, found.currency) for row in wanted[:ROWS_SHOWN_MAX]],
        left_out=len(found.rows) - len(wanted),
        cut=max(0, len(wanted) - ROWS_SHOWN_MAX),
        has_keys=any(row.cell.place.key for row in found.rows),
        other_currencies=", ".join(found.other_currencies),
        unmapped_keys=_listed(found.unmapped_keys),
        unlisted=display.count(found.unlisted) if found.unlisted else "",
    )


def figure(value: Decimal, currency: str) -> SafeString | str:
    """Return an amount, or without a currency a number of tokens."""
    return bars.fine_amount(value, currency) if currency else display.count(int(value))


def signed(value: Decimal, currency: str) -> SafeString | str:
    """Return a difference with its sign; what is nothing has none."""
    if value == 0:
        return bars.NOTHING
    sign = "+" if value > 0 else display.MINUS
    return format_html('<span class="cp-number">{}{}</span>', sign, figure(abs(value), currency))


def percent(value: Decimal | None) -> str:
    """Return a share with two decimals; what is not nothing never reads as nothing."""
    if value is None:
        return bars.NOTHING
    sign = display.MINUS if value < 0 else ""
    if 0 < abs(value) < PERCENT_STEP:
        return f"<{PERCENT_STEP} %"
    return f"{sign}{money.plain(abs(value).quantize(PERCENT_STEP))} %"


def state_of(value: str) -> SafeString:
    if value == InvoiceState.DRIFTING:
        return state("full", "trending_up", "Drifting")
    return state("fine", "check_circle", "Matching")


def _row(row: Explained, currency: str) -> Row:
    cell = row.cell
    theirs = differences.amount_of(cell.theirs)
    share = differences.percent_of(cell.difference, theirs) if row.parts else None
    return Row(
        day=cell.place.day,
        model=cell.place.model,
        key=cell.place.key,
        theirs=_side(cell.theirs, currency),
        ours=_side(cell.ours, currency),
        difference=signed(cell.difference, currency),
        percent=percent(share),
        cause=_causes(row.parts),
        is_unmatched=bool(row.parts) and (cell.theirs is None or cell.ours is None),
    )


def _side(side: Side | None, currency: str) -> SafeString | str:
    return bars.NOTHING if side is None else figure(side.amount, currency)


def _causes(parts: Iterable[Part]) -> SafeString:
    shown = [(state(*_ICONS[each.cause], side_words(each.cause, each.amount)),) for each in parts]
    return format_html_join(" ", "{}", shown) if shown else AGREES


def _cause(cause: Cause, amount: Decimal, currency: str) -> CauseTold:
    return CauseTold(
        cause=state(*_ICONS[cause], CAUSE_WORDS[cause]),
        meaning=_MEANINGS[cause],
        amount=signed(amount, currency),
        is_drift=cause not in HARMLESS,
    )


def _listed(keys: Sequence[str]) -> str:
    more = len(keys) - KEYS_SHOWN_MAX
    rest = f" and {display.count(more)} more" if more > 0 else ""
    return ", ".join(keys[:KEYS_SHOWN_MAX]) + rest
