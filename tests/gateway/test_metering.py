import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from gateway.metering import Meter
from spend.components import Component
from spend.rates import Price, Rate

pytestmark = pytest.mark.no_servers

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PRICE = Price(
    "USD",
    (
        Rate(Component.INPUT, Decimal("0.001")),
        Rate(Component.CACHED_READ, Decimal("0.0001")),
        Rate(Component.OUTPUT, Decimal("0.002")),
    ),
    "price:1",
)


@pytest.fixture
def meter() -> Meter:
    return Meter(price=PRICE, ceiling=Decimal(1), prompt_bytes=40, status=200)


def test_a_reply_is_billed_by_its_usage(meter: Meter) -> None:
    usage = {
        "prompt_tokens": 10, "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }  # fmt: skip

    meter.read_reply(json.dumps({"choices": [], "usage": usage}).encode())

    outcome = meter.outcome(settled_at=NOW)
    assert outcome.cost == Decimal("0.0124")
    assert outcome.flags == ()


def test_a_reply_without_usage_is_estimated_and_flagged(meter: Meter) -> None:
    meter.read_reply(json.dumps({"choices": [{"message": {"content": "x" * 9}}]}).encode())

    outcome = meter.outcome(settled_at=NOW)
    assert outcome.flags == ("estimated",)
    assert outcome.usage == {Component.INPUT: 10, Component.OUTPUT: 3, Component.REQUEST: 1}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"usage": "lots"}', b"\xff\xfe"])
def test_nonsense_is_estimated_and_never_a_crash(meter: Meter, body: bytes) -> None:
    meter.read_reply(body)

    assert "estimated" in meter.outcome(settled_at=NOW).flags


def test_a_stream_is_billed_by_its_last_usage(meter: Meter) -> None:
    events = [
        {"choices": [{"delta": {"content": "a"}}], "usage": None},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}},
    ]

    only_usage = [meter.read_event(json.dumps(event).encode()) for event in events]
    meter.read_event(b"[DONE]")

    assert only_usage == [False, True, True]
    assert meter.is_done
    assert meter.outcome(settled_at=NOW).cost == Decimal("0.014")


def test_a_stream_that_was_cut_off_is_billed_by_the_most_that_was_told_or_seen(
    meter: Meter,
) -> None:
    told = {"prompt_tokens": 10, "completion_tokens": 0}
    chunk = {"choices": [{"delta": {"content": "x" * 400}}], "usage": told}

    meter.read_event(json.dumps(chunk).encode())

    outcome = meter.outcome(settled_at=NOW)
    assert outcome.usage == {Component.INPUT: 10, Component.OUTPUT: 100, Component.REQUEST: 1}
    assert outcome.flags == ("estimated",)


def test_an_answer_of_which_nothing_was_seen_counts_what_it_held(meter: Meter) -> None:
    outcome = meter.unseen(held=Decimal("0.25"), settled_at=NOW)

    assert (outcome.cost, outcome.flags) == (Decimal("0.25"), ("estimated",))


def test_a_cost_above_the_ceiling_is_kept_and_flagged(meter: Meter) -> None:
    meter.read_reply(b'{"usage": {"prompt_tokens": 2000, "completion_tokens": 0}}')

    outcome = meter.outcome(settled_at=NOW)
    assert outcome.cost == Decimal(2)
    assert outcome.flags == ("over_ceiling",)


def test_a_tier_that_was_served_without_a_price_is_flagged(meter: Meter) -> None:
    meter.read_reply(
        b'{"service_tier": "priority", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    )

    assert meter.outcome(settled_at=NOW).flags == ("tier_unpriced",)


def test_tool_calls_and_reasoning_count_in_an_estimate(meter: Meter) -> None:
    delta = {"tool_calls": [{"function": {"arguments": "{}"}}], "reasoning_content": "hm"}

    meter.read_event(json.dumps({"choices": [{"delta": delta}]}).encode())

    assert meter.output_bytes == len('[{"function":{"arguments":"{}"}}]') + 2
