"""
Whole files of providers, CSV or JSON, taken apart into lines: bounded, and strict in their form.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from spend.invoices.lines import BadInvoice, NumberText, Problem

FILE_BYTES_MAX: Final = 8 * 2**20
LINES_MAX: Final = 50_000
COLUMNS_MAX: Final = 64
CELL_CHARACTERS_MAX: Final = 1_000

Row = tuple[int, Mapping[str, str]]


def rows_of_csv(content: bytes, *, needs: Iterable[str], knows: Iterable[str]) -> list[Row]:
    """
    Return each line with its number, by the names in the first line.

    :raises BadInvoice: if it is too large, no CSV, or lacks a column or has one that nobody knows
    """
    reader = csv.reader(io.StringIO(text_of(content), newline=""), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        _check_head(head, frozenset(needs), frozenset(knows))
        return list(_rows(reader, head))
    except csv.Error as error:
        problem = Problem(reader.line_num, "the line", f"is no CSV: {error}")
        raise BadInvoice([problem]) from error


def buckets_of_json(content: bytes, *, start: str, end: str) -> list[tuple[Any, Any, list[Any]]]:
    """
    Return (start, end, results) of each time bucket of an answer of a provider's API.

    :raises BadInvoice: if it is too large, no JSON, only one of several pages, or another answer
    """
    page = _json(text_of(content))
    data = page.get("data") if isinstance(page, dict) else None
    if not isinstance(data, list):
        raise BadInvoice("is not the API's answer: it has no list called data")
    if page.get("has_more"):
        raise BadInvoice("is not the whole answer: has_more is true; fetch with a higher limit")
    found = []
    for number, bucket in enumerate(data, start=1):
        results = bucket.get("results") if isinstance(bucket, dict) else None
        if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
            raise BadInvoice([Problem(number, "results", "must be a list of objects")])
        found.append((bucket.get(start), bucket.get(end), results))
    if sum(len(results) for *_, results in found) > LINES_MAX:
        raise BadInvoice(f"has more than {LINES_MAX} results")
    return found


def text_of(content: bytes) -> str:
    """
    :raises BadInvoice: if it is empty, too large or not UTF-8
    """
    if len(content) > FILE_BYTES_MAX:
        raise BadInvoice(f"has more than {FILE_BYTES_MAX} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInvoice("is not UTF-8") from error
    if not text.strip():
        raise BadInvoice("is empty")
    if "\x00" in text:
        raise BadInvoice("has NUL characters")
    return text


def _rows(reader: Any, head: Sequence[str]) -> Iterator[Row]:
    count = 0
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(head):
            told = f"has {len(cells)} columns and not {len(head)}"
            raise BadInvoice([Problem(reader.line_num, "the line", told)])
        if any(len(cell) > CELL_CHARACTERS_MAX for cell in cells):
            told = f"has a value of more than {CELL_CHARACTERS_MAX} characters"
            raise BadInvoice([Problem(reader.line_num, "the line", told)])
        count += 1
        if count > LINES_MAX:
            raise BadInvoice(f"has more than {LINES_MAX} lines")
        yield reader.line_num, dict(zip(head, cells, strict=True))


def _check_head(head: Sequence[str], needs: frozenset[str], knows: frozenset[str]) -> None:
    problems = [f"lacks the column {name}" for name in sorted(needs - set(head))]
    unknown = [name[:64] for name in head if name not in needs | knows]
    problems += [f"has a column {name!r} that nobody knows" for name in unknown[:3]]
    problems += ["has a column twice"] if len(set(head)) < len(head) else []
    problems += ["has too many columns"] if len(head) > COLUMNS_MAX else []
    if problems:
        raise BadInvoice([Problem(1, "the line", words) for words in problems])


def _json(text: str) -> Any:
    try:
        return json.loads(
            text,
            parse_float=NumberText,
            parse_int=NumberText,
            parse_constant=NumberText,
            object_pairs_hook=_object,
        )
    except BadInvoice:
        raise
    except RecursionError as error:
        raise BadInvoice("is nested too deeply") from error
    except ValueError as error:
        raise BadInvoice("is no JSON") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise BadInvoice("has a name twice in one object")
    return content
