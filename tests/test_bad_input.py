"""
Bad values for every field of every management endpoint: each is refused, by name, in one shape.

Made from the endpoints' own request types, so that a new field is covered as soon as it exists.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework import serializers

from budgets.api.closings import AccountId
from budgets.api.endpoints import ManagementView, Strict, checked
from budgets.api.fields import (
    Amount,
    AmountText,
    BudgetDuration,
    ByName,
    Currency,
    Day,
    Email,
    Flag,
    LabelText,
    Lifetime,
    LocalTime,
    Metadata,
    Moment,
    OneOf,
    ProviderName,
    QueryFlag,
    QueryList,
    QueryWhole,
    Text,
    TextList,
    TimeZone,
    Whole,
)
from budgets.api.increase_inputs import Uuid
from budgets.api.inputs import Member, MemberOrMembers, ModelLimit
from budgets.models import Change
from gateway.api.costs import Objects
from gateway.api.costs import Reply as ReplyField
from gateway.api.router_inputs import FallbackLists
from spend.api.cost_config import Fraction, Margin, MarginParts
from spend.api.exchange_rates import RateText
from spend.api.fields import FactorText, Instant, NumberText
from tests.api_client import Reply, master
from tests.spend.test_instants import NO_INSTANTS

Place = tuple[str | int, ...]
MARK: Final = "@@bad@@"
NAME: Final = "some-name"
NOT_JSON: Final = ("NaN", "Infinity", "-Infinity")
NUMBERS: Final = ("7", "-1", "1.5", "1e400", "1e308", "9" * 400)
STRINGS: Final = ('"7"', '"-1"', '"1,000"', '"0x10"', '"１２"', '"٣"', '"NaN"', '"1e3"', '""')
BOOLEANS: Final = ("true", "false")
LISTS: Final = ("[]", "[1]")
OBJECTS: Final = ("{}", '{"a": 1}')
NO_TEXT: Final = ('"\\u0000"', '"a\\u0000b"', '"\\ud800"')
NO_NUMBER: Final = (*STRINGS, *BOOLEANS, *LISTS, *OBJECTS, *NOT_JSON)
NO_STRING: Final = (*NUMBERS, *BOOLEANS, *LISTS, *OBJECTS, *NOT_JSON)
DEEP: Final = '{"a":' * 9 + "1" + "}" * 9
IN_NOTATION: Final[dict[type, tuple[str, ...]]] = {
    BudgetDuration: ("7", "1x", "１d", "٣d", "-1d", "1 d", "0d", "3661d", "1MO"),
    Lifetime: ("0d", "１d", "٣d", "-5d", "9999999999d", "101y", "1.5d", "1d2h", "soon", "1D"),
    AccountId: ("7", "x" * 36, "0" * 33, "{}", "-"),
    TimeZone: ("Nowhere/City", "../../etc/passwd", "/etc/passwd", "１"),
    ProviderName: ("a b", "é", "-", "openai/", "x" * 65),
    AmountText: (
        "-1",
        "1e3",
        "NaN",
        "Infinity",
        "1,000",
        ".5",
        "1.",
        " 1",
        "１",
        "0x10",
        "1000000001",
        "0.0000000001",
        "9" * 60,
    ),
    RateText: (
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "1e308",
        "-1",
        "-0",
        "1e-30",
        "１２",
        "٣",
        "1,000",
        "0x10",
        "0",
        "0.0000000000000001",
        "100000000.1",
        ".5",
        "1.",
        " 1",
        "9" * 60,
    ),
    NumberText: (
        "-1",
        "-0.1",
        "1e3",
        "1e400",
        "1e-30",
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "1,000",
        ".5",
        "1.",
        " 1",
        "１２",
        "٣",
        "0x10",
        "1000001",
        "0.0000000000000000001",
        "9" * 60,
    ),
    FactorText: ("0", "-0", "100.1"),
    LabelText: ("é" * 200,),
    Currency: ("usd", "US", "ＵＳＤ", "USDX", "ZZZ", "XXX", "BTC"),
    OneOf: ("nobody", "ADMIN"),
    Email: ("nobody", "a@b@c", "@example.com", "a b@example.com"),
    Instant: NO_INSTANTS,
    LocalTime: ("24:00", "6:30", "06:30:61", "0630", "０６:30", "noon"),
    Moment: ("2026-13-01T00:00Z", "2026-01-01", "0001-01-01T00:00Z", "9999-12-31T23:00Z", "soon"),
    Uuid: ("key", "9876543210004000800000000000000", "{98765432-1000-4000-8000-000000000000}"),
    Day: ("2026-13-01", "2026-1-1", "20260101", "２０２６-01-01", "0001-01-01", "9999-12-31"),
}


IN_PATHS: Final = {
    "<path:model>": "some-model",
    "<path:key>": "sk-0123456789abcdef",
    "<path:team_id>": "some-team",
    "<path:user_id>": "some-user",
    "<uuid:account_id>": "0b5fbd0c-9d3e-4d43-8a3b-6b1f7e8f5a10",
    "<int:rerating_id>": "987654321",
    "<int:proposal_id>": "987654322",
    "<uuid:increase_id>": "98765432-1000-4000-8000-000000000000",
}
UNKNOWN: Final = ("nonsense", "", "Max_Budget", "__class__", "１", "x" * 9_999)
NO_BODIES: Final = (
    "[]", "[{}]", "null", '"text"', "7", "NaN", "{", "{'a': 1}", '{"a": 01}', "\x00",
    "[" * 100_000, '{"a":' * 100_000,
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    path: str
    method: str
    takes: type[Strict]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def template(self) -> str:
        """Return the path as the docs write it."""
        path = self.path
        for part, sample in IN_PATHS.items():
            path = path.replace(sample, f"{{{part.strip('<>').partition(':')[2]}}}")
        return path

    def send(self, body: str) -> Reply:
        api = master()
        return (api.patch if self.method == "patch" else api.post)(f"/{self.path}", body)

    def ask(self, query: dict[str, Any]) -> Reply:
        api = master()
        return (api.delete if self.method == "delete" else api.get)(f"/{self.path}", query)

    @property
    def is_asked(self) -> bool:
        """Return whether its fields stand in the query string."""
        return self.method in {"get", "delete"}


def endpoints() -> Iterator[Endpoint]:
    for pattern in patterns(get_resolver().url_patterns):
        view = getattr(pattern.callback, "cls", None)
        if view is None or not issubclass(view, ManagementView):
            continue
        for method in ("get", "post", "patch", "delete"):
            if hasattr(view, method):
                path = str(pattern.pattern)
                for part, sample in IN_PATHS.items():
                    path = path.replace(part, sample)
                yield Endpoint(path, method, getattr(view, method).takes)


def patterns(given: Sequence[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    for each in given:
        if isinstance(each, URLResolver):
            yield from patterns(each.url_patterns)
        else:
            yield each


ALL: Final = tuple(endpoints())
WRITES: Final = [each for each in ALL if not each.is_asked]
READS: Final = [each for each in ALL if each.is_asked]


# --- What is right ---------------------------------------------------------------------
VALID: Final[dict[type, Any]] = {
    AccountId: "6d9f0f6e-4a53-5f0e-9a3c-0d1f6f3f7a10",
    MemberOrMembers: {"user_id": "somebody"},
    TextList: ["something"],
    BudgetDuration: "1d",
    NumberText: "1",
    AmountText: "1",
    Moment: "2030-01-01T00:00Z",
    Uuid: "98765432-1000-4000-8000-000000000000",
    Amount: 1,
    Whole: 1,
    Currency: "EUR",
    Day: "2026-11-01",
    RateText: "1.5",
    LocalTime: "06:30",
    Instant: "2026-11-01",
    Text: "something",
}
"""A value that fits each kind of field; of several kinds the first counts."""


def valid(field: Any) -> Any:
    """Return a value that fits, for a field that must be given."""
    if isinstance(field, serializers.ListSerializer):
        return [valid(field.child)]
    if isinstance(field, serializers.Serializer):
        return valid_body(field)
    if isinstance(field, OneOf):
        return field.words[0]
    try:
        return deepcopy(next(fit for kind, fit in VALID.items() if isinstance(field, kind)))
    except StopIteration:
        pytest.fail(f"no valid value is known for {type(field).__name__}")


def valid_body(wanted: serializers.Serializer) -> dict[str, Any]:
    body = {name: valid(field) for name, field in wanted.fields.items() if field.required}
    # Those that are named by id or by address.
    by_either = {"user_id", "user_email"} <= wanted.fields.keys()
    return body | ({"user_id": "somebody"} if by_either else {}) | by_alternative(wanted)


def by_alternative(wanted: serializers.Serializer) -> dict[str, Any]:
    """Return what fits where one of several fields must be given."""
    return {"max_parallel_requests": 1} if isinstance(wanted, ModelLimit) else {}


# --- What is wrong ---------------------------------------------------------------------
def places(wanted: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every field with its place in the body, within lists and objects too."""
    yield from places_by_name(wanted, at)
    for name, field in getattr(wanted, "fields", {}).items():
        place = (*at, name)
        yield place, field
        if isinstance(field, ByName):
            yield (*place, NAME), field.child
            if isinstance(field.child, serializers.Serializer):
                yield from places(field.child, (*place, NAME))
        if isinstance(field, serializers.ListSerializer):
            assert isinstance(field.child, serializers.Serializer)
            yield from places(field.child, (*place, 0))
        elif isinstance(field, serializers.Serializer):
            yield from places(field, place)
        elif isinstance(field, MemberOrMembers):
            yield from places(Member(), place)
            yield from places(Member(), (*place, 0))


