"""Recorded streams, through the gateway's meter: told usage is billed, untold is counted."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from gateway import sse
from gateway.metering import DONE, Meter
from spend.components import INPUT_COMPONENTS, OUTPUT_COMPONENTS, Component, total_of
from spend.events import ESTIMATED
from spend.rates import Price, Rate

pytestmark = pytest.mark.no_servers

CASES: Final = [
    case
    for case in json.loads((Path(__file__).parents[1] / "data" / "sse_usage.json").read_text())[
        "cases"
    ]
    if "api" not in case
]
PRICE: Final = Price("USD", (Rate(Component.INPUT, Decimal(1)),), "test")
NOW: Final = datetime(2026, 11, 24, tzinfo=UTC)


def events(case: dict[str, Any], *, size: int) -> Iterator[bytes]:
    """Yield the data of each event, the stream having come in pieces of ``size`` bytes."""
    body, splitter = case["sse"].encode(), sse.EventSplitter()
    for start in range(0, len(body), size):
        for event in splitter.feed(body[start : start + size]):
            yield sse.data_of(event)


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_stream_is_billed_as_the_reference_bills_it(case: dict[str, Any], size: int) -> None:
    prompt = {"model": case["model"], "messages": case["request_messages"]}
    meter = Meter(
        price=PRICE, ceiling=Decimal(10**9), model=case["model"], prompt=prompt, prompt_bytes=9
    )
    told = [each for each in events(case, size=size) if each]
    for data in told:
        meter.read_event(data)
    if meter.must_count:
        await meter.count()

    outcome = meter.outcome(settled_at=NOW)

    expected = case["observed"]["usage"]
    assert told[-1] == DONE
    assert total_of(outcome.usage, INPUT_COMPONENTS) == expected["prompt_tokens"]
    assert total_of(outcome.usage, OUTPUT_COMPONENTS) == expected["completion_tokens"]
    has_usage = "usage" in case["sse"].replace('"usage": null', "")
    assert (ESTIMATED in outcome.flags) is not has_usage
