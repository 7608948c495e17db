"""JSON in and out without floats: what is written in digits stays exactly that."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import IO, Any, Final

import orjson
from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from budgets import money
from budgets.errors import InvalidInput

BODY_BYTES_MAX: Final = 2 * 2**20
NUMBER_CHARACTERS_MAX: Final = 1_000
SHORT_INTEGER_CHARACTERS: Final = 18
"""Integers of so many characters fit in 64 bits; longer ones become decimals, which no count is."""


class _NotANumber:
    """Stands for ``NaN`` and ``Infinity``, until we know whose value they are."""


class ExactJSONParser(BaseParser):
    """Reads numbers as ``int`` or ``Decimal``; refuses what is ambiguous, such as a name twice."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(BODY_BYTES_MAX + 1)
        if len(body) > BODY_BYTES_MAX:
            raise RequestDataTooBig(f"The body may have {BODY_BYTES_MAX} bytes at most.")
        return loads(body)


class ExactJSONRenderer(BaseRenderer):
    """Writes decimals as plain number literals with all their digits."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else dumps(data)


def loads(body: bytes) -> Any:
    """
    Return what ``body`` says.

    :raises ParseError: if it is not JSON
    :raises InvalidInput: naming what stands twice in an object, or is no number
    """
    try:
        content = json.loads(
            body.decode(),
            parse_float=_number,
            parse_int=_integer,
            parse_constant=lambda _: _NotANumber(),
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise ParseError("The body is not UTF-8.") from error
    except RecursionError as error:
        raise ParseError("The body is nested too deeply.") from error
    except json.JSONDecodeError as error:
        raise ParseError(f"The body is not JSON: {error.msg}, at character {error.pos}.") from error
    if _holds_no_number(content):
        raise ParseError("NaN and Infinity are not JSON.")
    return content


def dumps(content: Any) -> bytes:
    return orjson.dumps(content, default=_literal)


def _literal(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(money.plain(value))
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _number(text: str) -> Decimal:
    if len(text) > NUMBER_CHARACTERS_MAX:
        raise ParseError(f"A number may have {NUMBER_CHARACTERS_MAX} characters at most.")
    try:
        return Decimal(text)
    except ArithmeticError as error:
        raise ParseError("A number is out of every range.") from error


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= SHORT_INTEGER_CHARACTERS else _number(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise InvalidInput(name, "is given twice")
        if _holds_no_number(value):
            raise InvalidInput(name, "must be JSON, which has no NaN and no Infinity")
        content[name] = value
    return content


def _holds_no_number(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_holds_no_number, value))
    return isinstance(value, _NotANumber)
