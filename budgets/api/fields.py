"""
What a request may hold: types that take nothing for something else, and bounds on everything.

``true`` is no number, ``"1"`` is no number, ``1`` is no text; digits are ASCII digits.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_DOWN, Context, Decimal
from typing import Any, Final

import orjson
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets import currencies, durations, lifetimes, money, periods
from budgets.fields import NAME_LENGTH_MAX, PUBLIC_ID_LENGTH_MAX
from budgets.models import RATE_LIMIT_MAX, Enforcement

LIST_LENGTH_MAX: Final = 1_000
NAMES_MAX: Final = 100
PROVIDER_LENGTH_MAX: Final = 64
METADATA_BYTES_MAX: Final = 64 * 2**10
METADATA_DEPTH_MAX: Final = 8
INTEGER_MAX: Final = 2**63 - 1
DOUBLE_MAX: Final = Decimal("1.7976931348623157e308")
# As many digits as the parser lets through: nothing is rounded while it is checked.
_EXACT: Final = Context(prec=1_100)
_LOCAL_TIME: Final = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_AMOUNT: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,40})?")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
OPTIONAL: Final[Mapping[str, Any]] = {"required": False, "allow_null": True}
"""May be left out, and null where the default is wanted (or, in an update, nothing)."""


class Text(serializers.CharField):
    """A string as it was sent; never a number that looks like one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": NAME_LENGTH_MAX, "trim_whitespace": False} | options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class PublicId(Text):
    """An id that the caller chooses or has been told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": PUBLIC_ID_LENGTH_MAX} | options)


class Email(serializers.EmailField):
    """An e-mail address, in small letters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": 254, "trim_whitespace": False} | options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data.lower()


class Parsed(Text):
    """A string in a notation of its own; :meth:`parse` raises ``ValueError`` with what is wrong."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        text = super().run_validation(data)
        if not isinstance(text, str):
            return text
        try:
            return self.parse(text)
        except ValueError as error:
            raise serializers.ValidationError(str(error), "invalid") from error

    def parse(self, text: str) -> Any:
        raise NotImplementedError


class LabelText(Parsed):
    """An end user or tag as requests name it: bounded in bytes."""

    def __init__(self, *, bytes_max: int, **options: Any) -> None:
        super().__init__(**{"max_length": bytes_max} | options)
        self.bytes_max = bytes_max

    def parse(self, text: str) -> str:
        if len(text.encode()) > self.bytes_max:
            raise ValueError(f"must not have more than {self.bytes_max} bytes")
        return text


class ProviderName(Parsed):
    """A provider's short name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": PROVIDER_LENGTH_MAX} | options)

    def parse(self, text: str) -> str:
        if not (text.isascii() and text.replace("-", "").replace("_", "").isalnum()):
            raise ValueError("must be letters, digits, - and _")
        return text


class AmountText(Parsed):
    """An exact amount as text, from 0 to the most that a limit can be."""

    def parse(self, text: str) -> Decimal:
        if not _AMOUNT.fullmatch(text):
            raise ValueError("must be a number in digits, such as 1000.50")
        value = Decimal(text)
        if value > money.LIMIT_MAX:
            raise ValueError(f"must be from 0 to {money.plain(money.LIMIT_MAX)}")
        if not money.fits_in_decimals(value, money.LIMIT_DECIMALS):
            raise ValueError(f"must not have more than {money.LIMIT_DECIMALS} decimals")
        return value


class BudgetDuration(Parsed):
    """A budget's duration; ``30d`` means the calendar month, as LiteLLM's users expect."""

    def parse(self, text: str) -> str:
        return "1mo" if text == "30d" else durations.canonical(text)


class LocalTime(Parsed):
    """A time of day such as ``06:30``."""

    def parse(self, text: str) -> time:
        if not _LOCAL_TIME.fullmatch(text):
            raise ValueError("must be a time of day such as 06:30")
        return time.fromisoformat(text)


