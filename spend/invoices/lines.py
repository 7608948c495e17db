"""
What every format of a provider's invoice is read into, value by value.

Nothing is guessed: digits are ASCII digits, money is ``Decimal``, and a line that does not fit is
named by its number. What a file does not tell is None, which is not 0.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

from budgets import money
from budgets.errors import InvalidInput

NAME_CHARACTERS_MAX: Final = 255
DAYS_MAX: Final = 366
PROBLEMS_TOLD_MAX: Final = 20
AMOUNT_MAX: Final = Decimal(10**9)
AMOUNT_DECIMALS: Final = 18
TOKENS_MAX: Final = 10**15
NUMBER_CHARACTERS_MAX: Final = 60
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,40})?")
_WHOLE: Final = re.compile(r"[0-9]{1,16}")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,16}(Z|\+00:00)")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_YEARS: Final = range(2000, 2101)
_ONE_DAY: Final = timedelta(days=1)
_WIDE: Final = Context(prec=80)


@dataclass(frozen=True, slots=True)
class Line:
    """
    What a provider says of one UTC day, as far as it says it.

    ``decimals`` is how many digits behind the point it shows of the amount.
    """

    number: int
    day: date
    model: str = ""
    key: str = ""
    amount: Decimal | None = None
    decimals: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    requests: int | None = None
    external_id: str = ""


@dataclass(frozen=True, slots=True)
class Invoice:
    """A whole file: of money in one currency, or, where ``currency`` is empty, of tokens."""

    currency: str
    lines: tuple[Line, ...]
    first_day: date
    last_day: date


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line, and in which column."""

    line: int
    column: str
    words: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.column} {self.words}"


class BadInvoice(InvalidInput):
    """The file is not what it should be; nothing of it was taken over."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = () if isinstance(problems, str) else tuple(problems)
        super().__init__("content", problems if isinstance(problems, str) else _told(self.problems))


class BadValue(ValueError):
    """One value does not fit; whoever reads the line adds where it stands."""


class NumberText(str):
    """A number of a JSON text, as it is written."""

    __slots__ = ()


class Lines:
    """Collects lines, and what is wrong with those that do not fit, until the file has ended."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._problems: list[Problem] = []
        self._currencies: dict[str, int] = {}
        self._days: set[date] = set()

    def add(self, number: int, read: Callable[["Reader"], Line], values: Mapping[str, Any]) -> None:
        """Add the line that ``read`` makes of these values, or keep why it cannot."""
        reader = Reader(number, values)
        try:
            line = read(reader)
            self._check(reader)
        except BadValue as error:
            self._problems.append(Problem(number, reader.column, str(error)))
        else:
            self._lines.append(line)
            self._days.add(line.day)

    def covers(self, number: int, read: Callable[["Reader"], date], values: Any) -> None:
        """Count a day as told of, though nothing was used on it."""
        reader = Reader(number, values)
        try:
            self._days.add(read(reader))
        except BadValue as error:
            self._problems.append(Problem(number, reader.column, str(error)))

    def invoice(self) -> Invoice:
        """
        :raises BadInvoice: naming the lines that do not fit, or if there are none
        """
        if self._problems:
            raise BadInvoice(self._problems)
        if not self._lines:
            raise BadInvoice("has no line with usage or cost")
        first, last = min(self._days), max(self._days)
        if (last - first).days >= DAYS_MAX:
            raise BadInvoice(f"spans more than {DAYS_MAX} days")
        return Invoice("".join(self._currencies), tuple(self._lines), first, last)

    def _check(self, reader: "Reader") -> None:
        if not reader.currency:
            return
        self._currencies.setdefault(reader.currency, reader.number)
        if len(self._currencies) > 1:
            del self._currencies[reader.currency]
            first = next(iter(self._currencies))
            raise BadValue(f"must be {first} as in the lines before it")


