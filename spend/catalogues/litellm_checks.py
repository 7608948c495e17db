"""
What a LiteLLM price map must be before it is read: bounded, and every price a plain number.

A price that is text, negative or beyond all bounds is refused by name. Read leniently it would be
left out, and the model would seem to have been made cheaper.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from spend.catalogues.listing import InvalidPriceList
from spend.rates import RATE_MAX

BYTES_MAX: Final = 32 * 2**20
ROWS_MAX: Final = 20_000
FACTOR_MAX: Final = 100
INTEGER_CHARACTERS_MAX: Final = 18
RATE_MIN: Final = Decimal("1e-18")
PROVIDER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
TABLES: Final = ("tiered_pricing", "off_peak_pricing")
"""Fields that hold prices of their own, in a list of objects or an object."""

Row = Mapping[str, Any]


def rows_of(text: bytes) -> dict[str, Row]:
    """
    Return the map's rows by name.

    :raises InvalidPriceList: if it is no map of bounded size whose prices are numbers
    """
    if len(text) > BYTES_MAX:
        raise InvalidPriceList(f"is larger than {BYTES_MAX:,} bytes")
    try:
        rows = json.loads(
            text,
            parse_float=Decimal,
            parse_int=_integer,
            parse_constant=str,  # NaN, then, is text: refused where a number belongs
            object_pairs_hook=_object,
        )
    except InvalidPriceList:
        raise
    except RecursionError as error:
        raise InvalidPriceList("is nested too deeply") from error
    except (ArithmeticError, ValueError) as error:
        raise InvalidPriceList("is no JSON") from error
    if not isinstance(rows, dict) or len(rows) > ROWS_MAX:
        raise InvalidPriceList(f"is no object of at most {ROWS_MAX:,} models")
    for name, row in rows.items():
        check_row(name, row)
    return rows


def check_row(name: str, row: object) -> None:
    """
    :raises InvalidPriceList: naming the field that is no price
    """
    if not isinstance(row, dict):
        raise InvalidPriceList("is no object", model=name)
    provider = row.get("litellm_provider")
    if provider is not None and not (isinstance(provider, str) and _is_name(provider)):
        raise InvalidPriceList("is no provider's name", model=name, field="litellm_provider")
    for field, value in _priced(row):
        _check(name, field, value, most=RATE_MAX)
    for field, value in row.items():
        if "uplift_multiplier" in field:
            _check(name, field, value, most=Decimal(FACTOR_MAX))


def _priced(row: Row) -> Iterator[tuple[str, object]]:
    """Yield every price of a row with its field, those of its tables too."""
    for field, value in row.items():
        if field in TABLES:
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, dict):
                    yield from ((f"{field}.{name}", each) for name, each in _priced(entry))
        elif "cost" in field and isinstance(value, dict):
            yield from ((f"{field}.{name}", each) for name, each in value.items())
        elif "cost" in field:
            yield field, value


def _check(name: str, field: str, value: object, *, most: Decimal) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InvalidPriceList("is no number", model=name, field=field)
    if not 0 <= value <= most:
        raise InvalidPriceList(f"is not from 0 to {most:,}", model=name, field=field)
    if 0 < value < RATE_MIN:
        raise InvalidPriceList(f"is less than {RATE_MIN}, but not 0", model=name, field=field)


def _is_name(provider: str) -> bool:
    # The row that explains the map says here where to look.
    return bool(PROVIDER.fullmatch(provider)) or provider.startswith("one of ")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidPriceList("stands there twice", model=name)
    return content


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= INTEGER_CHARACTERS_MAX else Decimal(text)
