import asyncio
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from bpe_openai import get_encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.metering import Meter
from gateway.routes import EMBEDDINGS, ROUTES
from gateway.routes.route import Route
from gateway.written import BYTES_KEPT_MAX, TEXTS_MAX
from spend.components import Component
from spend.counting import tokens
from spend.rates import Price, Rate

pytestmark = pytest.mark.no_servers

encoding_of = cache(get_encoding)
CODE = Path(__file__).read_text()
PROSE = (Path(__file__).parents[2] / "docs" / "explanation" / "enforcement.md").read_text()
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
    prompt = {"messages": [{"role": "user", "content": "Hello, world!"}]}
    return Meter(
        price=PRICE, ceiling=Decimal(1), model="gpt-4o", prompt=prompt, prompt_bytes=40, status=200
    )


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


async def test_a_reply_without_usage_is_counted_and_flagged(meter: Meter) -> None:
    meter.read_reply(json.dumps({"choices": [{"message": {"content": "Hello, world!"}}]}).encode())

    await meter.count()

    outcome = meter.outcome(settled_at=NOW)
    assert outcome.flags == ("estimated",)
    assert outcome.usage == {Component.INPUT: 11, Component.OUTPUT: 4, Component.REQUEST: 1}


def test_a_reply_that_nobody_counted_is_estimated_by_its_bytes(meter: Meter) -> None:
    meter.read_reply(json.dumps({"choices": [{"message": {"content": "x" * 9}}]}).encode())

    outcome = meter.outcome(settled_at=NOW)
    assert outcome.flags == ("estimated",)
    assert outcome.usage == {Component.INPUT: 10, Component.OUTPUT: 3, Component.REQUEST: 1}


def test_only_an_answer_that_told_its_whole_usage_need_not_be_counted(meter: Meter) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2}

    assert meter.must_count
    meter.read_event(json.dumps({"choices": [{"delta": {}}], "usage": usage}).encode())
    assert meter.must_count
    meter.read_event(b"[DONE]")
    assert not meter.must_count


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"usage": "lots"}', b"\xff\xfe"])
def test_nonsense_is_estimated_and_never_a_crash(meter: Meter, body: bytes) -> None:
    meter.read_reply(body)

    assert "estimated" in meter.outcome(settled_at=NOW).flags


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"usage": {"input_tokens": 5}}'])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "events"])
async def test_whatever_an_upstream_answers_can_be_settled(
    meter: Meter, route: Route, body: bytes, *, is_stream: bool
) -> None:
    meter = replace(meter, answers=route.answers)

    if is_stream:
        meter.read_event(body)
    else:
        meter.read_reply(body)
    if meter.must_count:
        await meter.count()

    outcome = meter.outcome(settled_at=NOW)
    assert meter.reading is not None or outcome.flags == ("estimated",)


def test_a_stream_of_a_route_that_has_none_is_billed_by_its_last_usage(meter: Meter) -> None:
    meter = replace(meter, answers=EMBEDDINGS.answers)

    for tokens_told in (3, 90):
        meter.read_event(json.dumps({"usage": {"prompt_tokens": tokens_told}}).encode())
    meter.read_event(b'{"object": "list"}')
    meter.read_event(b"[DONE]")

    outcome = meter.outcome(settled_at=NOW)
    assert (outcome.usage[Component.INPUT], outcome.flags) == (90, ())


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


async def test_what_is_written_after_a_usage_is_not_in_it(meter: Meter) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10}
    meter.read_event(json.dumps({"choices": [], "usage": usage}).encode())
    meter.read_event(delta(content="Hello, world!"))

    assert meter.must_count
    assert await output_tokens(meter) == 4


def test_a_tier_without_rates_keeps_its_name(meter: Meter) -> None:
    meter.read_reply(
        b'{"service_tier": "priority", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    )

    assert meter.outcome(settled_at=NOW).conditions.service_tier == "priority"


def test_a_tier_that_was_served_without_a_price_is_flagged(meter: Meter) -> None:
    meter.read_reply(
        b'{"service_tier": "priority", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    )

    assert meter.outcome(settled_at=NOW).flags == ("tier_unpriced",)


def delta(index: int = 0, **said: object) -> bytes:
    return json.dumps({"choices": [{"index": index, "delta": said}]}).encode()


async def output_tokens(meter: Meter) -> int:
    await meter.count()
    return meter.outcome(settled_at=NOW).usage[Component.OUTPUT]


async def test_everything_that_the_model_wrote_is_counted(meter: Meter) -> None:
    call = {"index": 0, "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    as_json = '{"arguments":"{\\"city\\":\\"Paris\\"}","name":"weather"}'
    texts = ["Hello, world!", "I cannot.", "First, I think.", as_json]

    meter.read_event(delta(reasoning_content=texts[2], refusal=texts[1]))
    meter.read_event(delta(content=texts[0], tool_calls=[call]))

    counts = [tokens.count_text(text=text, model="gpt-4o").tokens for text in texts]
    assert await output_tokens(meter) == sum(counts)


async def test_the_pieces_of_a_stream_are_counted_as_one_text_for_each_choice(
    meter: Meter,
) -> None:
    for letter in "The quick brown fox jumps over the lazy dog.":
        meter.read_event(delta(0, content=letter))
        meter.read_event(delta(1, content=letter))

    assert await output_tokens(meter) == 20


async def test_what_is_beyond_the_kept_bytes_counts_by_its_bytes(meter: Meter) -> None:
    for _ in range(3):
        meter.read_event(delta(content=" word" * 40_000))

    kept, beyond = BYTES_KEPT_MAX // len(" word"), 600_000 - BYTES_KEPT_MAX
    assert await output_tokens(meter) == pytest.approx(kept + beyond // 4, abs=2)
    assert sum(map(len, meter.written._texts.values())) == BYTES_KEPT_MAX


@settings(deadline=None)
@given(
    text=st.text(min_size=1, max_size=2_000) | st.sampled_from([PROSE, CODE]),
    seed=st.integers(0, 10**6),
)
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-3.5-turbo"])
def test_a_stream_cut_anywhere_is_billed_within_five_percent_of_its_tokens(
    model: str, text: str, seed: int
) -> None:
    draw = random.Random(seed)
    meter = Meter(price=PRICE, ceiling=Decimal(1), model=model, prompt={}, prompt_bytes=0)
    seen = text[: draw.randint(0, len(text))]

    start = 0
    while start < len(seen):
        end = start + draw.randint(1, 12)
        meter.read_event(delta(content=seen[start:end]))
        start = end

    expected = len(encoding_of(tokens.tokenizer_of(model)).encode_ordinary(seen))
    assert abs(asyncio.run(output_tokens(meter)) - expected) * 20 <= expected


@pytest.mark.parametrize("index", [-1, 10**9, "x", None, [], True])
async def test_a_choice_counts_whatever_its_number(meter: Meter, index: object) -> None:
    meter.read_event(
        json.dumps({"choices": [{"index": index, "delta": {"content": "Hello, world!"}}]}).encode()
    )

    assert await output_tokens(meter) == 4


async def test_more_choices_than_anyone_asks_for_count_by_their_bytes(meter: Meter) -> None:
    for index in range(TEXTS_MAX + 100):
        meter.read_event(delta(index, content="word"))

    assert await output_tokens(meter) == TEXTS_MAX + 100
    assert len(meter.written._texts) == TEXTS_MAX