def places_by_name(wanted: Any, at: Place) -> Iterator[tuple[Place, Any]]:
    """Yield the places of values whose names are the caller's, and those of a margin's parts."""
    if isinstance(wanted, Strict) and (by_name := wanted.by_name()):
        yield (*at, NAME), by_name.child
        yield from places(by_name.child, (*at, NAME))
    if isinstance(wanted, Margin):
        yield from places(MarginParts(), at)


def objects(wanted: serializers.Serializer) -> set[Place]:
    """Return the place of every object in the body."""
    free: set[Place] = {place for place, field in places(wanted) if isinstance(field, ByName)}
    if isinstance(wanted, Strict) and wanted.by_name():
        free.add(())
    return {(), *(place[:-1] for place, _ in places(wanted))} - free


def wrong(field: Any) -> Iterator[str]:
    """Yield JSON, or what looks like it, that does not fit a field."""
    if not field.allow_null:
        yield "null"
    try:
        kind = next(kind for kind in WRONG if isinstance(field, kind))
    except StopIteration:
        pytest.fail(f"nobody knows what does not fit {type(field).__name__}")
    yield from WRONG[kind](field)


def wrong_amount(field: Any) -> Iterator[str]:
    yield from (*NO_NUMBER, "-1", "-0.1", "1e400", "1e308", "1000000001", "9" * 400)
    yield from ("1e-400", f"0.{'0' * field.decimals}1", f"0.1{'0' * 30}1")