class Reader:
    """Reads the values of one line; ``column`` is the one that was read last."""

    def __init__(self, number: int, values: Mapping[str, Any]) -> None:
        self.number = number
        self.column = "the line"
        self.currency = ""
        self._values = values

    def raw(self, column: str) -> Any:
        self.column = column
        return self._values.get(column)

    def text(self, column: str) -> str:
        """Return a name; one that is not given is empty."""
        value = self._text_or_none(column)
        return "" if value is None else _name(value)

    def amount(self, column: str, *, shift: int = 0) -> tuple[Decimal, int]:
        """Return an amount times 10^shift, and how many digits are shown behind its point."""
        return _amount(self.raw(column), shift)

    def whole(self, column: str) -> int:
        return _whole(self.raw(column))

    def whole_or_none(self, column: str) -> int | None:
        value = self.raw(column)
        return None if value is None or value == "" else _whole(value)

    def day(self, column: str) -> date:
        value = self._text_or_none(column)
        if value is None or not _DAY.fullmatch(value):
            raise BadValue("must be a date such as 2026-11-01")
        return _checked_day(value)

    def currency_code(self, column: str, *, lower: bool = False) -> str:
        value = self._text_or_none(column) or ""
        code = value.upper() if lower and value.isascii() else value
        if not _CURRENCY.fullmatch(code):
            raise BadValue("must be the three letters of an ISO 4217 currency")
        self.currency = code
        return code

    def day_of_seconds(self, start: str, end: str) -> date:
        """Return the UTC day of a bucket whose bounds are seconds since 1970."""
        first, last = (self._instant_of_seconds(column) for column in (start, end))
        return _day_between(first, last)

    def day_of_instants(self, start: str, end: str) -> date:
        """Return the UTC day of a bucket whose bounds are instants such as 2026-11-01T00:00:00Z."""
        first, last = (self._instant(column) for column in (start, end))
        return _day_between(first, last)

    def _text_or_none(self, column: str) -> str | None:
        value = self.raw(column)
        if value is not None and (isinstance(value, NumberText) or not isinstance(value, str)):
            raise BadValue("must be a text")
        return value

    def _instant_of_seconds(self, column: str) -> datetime:
        seconds = _whole(self.raw(column))
        if not _seconds(_YEARS.start) <= seconds < _seconds(_YEARS.stop):
            raise BadValue("is too far away")
        return datetime.fromtimestamp(seconds, UTC)

    def _instant(self, column: str) -> datetime:
        value = self._text_or_none(column)
        if value is None or not _INSTANT.fullmatch(value):
            raise BadValue("must be an instant such as 2026-11-01T00:00:00Z")
        _checked_day(value[:10])
        try:
            return datetime.fromisoformat(value)
        except ValueError as error:
            raise BadValue("must be an instant such as 2026-11-01T00:00:00Z") from error


def _amount(value: Any, shift: int) -> tuple[Decimal, int]:
    if not isinstance(value, str) or len(value) > NUMBER_CHARACTERS_MAX:
        raise BadValue("must be a number in digits, such as 12.50")
    if not isinstance(value, NumberText) and not _AMOUNT.fullmatch(value):
        raise BadValue("must be a number in digits, such as 12.50")
    shifted = _decimal(value).scaleb(shift, _WIDE)
    if not shifted.is_finite() or shifted.is_signed() or shifted > AMOUNT_MAX:
        raise BadValue(f"must be from 0 to {money.plain(AMOUNT_MAX)}")
    shown = max(0, -int(shifted.as_tuple().exponent))
    kept = shifted.quantize(Decimal(1).scaleb(-AMOUNT_DECIMALS), ROUND_HALF_EVEN, _WIDE)
    return (shifted if shown <= AMOUNT_DECIMALS else kept), min(shown, AMOUNT_DECIMALS)


def _decimal(text: str) -> Decimal:
    """Return what a number says; an exponent is written by JSON's floats and by nothing else."""
    try:
        value = Decimal(text)
    except ArithmeticError as error:
        raise BadValue(f"must be from 0 to {money.plain(AMOUNT_MAX)}") from error
    if value.is_finite() and abs(value.adjusted()) > NUMBER_CHARACTERS_MAX:
        raise BadValue(f"must be from 0 to {money.plain(AMOUNT_MAX)}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise BadValue("must be a whole number in digits")
    number = int(value)
    if number > TOKENS_MAX:
        raise BadValue(f"must be from 0 to {TOKENS_MAX}")
    return number


def _name(value: str) -> str:
    text = value.strip()
    if len(text) > NAME_CHARACTERS_MAX or not text.isprintable():
        raise BadValue(f"must be at most {NAME_CHARACTERS_MAX} printable characters")
    return text


def _checked_day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise BadValue("is no day of the calendar") from error
    if day.year not in _YEARS:
        raise BadValue("is too far away")
    return day


def _day_between(start: datetime, end: datetime) -> date:
    if (
        not start < end <= start + _ONE_DAY
        or (end - timedelta(microseconds=1)).date() != start.date()
    ):
        raise BadValue("must end within the UTC day in which the bucket starts")
    return start.date()


def _seconds(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())


def _told(problems: Sequence[Problem]) -> str:
    told = "; ".join(map(str, problems[:PROBLEMS_TOLD_MAX]))
    more = len(problems) - PROBLEMS_TOLD_MAX
    return f"{told}; and {more} more" if more > 0 else told
