"""
Reports of spend, in any currency: what was spent, by what, and how it was converted.

All of a report is read at one instant, so that its rows are its total and its rates those of then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from psycopg.errors import QueryCanceled

from budgets import currencies
from budgets.errors import InvalidInput
from budgets.models import Organization
from spend.currencies import ratebook
from spend.currencies.exchange import NO_RATES, Rate, RateTable
from spend.reporting import report_figures, report_names, report_sums
from spend.reporting.report_figures import DayRate, DaySum, Figures, GroupSum, Missing, RateUsed
from spend.reporting.report_names import Named
from spend.reporting.report_sums import Group, Wanted

DAYS_MAX: Final = 400
LEDGER_DAYS_MAX: Final = 31
"""Where the ledger is read row by row, not its roll-ups."""
GROUPS_MAX: Final = 2
ROWS_MAX: Final = 10_000
QUERY_MS_MAX: Final = 60_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is to be of; without a currency it is in that of its organizations."""

    organizations: QuerySet[Organization]
    first_day: date
    last_day: date
    group_by: tuple[Group, ...] = (Group.DAY,)
    currency: str = ""
    model: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    groups: tuple[Named, ...]
    figures: Figures


@dataclass(frozen=True, slots=True)
class Report:
    """``rounding`` is what the rounded rows miss the rounded total by."""

    first_day: date
    last_day: date
    group_by: tuple[Group, ...]
    currency: str
    rows: tuple[Row, ...]
    total: Figures
    rounding: Decimal
    rates: tuple[RateUsed, ...]
    not_converted: tuple[Missing, ...]


def check(*, first_day: date, last_day: date, group_by: Sequence[Group]) -> None:
    """
    Return if a report can be of these days and groups.

    :raises InvalidInput: naming ``to`` or ``group_by``
    """
    if not 0 < len(group_by) <= GROUPS_MAX:
        raise InvalidInput("group_by", f"must name one or {GROUPS_MAX} groups")
    if len(set(group_by)) < len(group_by):
        raise InvalidInput("group_by", "names a group twice")
    if last_day < first_day:
        raise InvalidInput("to", "is before from")
    days = (last_day - first_day).days + 1
    if days > DAYS_MAX:
        raise InvalidInput("to", f"must be within {DAYS_MAX} days")
    if report_sums.is_of_the_ledger(group_by) and days > LEDGER_DAYS_MAX:
        raise InvalidInput("to", f"must be within {LEDGER_DAYS_MAX} days, by two of these groups")


def read(asked: Asked) -> Report:
    """
    Return a report.

    :raises InvalidInput: naming ``to`` or ``group_by``: days in no order, or too much at once
    """
    check(first_day=asked.first_day, last_day=asked.last_day, group_by=asked.group_by)
    try:
        with transaction.atomic(durable=True):
            _begin()
            return _read(asked)
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise InvalidInput("to", "takes too long to add up: ask for fewer days") from error
        raise


def _begin() -> None:
    """Let all of a transaction see one instant, and no query of it run for too long."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(QUERY_MS_MAX)])


def _read(asked: Asked) -> Report:
    found = dict(asked.organizations.order_by().values_list("pk", "currency"))
    wanted = Wanted(
        list(found), asked.first_day, asked.last_day, asked.group_by, asked.model, asked.provider
    )
    currency = asked.currency or _usual(found.values())
    days = report_sums.by_day(wanted)
    rates = _rates(days, into=currency)
    sums = report_sums.by_group(wanted, rates=_day_rates(rates), rows_max=ROWS_MAX)
    if len(sums) > ROWS_MAX:
        raise InvalidInput("group_by", f"gives more than {ROWS_MAX} rows: ask for less at once")
    rows = _rows(sums, asked.group_by, currency)
    total = report_figures.figures_of(sums, currency=currency)
    return Report(
        first_day=asked.first_day,
        last_day=asked.last_day,
        group_by=asked.group_by,
        currency=currency,
        rows=rows,
        total=total,
        rounding=report_figures.rounding_of(total, (row.figures for row in rows)),
        rates=tuple(report_figures.rates_used(_to_convert(days, currency), rates)),
        not_converted=tuple(report_figures.missing(_to_convert(days, currency), rates)),
    )


def _usual(of: Iterable[str]) -> str:
    """Return the one currency that all have, else the platform's."""
    known = set(of)
    return currencies.check(known.pop() if len(known) == 1 else settings.PLATFORM_CURRENCY)


def _rates(days: Sequence[DaySum], *, into: str) -> dict[tuple[str, date], Rate | None]:
    """Return the rate of each day and currency; None where there is none."""
    table = _table(_to_convert(days, into))
    return {
        (each.currency, each.day): table.rate(
            of=each.currency,
            into=into,
            on=each.day,
            stale_after_days=settings.EXCHANGE_RATE_STALE_DAYS,
        )
        for each in days
    }


def _table(days: Sequence[DaySum]) -> RateTable:
    """Return the rates that these days need: none are read where nothing is to be converted."""
    if not days:
        return NO_RATES
    held = [each.day for each in days]
    return ratebook.read_table(on=min(held), until=max(held) + timedelta(days=1))


def _to_convert(days: Iterable[DaySum], into: str) -> list[DaySum]:
    return [each for each in days if each.currency != into]


def _day_rates(rates: Mapping[tuple[str, date], Rate | None]) -> list[DayRate]:
    return [
        DayRate(currency, day, rate.value, rate.is_stale)
        for (currency, day), rate in rates.items()
        if rate is not None
    ]


def _rows(sums: Iterable[GroupSum], group_by: tuple[Group, ...], currency: str) -> tuple[Row, ...]:
    """Return a row for each group: days in order, and of the rest the dearest first."""
    by_group: dict[tuple[str, ...], list[GroupSum]] = {}
    for each in sums:
        by_group.setdefault(each.groups, []).append(each)
    names = report_names.read(group_by, by_group)
    rows = [
        Row(
            tuple(names[group][value] for group, value in zip(group_by, values, strict=True)),
            report_figures.figures_of(each, currency=currency),
        )
        for values, each in by_group.items()
    ]
    return tuple(sorted(rows, key=lambda row: _place(row, group_by)))


def _place(row: Row, group_by: tuple[Group, ...]) -> tuple[str, Decimal, tuple[str, ...]]:
    ids = tuple(each.id for each in row.groups)
    day = ids[group_by.index(Group.DAY)] if Group.DAY in group_by else ""
    return (day, -row.figures.exact, ids)
