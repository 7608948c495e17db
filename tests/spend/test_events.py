"""A spend event survives its way through the stream; whatever else comes is refused as such."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.money import Units
from spend import events
from spend.components import Component
from spend.events import Described, Outcome
from spend.pricing import Line

pytestmark = pytest.mark.no_servers

DESCRIBED = Described(
    organization_id=7, currency="USD", key_digest="d" * 64, team="team", user="user",
    end_user="customer ü", tags=("a", "b"), route="/v1/chat/completions", model="asked",
    provider="openai", upstream_model="named", deployment="dep", price_reference="price:1",
    cost_currency="USD", streamed=True, reserved_units=2**62,
)  # fmt: skip
OUTCOME = Outcome(
    status=200,
    cost=Decimal("0.000000000000000001"),
    usage={Component.INPUT: 3, Component.REASONING: 4},
    lines=(Line(Component.INPUT, 3, Decimal("1E-18"), Decimal("3E-18")),),
    flags=(events.ESTIMATED, events.OVER_CEILING),
    settled_at=datetime(2026, 3, 14, 12, 0, 0, 123456, tzinfo=UTC),
    saved_units=Units(2**62),
)
REQUEST = UUID("0196a1b2-0000-7000-8000-000000000001")


def test_event_is_the_same_after_the_stream() -> None:
    payload = events.decode(events.encode(DESCRIBED, OUTCOME))

    assert payload.described == DESCRIBED
    assert payload.outcome == OUTCOME


def test_event_without_usage_flags_and_time_is_the_same_as_well() -> None:
    outcome = Outcome(status=0, cost=Decimal(0), usage={})

    payload = events.decode(events.encode(replace(DESCRIBED, tags=(), end_user=""), outcome))

    assert payload.outcome == outcome
    assert payload.described.tags == ()


@given(cost=st.decimals(-(10**9), 10**9, places=18), text=st.text(st.characters(codec="utf-8")))
def test_money_and_text_are_the_same_to_the_last_digit(cost: Decimal, text: str) -> None:
    described, outcome = replace(DESCRIBED, end_user=text), replace(OUTCOME, cost=cost)

    payload = events.decode(events.encode(described, outcome))

    assert str(payload.outcome.cost) == str(cost)
    assert payload.described.end_user == text


def test_money_travels_as_text_never_as_a_float() -> None:
    raw = orjson.loads(events.encode(DESCRIBED, OUTCOME))

    assert raw["cost"] == "1E-18"
    assert raw["lines"] == [["input", 3, "1E-18", "3E-18"]]


def broken(**fields: object) -> bytes:
    raw = orjson.loads(events.encode(DESCRIBED, OUTCOME))
    return orjson.dumps({**raw, **fields})


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"null", b"[]", b"7", b'"text"', b"{}", b"\xff", b'{"cost": NaN}',
        broken(cost="a lot"), broken(cost=None), broken(status="teapot"), broken(tags=None),
        broken(usage=[]), broken(usage={"unheard of": 1}), broken(usage={"input": "many"}),
        broken(lines={}), broken(lines=[["input", 3]]), broken(lines=[["input", 3, "x", "1"]]),
        broken(flags=None), broken(settled_at="yesterday"),
        broken(saved_units="much"), broken(saved_units=-1), broken(saved_units=2**63),
        orjson.dumps({k: v for k, v in orjson.loads(broken()).items() if k != "model"}),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_as_such(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no spend event"):
        events.decode(payload)


@given(payload=st.binary(max_size=40))
def test_any_bytes_are_an_event_or_are_refused_as_such(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no spend event"):
        events.decode(payload)


def test_an_entry_of_before_the_response_cache_has_saved_nothing() -> None:
    raw = orjson.loads(events.encode(DESCRIBED, OUTCOME))
    del raw["saved_units"]

    assert events.decode(orjson.dumps(raw)).outcome == replace(OUTCOME, saved_units=Units(0))


def test_field_of_a_later_release_is_ignored() -> None:
    assert events.decode(broken(invented_later=1)).described == DESCRIBED


def test_a_conversion_is_the_same_to_the_last_digit() -> None:
    converted = replace(
        DESCRIBED, exchange_rate=Decimal("0.923787528868360"), exchange_rate_date=date(2026, 11, 20)
    )

    assert events.decode(events.encode(converted, OUTCOME)).described == converted


def test_an_entry_of_an_earlier_release_was_not_converted() -> None:
    raw = orjson.loads(events.encode(DESCRIBED, OUTCOME))
    del raw["exchange_rate"], raw["exchange_rate_date"]

    described = events.decode(orjson.dumps(raw)).described

    assert (described.exchange_rate, described.exchange_rate_date) == (Decimal(1), None)


@pytest.mark.parametrize(
    "fields",
    [
        {"exchange_rate": "NaN"}, {"exchange_rate": "0"}, {"exchange_rate": "-1"},
        {"exchange_rate": None}, {"exchange_rate": []}, {"exchange_rate_date": "soon"},
    ],
)  # fmt: skip
def test_a_conversion_that_cannot_be_is_no_event(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no spend event"):
        events.decode(broken(**fields))


def test_rows_of_one_request_have_ids_of_their_own_and_always_the_same() -> None:
    ids = [REQUEST, events.orphan_id(REQUEST), events.reversal_id(REQUEST)]

    assert len(set(ids)) == 3
    assert ids[1:] == [events.orphan_id(REQUEST), events.reversal_id(REQUEST)]
    assert events.orphan_id(UUID(int=1)) != events.orphan_id(UUID(int=2))


def test_tokens_are_counted_on_their_side() -> None:
    usage = dict.fromkeys(Component, 1)

    assert (events.input_tokens(usage), events.output_tokens(usage)) == (9, 6)


def test_every_flag_has_a_word_of_its_own() -> None:
    assert len(set(events.FLAGS)) == len(events.FLAGS)
    assert all(flag == flag.lower() and len(flag) <= 24 for flag in events.FLAGS)