class Lifetime(Parsed):
    """How long a key lives from now on; ``-1`` for ever, where ``endless`` allows to say so."""

    def __init__(self, *, endless: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.endless = endless

    def parse(self, text: str) -> str | None:
        if self.endless and text == "-1":
            return None
        lifetimes.check(text)
        return text


class TimeZone(Parsed):
    def parse(self, text: str) -> str:
        periods.zone_of(text)
        return text


class Currency(Parsed):
    def parse(self, text: str) -> str:
        return currencies.check(text)


class OneOf(Parsed):
    """One of a few words."""

    def __init__(self, words: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self.words = words

    def parse(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(f"must be one of {', '.join(self.words)}")
        return text


class OneOfInSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]  # theirs
    """How the API's description shows the words."""

    target_class = OneOf
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.target.words)}


class Weekday(OneOf):
    """A day of the week by its English name; read as its number from Monday's 0."""

    def __init__(self, **options: Any) -> None:
        super().__init__(periods.WEEKDAYS, **options)

    def parse(self, text: str) -> Any:
        return self.words.index(super().parse(text))


class EnforcementMode(OneOf):
    def __init__(self, **options: Any) -> None:
        super().__init__(tuple(Enforcement.values), **options)


class Day(Parsed):
    """A date such as ``2026-11-01``, of a year in which there may be spend."""

    def parse(self, text: str) -> date:
        if not _DATE.fullmatch(text):
            raise ValueError("must be a date such as 2026-11-01")
        day = date.fromisoformat(text)
        if not periods.FOREVER.start.year < day.year < periods.FOREVER.end.year - 1:
            raise ValueError("is too far away")
        return day


