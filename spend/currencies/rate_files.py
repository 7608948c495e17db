"""
Reads exchange rates out of the files in which they come: the ECB's of today (XML) and of its
whole history (a zipped table), a JSON object, and our own table for imports. Everything is bounded,
and a file with one bad rate brings none.
"""

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from xml.parsers import expat

from budgets.currencies import CURRENCIES
from budgets.errors import InvalidInput
from spend.currencies import exchange
from spend.currencies.exchange import Offered, Quoted, Source

BYTES_MAX: Final = 4 * 2**20
UNPACKED_BYTES_MAX: Final = 32 * 2**20
RATES_MAX: Final = 500_000
IMPORT_BYTES_MAX: Final = 2**20
IMPORT_ROWS_MAX: Final = 10_000
PROBLEMS_TOLD_MAX: Final = 20
CURRENCIES_MAX: Final = 1_000
COLUMNS: Final = ("date", "base", "quote", "rate")
EURO: Final = "EUR"
MISSING: Final = frozenset({"", "N/A"})


class BadFile(ValueError):
    """A file that brings no rates, with every problem in words; nothing of it was taken."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems[:PROBLEMS_TOLD_MAX]))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Feed:
    """What a publisher's file says."""

    source: Source
    offered: Sequence[Offered]


def read_feed(body: bytes, *, today: date, since: date = exchange.FIRST_DAY) -> list[Quoted]:
    """
    Return the rates of a publisher's file, in whichever of the known forms it is. Currencies that
    are none any more are left out.

    :raises BadFile: if it is in none of them, is too large, or one of its rates is bad
    """
    if len(body) > BYTES_MAX:
        raise BadFile(f"has more than {BYTES_MAX} bytes")
    start = body.removeprefix(b"\xef\xbb\xbf").lstrip()
    forms: tuple[tuple[bytes, Callable[[bytes], Feed]], ...] = (
        (b"PK", _read_history), (b"<", _read_daily), (b"{", _read_json),
    )  # fmt: skip
    for mark, read in forms:
        if start.startswith(mark):
            feed = read(body)
            break
    else:
        raise BadFile("is neither the ECB's XML, nor its zipped table, nor a JSON object")
    wanted = [each for each in feed.offered if _is_known(each)]
    if not wanted:
        raise BadFile("has no rates")
    rates = _checked(wanted, source=feed.source, today=today)
    return [each for each in rates if each.day >= since]


def read_import(body: bytes, *, source: Source, today: date) -> list[Quoted]:
    """
    Return the rates of a table with the columns date, base, quote and rate.

    :raises BadFile: naming each bad row by its line
    """
    if len(body) > IMPORT_BYTES_MAX:
        raise BadFile(f"has more than {IMPORT_BYTES_MAX} bytes")
    rows = _rows(body)
    if (header := next(rows, (1, []))[1]) != list(COLUMNS):
        raise BadFile(f"line 1: must be {','.join(COLUMNS)}, not {','.join(header)[:100]!r}")
    offered: list[Offered] = []
    for line, row in rows:
        if len(offered) == IMPORT_ROWS_MAX:
            raise BadFile(f"has more than {IMPORT_ROWS_MAX} rates")
        if len(row) != len(COLUMNS):
            raise BadFile(f"line {line}: has {len(row)} columns, not {len(COLUMNS)}")
        day, base, quote, rate = row
        offered.append(Offered(base, quote, day, rate, f"line {line}"))
    if not offered:
        raise BadFile("has no rates")
    return _checked(offered, source=source, today=today)


def _checked(offered: Iterable[Offered], *, source: Source, today: date) -> list[Quoted]:
    found: dict[tuple[str, str, date], Quoted] = {}
    problems = []
    for each in offered:
        try:
            rate = exchange.checked(each, source=source, today=today)
        except InvalidInput as error:
            problems.append(f"{each.place}: {error.field} {error.problem}")
            continue
        key = (rate.base, rate.quote, rate.day)
        if key in found:
            problems.append(f"{each.place}: rate is given twice for this date")
        found[key] = rate
    if problems:
        raise BadFile(*problems)
    return list(found.values())


def _is_known(each: Offered) -> bool:
    """Leave out what is a currency no more or never was, and a base in itself."""
    return each.quote in CURRENCIES and each.quote != each.base


def _rows(body: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of a table; empty lines are none."""
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        for row in reader:
            if row:
                yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"is no table: {error}") from error


# --- The ECB's rates of today ----------------------------------------------------------
def _read_daily(body: bytes) -> Feed:
    offered: list[Offered] = []
    day = ""

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal day
        day = attributes.get("time", day)
        if "currency" in attributes and len(offered) < RATES_MAX:
            quote = attributes["currency"]
            rate = attributes.get("rate", "")
            offered.append(Offered(EURO, quote, day, rate, f"{quote} of {day}"))

    def refuse(*_: Any) -> None:
        # Entities can only be declared here: no bombs, no other files.
        raise BadFile("has a DOCTYPE, which the ECB's files have not")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, UnicodeDecodeError, LookupError) as error:
        raise BadFile(f"is no XML: {error}") from error
    return Feed(Source.ECB, offered)


# --- The ECB's history -----------------------------------------------------------------
def _read_history(body: bytes) -> Feed:
    rows = _rows(_unpacked(body))
    _, (first, *quotes) = next(rows, (1, [""]))
    if first != "Date" or len(quotes) > CURRENCIES_MAX:
        raise BadFile("line 1: must begin with Date, and name currencies")
    offered: list[Offered] = []
    for line, (day, *values) in rows:
        offered += [
            Offered(EURO, quote, day, value, f"line {line}, {quote}")
            for quote, value in zip(quotes, values, strict=False)
            if value not in MISSING
        ]
        if len(offered) > RATES_MAX:
            raise BadFile(f"has more than {RATES_MAX} rates")
    return Feed(Source.ECB, offered)


def _unpacked(body: bytes) -> bytes:
    """Return the one file of an archive, if it is not too large, whatever it says of itself."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            (name,) = archive.namelist()
            with archive.open(name) as file:
                unpacked = file.read(UNPACKED_BYTES_MAX + 1)
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError, OSError) as error:
        raise BadFile(f"is no archive of one table: {error}") from error
    if len(unpacked) > UNPACKED_BYTES_MAX:
        raise BadFile(f"has more than {UNPACKED_BYTES_MAX} bytes unpacked")
    return unpacked


# --- JSON ------------------------------------------------------------------------------
def _read_json(body: bytes) -> Feed:
    try:
        # Numbers stay the text they are: no digit is lost, and 1e400 is no rate.
        told = json.loads(
            body, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        raise BadFile(f"is no JSON: {error}") from error
    rates = told.get("rates")
    if not isinstance(rates, dict) or len(rates) > CURRENCIES_MAX:
        raise BadFile(f"rates: must be an object of {CURRENCIES_MAX} currencies at most")
    if str(told.get("amount", "1")) not in {"1", "1.0"}:
        raise BadFile("amount: must be 1 where it is given")
    base, day = (_text(told.get(name), name) for name in ("base", "date"))
    return Feed(
        Source.HTTP,
        [
            Offered(base, quote, day, _text(rate, f"rates.{quote}"), f"rates.{quote}")
            for quote, rate in rates.items()
        ],
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError("a name is given twice")
    return named


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadFile(f"{name}: must be a text or a number in digits")
    return value