def wrong_whole(_: Any) -> Iterator[str]:
    yield from (*NO_NUMBER, "-1", "1.5", "1e400", "1e308", "9" * 400)


def wrong_flag(_: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *LISTS, *OBJECTS, *NOT_JSON)


def wrong_metadata(_: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *BOOLEANS, *LISTS, *NOT_JSON, DEEP)
    yield from ('{"\\u0000": 1}', '{"a": ["\\u0000"]}', '{"a": "\\ud800"}', '{"a": 1e400}')
    yield from (f'{{"a": {"9" * 400}}}', json.dumps({"a": "x" * 65_536}))


def wrong_margin(field: Any) -> Iterator[str]:
    yield from (*wrong_amount(Fraction()), '{"percentage": 11}', '{"fixed_amount": -1}')


def wrong_members(_: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *BOOLEANS, "[1]", '["a"]', *NOT_JSON)


def wrong_object(_: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *BOOLEANS, "[1]", *NOT_JSON)


def wrong_text(field: Any) -> Iterator[str]:
    yield from (*NO_STRING, *NO_TEXT, json.dumps("x" * (field.max_length + 1)))
    if not field.allow_blank:
        yield '""'
    yield from map(json.dumps, wrong_notation(field))


def wrong_notation(field: Any) -> Iterator[str]:
    for kind, texts in IN_NOTATION.items():
        if isinstance(field, kind):
            yield from texts
    if isinstance(field, Lifetime) and not field.endless:
        yield "-1"


def wrong_list(field: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *BOOLEANS, *OBJECTS, *NOT_JSON)
    yield from ("[1]", "[null]", "[true]", '[["a"]]', '[{"a": 1}]', '[""]', "[NaN]")
    yield from (f"[{text}]" for text in NO_TEXT)
    yield from (json.dumps(["x" * 300]), json.dumps(["x"] * 1_001))
    if not field.allow_empty:
        yield "[]"


def wrong_objects(field: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *BOOLEANS, *OBJECTS, *NOT_JSON, "[1]", "[null]", '["a"]')
    if not field.allow_empty:
        yield "[]"


def wrong_reply(_: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *BOOLEANS, *LISTS, *NOT_JSON)


def wrong_fallbacks(_: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *BOOLEANS, *OBJECTS, *NOT_JSON, "[1]", "[null]", '["a"]')
    yield from ('[{"a": 1}]', '[{"a": "b"}]', '[{"a": [1]}]', '[{"": ["b"]}]', '[{"a": null}]')
    yield from ('[{"a": ["b"]}, {"a": ["c"]}]', '[{"a\\u0000": ["b"]}]', '[{"a": ["\\ud800"]}]')
    yield from (json.dumps([{"x" * 256: ["b"]}]), json.dumps([{str(n): []} for n in range(1_001)]))