class Moment(Parsed):
    """A time such as ``2026-11-30T18:00Z``; ``in_utc`` takes one without a zone for UTC."""

    def __init__(self, *, in_utc: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.in_utc = in_utc

    def parse(self, text: str) -> datetime:
        if not _MOMENT.fullmatch(text):
            raise ValueError("must be a time such as 2026-11-30T18:00Z")
        try:
            at = datetime.fromisoformat(text)
            if at.tzinfo is None and not self.in_utc:
                raise ValueError("needs its time zone, such as 2026-11-30T18:00Z or +01:00")
            at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
        except OverflowError as error:
            raise ValueError("is too far away") from error
        if not periods.FOREVER.start.year < at.year < periods.FOREVER.end.year - 1:
            raise ValueError("is too far away")
        return at


@extend_schema_field(OpenApiTypes.NUMBER)
class Amount(serializers.Field):
    """An exact number from 0 to ``max_value``, with a bounded number of decimals."""

    default_error_messages = {
        "type": "must be a number",
        "range": "must be from 0 to {max}",
        "decimals": "must not have more than {decimals} decimals",
    }

    def __init__(
        self,
        *,
        max_value: Decimal = money.LIMIT_MAX,
        decimals: int = money.LIMIT_DECIMALS,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.max_value = max_value
        self.decimals = decimals

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, int | Decimal):
            self.fail("type")
        value = Decimal(data)
        if not value.is_finite() or not 0 <= value <= self.max_value:
            self.fail("range", max=money.plain(self.max_value))
        kept = value.quantize(Decimal(1).scaleb(-self.decimals), ROUND_DOWN, _EXACT)
        if kept != value:
            self.fail("decimals", decimals=self.decimals)
        return abs(kept)


@extend_schema_field(OpenApiTypes.INT)
class Whole(serializers.Field):
    """A whole number in a range."""

    default_error_messages = {
        "type": "must be a whole number",
        "range": "must be from {min} to {max}",
    }

    def __init__(self, *, min_value: int = 0, max_value: int, **options: Any) -> None:
        super().__init__(**options)
        self.min_value = min_value
        self.max_value = max_value

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("type")
        if not self.min_value <= data <= self.max_value:
            self.fail("range", min=self.min_value, max=self.max_value)
        return data


class Rate(Whole):
    """How many may be in a minute, or at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_value=RATE_LIMIT_MAX, **options)


@extend_schema_field(OpenApiTypes.BOOL)
class Flag(serializers.Field):
    default_error_messages = {"type": "must be true or false"}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("type")
        return data


class QueryWhole(Whole):
    """A whole number in a query string."""

    def to_internal_value(self, data: Any) -> int:
        if not _DIGITS.fullmatch(data):
            self.fail("type")
        return super().to_internal_value(int(data))


class QueryFlag(Flag):
    """A yes or no in a query string."""

    WORDS: Final = {"true": True, "1": True, "false": False, "0": False}

    def to_internal_value(self, data: Any) -> bool:
        return super().to_internal_value(self.WORDS.get(data.lower()))


class TextList(serializers.ListField):
    """A list of strings."""

    def __init__(self, **options: Any) -> None:
        defaults: dict[str, Any] = {"child": Text(), "max_length": LIST_LENGTH_MAX}
        super().__init__(**defaults | options)

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list):
            self.fail("not_a_list", input_type=type(data).__name__)
        if len(data) > LIST_LENGTH_MAX:
            self.fail("max_length", max_length=LIST_LENGTH_MAX)
        result: list[Any] = super().to_internal_value(data)
        return result


class QueryList(TextList):
    """Several strings in one of a query string, with commas in between."""

    def get_value(self, dictionary: Any) -> Any:
        text = dictionary.get(self.field_name, serializers.empty)
        return text.split(",") if isinstance(text, str) else text


class ModelNames(TextList):
    """Names of models; LiteLLM's words for "all" are the empty list, which means the same here."""

    ALL: Final = frozenset({"all-team-models", "all-proxy-models"})
    default_error_messages = {
        "pattern": "{name} names no model: patterns and groups are not supported",
    }

    def to_internal_value(self, data: Any) -> list[str]:
        names: list[str] = super().to_internal_value(data)
        for name in names:
            if "*" in name or name == "no-default-models":
                self.fail("pattern", name=name)
        return [] if self.ALL & set(names) else names


class ByName(serializers.DictField):
    """An object whose names are those of models or the like, each with a value of one kind."""

    default_error_messages = {
        "not_a_dict": "must be an object",
        "names": f"must not have more than {NAMES_MAX} names",
    }

    def __init__(self, *, names: serializers.Field | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.names = names or Text()

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict):
            self._check_names(data)
        result: dict[str, Any] = super().to_internal_value(data)
        return result

    def _check_names(self, data: dict[str, Any]) -> None:
        if len(data) > NAMES_MAX:
            self.fail("names")
        for name in data:
            try:
                self.names.run_validation(name)
            except serializers.ValidationError as error:
                problem = f"is no name: {error.detail[0]}"  # type: ignore[index]  # a field's is a list
                raise serializers.ValidationError({name: [problem]}) from error


@extend_schema_field(OpenApiTypes.OBJECT)
class Metadata(serializers.Field):
    """An object of the caller's own: kept and given back, bounded in size and depth."""

    default_error_messages = {
        "type": "must be an object",
        "depth": f"must not be nested more than {METADATA_DEPTH_MAX} deep",
        "size": f"must not have more than {METADATA_BYTES_MAX} bytes",
        "text": "must not hold NUL characters or halves of characters",
        "number": "must not hold numbers that are out of range",
    }

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("type")
        kept: dict[str, Any] = self._kept(data, METADATA_DEPTH_MAX)
        if len(orjson.dumps(kept)) > METADATA_BYTES_MAX:
            self.fail("size")
        return kept

    def _kept(self, value: Any, depth: int) -> Any:
        """Return ``value`` as it is stored; there numbers are doubles, as JSON has them."""
        if isinstance(value, dict | list) and depth == 0:
            self.fail("depth")
        if isinstance(value, dict):
            return {self._text(name): self._kept(each, depth - 1) for name, each in value.items()}
        if isinstance(value, list):
            return [self._kept(each, depth - 1) for each in value]
        if isinstance(value, str):
            return self._text(value)
        return self._double(value) if isinstance(value, Decimal) else value

    def _text(self, text: str) -> str:
        if "\x00" in text or any("\ud800" <= each <= "\udfff" for each in text):
            self.fail("text")
        return text

    def _double(self, value: Decimal) -> float:
        if not value.is_finite() or abs(value) > DOUBLE_MAX:
            self.fail("number")
        return float(value)
