"""A report as a table for spreadsheets: its rows, its total, and how it was converted."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from django.http import HttpResponse

from budgets import money
from spend.reporting.report_figures import POLICY_WORDS, Amount, Figures, Missing, RateUsed
from spend.reporting.report_names import Named
from spend.reporting.report_sums import Group
from spend.reporting.reports import Report

CONTENT_TYPE: Final = "text/csv; charset=utf-8"
FIGURES: Final = (
    "currency", "amount", "exact_amount", "original", "not_converted", "stale_rate", "events",
    "input_tokens", "output_tokens", "note",
)  # fmt: skip
_NAMELESS: Final = frozenset({Group.DAY, Group.MODEL, Group.PROVIDER})
_STARTS_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")  # spreadsheets take wide ones too


def text_of(report: Report) -> str:
    """Return the table; its first column says what a line is: ``row``, ``total``, ``rate`` …"""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(["line", *_group_columns(report.group_by), *FIGURES])
    for row in report.rows:
        cells = list(_group_cells(report.group_by, row.groups))
        writer.writerow(["row", *cells, *_figures(row.figures, report.currency)])
    empty = [""] * len(_group_columns(report.group_by))
    writer.writerows([kind, *empty, *cells] for kind, cells in _endings(report))
    return file.getvalue()


def file_of(report: Report) -> HttpResponse:
    """Return a report as a file to download."""
    headers = {"Content-Disposition": f'attachment; filename="{file_name(report)}"'}
    return HttpResponse(text_of(report), content_type=CONTENT_TYPE, headers=headers)


def file_name(report: Report) -> str:
    days = f"{report.first_day}-to-{report.last_day}"
    return f"spend-{'-'.join(report.group_by)}-{days}-{report.currency}.csv"


def safe(text: str) -> str:
    """Return a text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_STARTS_FORMULA) else text


def rate_words(used: RateUsed, into: str) -> str:
    """Return a rate in words: ``1 USD = 0.92 EUR of 2026-11-02``."""
    rate = used.rate
    stale = ", which is stale" if rate.is_stale else ""
    return f"1 {used.currency} = {money.plain(rate.value)} {into} of {rate.day}{stale}"


def days_words(each: RateUsed | Missing) -> str:
    if each.first_day == each.last_day:
        return f"for {each.first_day}"
    return f"for {each.first_day} to {each.last_day}"


def _group_columns(group_by: Sequence[Group]) -> list[str]:
    return [
        column
        for group in group_by
        for column in ([group.value] if group in _NAMELESS else [group.value, f"{group}_name"])
    ]


def _group_cells(group_by: Sequence[Group], named: Iterable[Named]) -> Iterator[str]:
    for group, each in zip(group_by, named, strict=True):
        yield safe(each.id)
        if group not in _NAMELESS:
            yield safe(each.name)


def _figures(figures: Figures, currency: str, note: str = "") -> list[str]:
    return [
        currency,
        f"{figures.amount:f}",
        money.plain(figures.exact),
        _amounts(figures.original),
        _amounts(figures.not_converted),
        "yes" if figures.is_stale else "",
        str(figures.events),
        str(figures.input_tokens),
        str(figures.output_tokens),
        note,
    ]


def _endings(report: Report) -> Iterator[tuple[str, list[str]]]:
    yield "rounding", _note(report.currency, f"{report.rounding:f}")
    yield "total", _figures(report.total, report.currency, note=POLICY_WORDS)
    for each in report.not_converted:
        note = f"{days_words(each)}: no rate into {report.currency}"
        yield "not_converted", _note(each.currency, money.plain(each.amount), note)
    for used in report.rates:
        note = f"{rate_words(used, report.currency)}, {days_words(used)}"
        yield "rate", _note(used.currency, "", note)


def _note(currency: str, amount: str, note: str = "") -> list[str]:
    return [currency, amount, *([""] * (len(FIGURES) - 3)), note]


def _amounts(amounts: Iterable[Amount]) -> str:
    """Return amounts as text, the currency before each: no spreadsheet counts with them."""
    return "; ".join(f"{each.currency} {money.plain(each.amount)}" for each in amounts)