def wrong_by_name(field: Any) -> Iterator[str]:
    yield from (*STRINGS, *NUMBERS, *BOOLEANS, *LISTS, *NOT_JSON)
    yield from ('{"": 1}', '{"a\\u0000b": 1}', '{"\\ud800": 1}')
    yield from (json.dumps({"x" * 256: 1}), json.dumps({f"m{n}": 1 for n in range(101)}))
    yield from ('{"a": []}', '{"a": -1}', '{"a": true}')
    if not field.child.allow_null:
        yield '{"a": null}'
    yield '{"a": "0"}' if isinstance(field.child, FactorText) else '{"a": "1"}'


WRONG: Final[dict[Any, Callable[[Any], Iterator[str]]]] = {
    Amount: wrong_amount,
    Whole: wrong_whole,
    Flag: wrong_flag,
    Text: wrong_text,
    Email: wrong_text,
    TextList: wrong_list,
    Metadata: wrong_metadata,
    Margin: wrong_margin,
    ByName: wrong_by_name,
    FallbackLists: wrong_fallbacks,
    Objects: wrong_objects,
    ReplyField: wrong_reply,
    serializers.ListSerializer: wrong_members,
    MemberOrMembers: wrong_members,
    serializers.Serializer: wrong_object,
}


def wrong_query(field: Any) -> Iterator[str]:
    """Yield text of a query string that does not fit a field."""
    if isinstance(field, QueryWhole):
        yield from ("-1", "1.5", "１２", "٣", "1e3", "NaN", "", " 1", "0x10", "1,000", "9" * 30)
        yield from (str(field.max_value + 1), str(field.min_value - 1))
    elif isinstance(field, QueryFlag):
        yield from ("", "maybe", "2", "１", "null")
    elif isinstance(field, QueryList):
        yield from ("\0", "a,,b", "x" * 300, "a," * 1_001 + "a")
    else:
        yield from ("", "\0", "a\0b", "x" * (field.max_length + 1), *wrong_notation(field))


# --- What is checked -------------------------------------------------------------------
def with_bad(wanted: type[Strict], place: Place, literal: str) -> str:
    """Return a body in which everything fits but the value at ``place``."""
    body: Any = valid_body(wanted())
    at, field = body, wanted()
    for name, following in zip(place, (*place[1:], None), strict=True):
        if following is None:
            fill(at, name, MARK)
        else:
            field = within(field, name)
            at = descend(field, at, name, following)
    return json.dumps(body).replace(f'"{MARK}"', literal)


def within(field: Any, name: str | int) -> Any:
    """Return the field of that name, or of any place in a list."""
    if isinstance(field, MemberOrMembers):
        field = Member()
        return field if isinstance(name, int) else field.fields[name]
    if isinstance(field, Margin):
        return MarginParts().fields[str(name)]
    if isinstance(field, ByName | serializers.ListSerializer):
        return field.child
    if isinstance(field, Strict) and (by_name := field.by_name()):
        return by_name.child
    return field.fields[name]


def fill(at: Any, name: str | int, value: Any) -> None:
    if isinstance(at, list):
        at[:] = [value]
    else:
        at[name] = value


def descend(field: Any, at: Any, name: str | int, following: str | int) -> Any:
    inside = at[name] if isinstance(name, int) or name in at else None
    if isinstance(following, int) and not isinstance(inside, list):
        inside = [inside or valid_body(within(field, 0))]
    if inside is None:
        inside = valid_body(field) if isinstance(field, serializers.Serializer) else {}
    fill(at, name, inside)
    return inside


def named(place: Place) -> str:
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place)
    return text.removeprefix(".")


def complaint(reply: Reply, expected: str) -> str:
    """Return what is wrong with a refusal, or nothing."""
    if reply.status != 400:
        return f"{reply.status}: {reply.text[:200]}"
    param = reply.error["param"] or ""
    is_place = param == expected or param.startswith((f"{expected}[", f"{expected}."))
    # The parser only knows the innermost name of what is no JSON.
    is_name = expected.rpartition(".")[2].partition("[")[0] in {param, param.partition("[")[0]}
    return "" if is_place or is_name else f"param is {param!r}"


def complaints(tried: Iterator[tuple[str, str, Reply]]) -> list[str]:
    return [
        f"{where} = {literal[:60]}: {problem}"
        for where, literal, reply in tried
        if (problem := complaint(reply, where))
    ]


@pytest.fixture(autouse=True)
def _nothing_changes() -> Iterator[None]:
    before = Change.objects.count()
    yield
    assert Change.objects.count() == before, "something was changed by a bad request"


