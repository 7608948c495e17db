"""
Reads a price list of one rate a row: CSV in UTF-8, with the columns of ``COLUMNS`` in any order.

Rows of one model and one ``effective_from`` make one price. Numbers are digits with a point:
``1,000``, ``1e-6`` and digits of other scripts are refused, since people mean them differently.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from spend.catalogues.checks import RATE_DECIMALS
from spend.catalogues.listing import BEGINNING, InvalidPriceList, ListedModel, ListedPrice, Listing
from spend.components import rated
from spend.rates import RATE_MAX, STANDARD_NAMES, Rate

SOURCE: Final = "csv"
BYTES_MAX: Final = 32 * 2**20
ROWS_MAX: Final = 20_000
REQUIRED: Final = ("provider", "model", "component", "rate")
OPTIONAL: Final[Mapping[str, str]] = {
    "per": "1",
    "currency": "USD",
    "tier_from": "0",
    "service_tier": "",
    "variant": "",
    "window": "",
    "effective_from": "",
}
"""Columns that may be missing or empty, and what that means."""
COLUMNS: Final = (*REQUIRED, *OPTIONAL)
RATE: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,40})?", re.ASCII)
COUNT: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
TIME: Final = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{6})?)?"
DATE: Final = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:T{TIME}(?:Z|[+-][0-9]{{2}}:[0-9]{{2}}))?", re.ASCII
)
YEARS: Final = range(2000, 2101)

Row = Mapping[str, str]


def read(text: bytes, *, version: str) -> Listing:
    """
    Return the models of the file.

    :raises InvalidPriceList: naming the model and column that does not fit
    """
    if len(text) > BYTES_MAX:
        raise InvalidPriceList(f"is larger than {BYTES_MAX:,} bytes")
    rates: dict[tuple[str, str], dict[tuple[datetime, str], list[Rate]]] = defaultdict(dict)
    for row in _rows(text):
        called = f"{row['provider']}/{row['model']}"
        key = (_instant(called, row["effective_from"]), row["currency"])
        rates[row["provider"], row["model"]].setdefault(key, []).append(_rate(called, row))
    models = tuple(_model(*name, dated) for name, dated in rates.items())
    return Listing(SOURCE, version, {each.provider: each.provider for each in models}, models)


def _rows(text: bytes) -> Iterator[Row]:
    try:
        reader = csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True)
        _check_header(reader.fieldnames or ())
        for number, row in enumerate(reader, 1):
            if number > ROWS_MAX:
                raise InvalidPriceList(f"has more than {ROWS_MAX:,} rows")
            yield _complete(number, row)
    except UnicodeDecodeError as error:
        raise InvalidPriceList("is not UTF-8") from error
    except csv.Error as error:
        raise InvalidPriceList("is no CSV") from error


def _check_header(names: object) -> None:
    given = [str(name) for name in names] if isinstance(names, list) else []
    for name in given:
        if name not in COLUMNS or given.count(name) > 1:
            raise InvalidPriceList("is no column of a price list", field=name or "(empty)")
    for name in REQUIRED:
        if name not in given:
            raise InvalidPriceList("is a column that is missing", field=name)


def _complete(number: int, row: Mapping[str | None, str | None]) -> Row:
    if None in row or None in row.values():
        raise InvalidPriceList(
            "has another number of columns than the first", field=f"row {number}"
        )
    given = {str(name): str(value).strip() for name, value in row.items()}
    for name in ("provider", "model", "component"):
        if not given[name]:
            raise InvalidPriceList("is empty", field=f"row {number}: {name}")
    return {name: given.get(name) or OPTIONAL.get(name, "") for name in COLUMNS}


def _rate(called: str, row: Row) -> Rate:
    try:
        component = rated(row["component"])
    except ValueError as error:
        raise InvalidPriceList("is no class of usage", model=called, field="component") from error
    tier = row["service_tier"]
    return Rate(
        component, _amount(called, row["rate"]), _count(called, "tier_from", row),
        _count(called, "per", row), "" if tier in STANDARD_NAMES else tier,
        row["variant"], row["window"],
    )  # fmt: skip


def _amount(called: str, text: str) -> Decimal:
    if not RATE.fullmatch(text):
        problem = "is no number in digits, such as 2.50"
        raise InvalidPriceList(problem, model=called, field="rate")
    whole, _, decimals = text.partition(".")
    if Decimal(text) > RATE_MAX or len(decimals.rstrip("0")) > RATE_DECIMALS:
        problem = f"is not from 0 to {RATE_MAX:,} with at most {RATE_DECIMALS} decimals"
        raise InvalidPriceList(problem, model=called, field="rate")
    return Decimal(f"{whole}.{decimals.rstrip('0') or '0'}")


def _count(called: str, column: str, row: Row) -> int:
    if not COUNT.fullmatch(row[column]):
        raise InvalidPriceList("is no whole number", model=called, field=column)
    return int(row[column])


def _instant(called: str, text: str) -> datetime:
    if not text:
        return BEGINNING
    instant = _date(text)
    if instant is None or instant.year not in YEARS:
        problem = "is no date, such as 2026-12-01 or 2026-12-01T00:00:00Z"
        raise InvalidPriceList(problem, model=called, field="effective_from")
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _date(text: str) -> datetime | None:
    if not DATE.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _model(
    provider: str, name: str, dated: Mapping[tuple[datetime, str], list[Rate]]
) -> ListedModel:
    if len({instant for instant, _ in dated}) < len(dated):
        raise InvalidPriceList("has two currencies", model=f"{provider}/{name}", field="currency")
    prices = (
        ListedPrice(instant, tuple(rates), currency=currency)
        for (instant, currency), rates in dated.items()
    )
    ordered = sorted(prices, key=lambda price: price.effective_from)
    return ListedModel(provider=provider, name=name, prices=tuple(ordered))
