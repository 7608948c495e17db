"""Counts the tokens of prompts that are texts, lists of texts, or tokens already."""

from collections.abc import Iterable, Iterator
from typing import Final

import orjson

from spend.counting import tokens

DEPTH_MAX: Final = 4
TEXTS_MAX: Final = 20_000


def count_texts(values: Iterable[object], *, model: str) -> int:
    """
    Return the tokens of all text in ``values``.

    Numbers are tokens; objects count as their JSON; what is nested deeper than ``DEPTH_MAX`` or
    comes after ``TEXTS_MAX`` texts counts by its bytes.
    """
    counted = 0
    for number, part in enumerate(_parts(values, DEPTH_MAX)):
        if isinstance(part, int):
            counted += part
        elif number < TEXTS_MAX:
            counted += tokens.count_text(text=part, model=model).tokens
        else:
            counted += tokens.of_bytes(len(part.encode(errors="replace")))
    return counted


def _parts(values: Iterable[object], depth: int) -> Iterator[str | int]:
    """Yield texts, and a number of tokens for what is one already."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, int | float):
            yield 1
        elif isinstance(value, list) and depth:
            yield from _parts(value, depth - 1)
        elif value is not None:
            yield _json(value)


def _json(value: object) -> str:
    return orjson.dumps(value, default=str).decode(errors="replace")