def test_every_management_endpoint_is_covered() -> None:
    assert len(WRITES) >= 23
    assert len(READS) >= 11


@pytest.mark.parametrize("endpoint", WRITES, ids=str)
def test_no_field_takes_what_does_not_fit(endpoint: Endpoint) -> None:
    tried = (
        (named(place), literal, endpoint.send(with_bad(endpoint.takes, place, literal)))
        for place, field in places(endpoint.takes())
        for literal in wrong(field)
    )

    assert not complaints(tried)


@pytest.mark.parametrize("endpoint", READS, ids=str)
def test_no_part_of_a_query_takes_what_does_not_fit(endpoint: Endpoint) -> None:
    fields = endpoint.takes().fields
    tried = (
        (name, text, endpoint.ask({**valid_body(endpoint.takes()), name: text}))
        for name, field in fields.items()
        for text in wrong_query(field)
    )

    assert not complaints(tried)


@pytest.mark.parametrize("endpoint", WRITES, ids=str)
def test_no_unknown_name_is_taken_at_any_place(endpoint: Endpoint) -> None:
    for place, name in product(objects(endpoint.takes()), UNKNOWN):
        body = with_bad(endpoint.takes, (*place, name), "1")

        reply = endpoint.send(body)

        assert (reply.status, reply.error["code"]) == (400, "unknown_field"), reply.text
        assert (reply.error["param"] or "") == named((*place, name))[:255]


@pytest.mark.parametrize("endpoint", READS, ids=str)
def test_no_unknown_name_is_taken_in_a_query(endpoint: Endpoint) -> None:
    query = {**valid_body(endpoint.takes()), "nonsense": "1"}

    reply = endpoint.ask(query)

    assert reply.error["code"] == "unknown_field"
    assert reply.error["param"] == "nonsense"


@pytest.mark.parametrize("endpoint", WRITES, ids=str)
def test_no_name_is_taken_twice(endpoint: Endpoint) -> None:
    for name in endpoint.takes().fields:
        reply = endpoint.send(f'{{"{name}": null, "{name}": null}}')

        assert reply.status == 400
        assert reply.error["param"] == name


@pytest.mark.parametrize("endpoint", READS, ids=str)
def test_no_name_is_taken_twice_in_a_query(endpoint: Endpoint) -> None:
    for name in endpoint.takes().fields:
        reply = endpoint.ask({str(name): ["a", "b"]})

        assert reply.status == 400
        assert reply.error["param"] == name


@pytest.mark.parametrize("endpoint", ALL, ids=str)
def test_what_we_do_not_have_is_taken_with_its_default_only(endpoint: Endpoint) -> None:
    wanted = endpoint.takes()
    base = valid_body(wanted)
    for name, default in wanted.unsupported.items():
        taken = [default] if endpoint.is_asked else [default, None]
        for value in taken:
            assert name not in checked(endpoint.takes, {**base, name: value})
        for value in ("something", "12345"):
            reply = (
                endpoint.ask({**base, name: value})
                if endpoint.is_asked
                else endpoint.send(json.dumps({**base, name: value}))
            )
            assert reply.error["code"] == "unsupported_field", (name, value)
            assert reply.error["param"] == name
        assert name not in wanted.fields, f"{name} is both known and not"


@pytest.mark.parametrize("endpoint", WRITES, ids=str)
def test_a_body_that_is_no_object_is_refused(endpoint: Endpoint) -> None:
    for body in NO_BODIES:
        reply = endpoint.send(body)

        assert reply.status == 400
        assert reply.error["code"] in {"invalid_json", "invalid_value"}


@pytest.mark.parametrize("body", [b"\xff\xfe{}", b'{"key_alias": "\xff"}', b'{"a": \xc0\x80}'])
def test_a_body_that_is_no_utf8_is_refused(body: bytes) -> None:
    reply = master().post("/key/generate", body)

    assert (reply.status, reply.error["code"]) == (400, "invalid_json")


def test_an_absurdly_long_number_is_refused_and_costs_nothing() -> None:
    for literal in ("1" * 1_000_000, "0." + "1" * 1_000_000, "1e999999999999999999999"):
        reply = master().post("/key/generate", f'{{"max_budget": {literal}}}')

        assert reply.status == 400


@pytest.mark.parametrize("key", ["sk-%00", "%00", "a" * 5_000, "sk-%ED%A0%80", "%F0%9F%92%A9"])
def test_a_key_in_a_path_that_is_none_is_not_found(key: str) -> None:
    reply = master().post(f"/key/{key}/regenerate", {})

    assert reply.status == 404
