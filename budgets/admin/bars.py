"""Figures as HTML: text, icon and colour say the same, and a screen reader hears it once."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from budgets import display
from budgets.admin.figures import FULL, WARN_FROM, AccountFigures, Figure
from budgets.models import Budget

BARS_MAX: Final = 3
NOTHING: Final = "–"


def amount(value: Decimal, currency: str) -> SafeString:
    """Return an amount with all its decimals on hover."""
    return format_html(
        '<span class="cp-number" title="{}">{}</span>',
        display.exact(value, currency),
        display.amount(value, currency),
    )


def fine_amount(value: Decimal, currency: str) -> SafeString:
    return format_html(
        '<span class="cp-number" title="{}">{}</span>',
        display.exact(value, currency),
        display.fine_amount(value, currency),
    )


def when(at: datetime, *, now: datetime) -> SafeString:
    """Return an instant as people say it, with the exact one under it."""
    return format_html(
        '<time class="cp-when" datetime="{}" title="{}">{} <small>{}</small></time>',
        at.isoformat(), display.moment(at.astimezone(UTC)), display.relative(at, now=now),
        display.moment(at),
    )  # fmt: skip


def rates(budget: Budget) -> str:
    """Return a budget's limits of requests and tokens in words, or nothing."""
    return display.rates(
        requests=budget.rpm_limit,
        tokens=budget.tpm_limit,
        at_once=budget.max_parallel_requests,
    )


def bars(figures: AccountFigures) -> SafeString:
    """Return a bar for each budget of an account, the fullest first."""
    if not figures.budgets:
        return format_html(
            '<span class="cp-quiet">no limit · </span>{} <span class="cp-quiet">in all</span>{}',
            amount(figures.lifetime, figures.currency), _as_of(figures),
        )  # fmt: skip
    shown = format_html_join("", "{}", ((bar(each),) for each in figures.budgets[:BARS_MAX]))
    more = len(figures.budgets) - BARS_MAX
    rest = format_html('<div class="cp-quiet">and {} more</div>', more) if more > 0 else ""
    return format_html("{}{}{}", shown, rest, _as_of(figures))


def bar(figure: Figure) -> SafeString:
    """Return one budget: spent and reserved of its limit, and what is left."""
    if figure.limit is None:
        return _without_limit(figure)
    state, icon = _state(figure)
    return format_html(
        '<div class="cp-budget cp-{}" title="{}"><div class="cp-line">'
        '<span class="material-symbols-outlined" aria-hidden="true">{}</span>'
        "<strong>{} %</strong><span>{} of {}</span><span>{}</span></div>"
        '<div class="cp-bar" role="img" aria-label="{}">'
        '<i class="cp-spent" style="width:{}%"></i><i class="cp-reserved" style="width:{}%"></i>'
        "</div></div>",
        state, _exactly(figure), icon, figure.share,
        display.amount(figure.spent, figure.currency), _limit_words(figure), _left(figure),
        _spoken(figure), *_widths(figure),
    )  # fmt: skip


def _without_limit(figure: Figure) -> SafeString:
    alert = figure.budget.soft_budget
    words = rates(figure.budget) or "no limit"
    if alert is not None:
        words = f"alert at {display.amount(alert, figure.currency)}"
    return format_html(
        '<div class="cp-budget cp-line">{} {} <span class="cp-quiet">{}</span></div>',
        amount(figure.spent, figure.currency), display.per_period(figure.budget.duration), words,
    )  # fmt: skip


def _state(figure: Figure) -> tuple[str, str]:
    if figure.share >= FULL:
        return "full", "block"
    if figure.share >= WARN_FROM:
        return "warning", "warning"
    return "fine", "check_circle"


def _limit_words(figure: Figure) -> str:
    words = display.limit_terms(figure.limit, figure.currency, figure.budget.duration)
    until = figure.increased_until
    return f"{words}, increased until {display.moment(until)}" if until else words


def _left(figure: Figure) -> str:
    assert figure.limit is not None, "a bar has a limit"
    return display.left(figure.limit, figure.spent + figure.reserved, figure.currency)


def _exactly(figure: Figure) -> str:
    assert figure.limit is not None, "a bar has a limit"
    parts = (
        ("spent", figure.spent),
        ("reserved", figure.reserved),
        ("limit", figure.limit),
        ("without increases", figure.budget.max_budget if figure.increased_until else None),
    )
    return ", ".join(
        f"{display.exact(value, figure.currency)} {word}"
        for word, value in parts
        if value is not None
    )


def _spoken(figure: Figure) -> str:
    return (
        f"{figure.share} per cent spent: {display.amount(figure.spent, figure.currency)} spent,"
        f" {display.amount(figure.reserved, figure.currency)} reserved, {_left(figure)}"
        f" of {_limit_words(figure)}"
    )


def _widths(figure: Figure) -> tuple[Decimal, Decimal]:
    """Return what spent and reserved take of the bar, in per cent; together at most all of it."""
    assert figure.limit is not None, "a bar has a limit"
    whole = max(figure.limit, figure.spent + figure.reserved)
    if whole == 0:
        return Decimal(100), Decimal(0)
    return display.share(figure.spent, whole), display.share(figure.reserved, whole)


def _as_of(figures: AccountFigures) -> SafeString | str:
    if figures.is_live:
        return ""
    return format_html(
        '<div class="cp-quiet" title="{}">{}</div>',
        "The live store does not answer: what is reserved, and what the recorder has not written"
        " yet, is missing.",
        "as of the ledger",
    )
