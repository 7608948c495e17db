"""Usage that a stream tells in pieces: the last count of each field, and nothing is summed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spend.components import INPUT_COMPONENTS, OUTPUT_COMPONENTS, Component, Usage, total_of
from spend.usage.streams import DEPTH_MAX, NAMES_MAX, Merged
from tests.spend.usage_support import read_streamed

pytestmark = pytest.mark.no_servers

STREAMS = json.loads((Path(__file__).parents[1] / "data" / "sse_usage.json").read_text())["cases"]
TOLD = [case for case in STREAMS if "usage" in case["sse"].replace('"usage": null', "")]
UNTOLD = [case for case in STREAMS if case not in TOLD]


def events(case: dict[str, Any]) -> Iterator[object]:
    for line in case["sse"].splitlines():
        data = line.removeprefix("data: ")
        if data not in {line, "[DONE]"}:
            yield json.loads(data)


def usage_of(*events: object, name: str = "openai_chat", **request: object) -> Usage:
    reading = read_streamed(name, list(events), request)

    assert reading is not None
    return reading.usage


def chunk(**usage: object) -> dict[str, object]:
    return {"choices": [], "usage": usage}


# --- Raw streams -------------------------------------------------------------------------


def test_there_are_streams_with_and_without_usage() -> None:
    assert (len(TOLD), len(UNTOLD)) == (17, 8)


@pytest.mark.parametrize("case", TOLD, ids=lambda case: case["id"])
def test_stream_is_billed_by_what_it_tells(case: dict[str, Any]) -> None:
    expected = case["observed"]["usage"]
    details = expected.get("prompt_tokens_details") or {}
    lasting = details.get("cache_creation_token_details") or {}
    out = expected.get("completion_tokens_details") or {}

    usage = usage_of(*events(case), name=case.get("api", "openai_chat"))

    written = usage.get(Component.CACHE_WRITE_5M, 0) + usage.get(Component.CACHE_WRITE_1H, 0)
    assert total_of(usage, INPUT_COMPONENTS) == expected["prompt_tokens"]
    assert total_of(usage, OUTPUT_COMPONENTS) == expected["completion_tokens"]
    assert usage.get(Component.CACHED_READ, 0) == details.get("cached_tokens", 0)
    assert written == details.get("cache_write_tokens", 0)
    assert usage.get(Component.CACHE_WRITE_1H, 0) == lasting.get("ephemeral_1h_input_tokens", 0)
    assert usage.get(Component.REASONING, 0) == out.get("reasoning_tokens", 0)


@pytest.mark.parametrize("case", UNTOLD, ids=lambda case: case["id"])
def test_stream_without_usage_tells_none(case: dict[str, Any]) -> None:
    assert read_streamed(case.get("api", "openai_chat"), list(events(case))) is None


# --- One rule each -----------------------------------------------------------------------


def test_usage_that_grows_with_each_chunk_is_not_summed() -> None:
    usage = usage_of(
        chunk(prompt_tokens=66, completion_tokens=1, total_tokens=67),
        chunk(prompt_tokens=66, completion_tokens=6, total_tokens=72),
    )

    assert usage == {Component.INPUT: 66, Component.OUTPUT: 6, Component.REQUEST: 1}


@pytest.mark.parametrize("later", [0, None, -1, "9", True, 2.5, float("nan"), {}, []])
def test_what_is_no_count_above_0_never_replaces_one(later: object) -> None:
    usage = usage_of(
        chunk(prompt_tokens=25, completion_tokens=1),
        chunk(prompt_tokens=later, completion_tokens=9),
    )

    assert usage == {Component.INPUT: 25, Component.OUTPUT: 9, Component.REQUEST: 1}


def test_a_total_of_before_says_nothing_of_what_came_after_it() -> None:
    usage = usage_of(
        chunk(prompt_tokens=10, completion_tokens=50, total_tokens=60),
        chunk(prompt_tokens=10, completion_tokens=40),
    )

    assert Component.REASONING not in usage
    assert usage[Component.OUTPUT] == 40


def test_details_told_before_the_totals_are_kept() -> None:
    usage = usage_of(
        chunk(prompt_tokens=10, completion_tokens=1, prompt_tokens_details={"cached_tokens": 4}),
        chunk(prompt_tokens=10, completion_tokens=3, prompt_tokens_details=None),
    )

    assert usage[Component.CACHED_READ] == 4


def test_tier_of_any_chunk_counts() -> None:
    told = [{"service_tier": "Flex", "choices": []}, chunk(prompt_tokens=1, completion_tokens=1)]

    reading = read_streamed("openai_chat", told)

    assert reading is not None
    assert reading.service_tier == "flex"


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_response_is_read_from_whatever_event_ends_it(kind: str) -> None:
    response = {"usage": {"input_tokens": 5, "output_tokens": 2}}
    before = {"type": "response.in_progress", "response": {"usage": {"input_tokens": 9}}}

    usage = usage_of(
        before, {"type": f"response.{kind}", "response": response}, name="openai_responses"
    )

    assert usage == {Component.INPUT: 5, Component.OUTPUT: 2, Component.REQUEST: 1}


def test_response_that_was_cut_off_tells_nothing() -> None:
    running = {
        "type": "response.in_progress",
        "response": {"usage": {"input_tokens": 5, "output_tokens": 2}},
    }

    assert read_streamed("openai_responses", [running]) is None


def test_each_streamed_image_that_is_done_is_one_and_has_its_usage() -> None:
    done = {
        "type": "image_generation.completed", "quality": "low", "size": "1024x1024",
        "usage": {"input_tokens": 8, "output_tokens": 272},
    }  # fmt: skip

    usage = usage_of(done, {"type": "image_generation.partial_image"}, done, name="openai_images")

    assert usage == {
        Component.INPUT: 16, Component.OUTPUT_IMAGE: 544, Component.IMAGES: 2, Component.REQUEST: 1,
    }  # fmt: skip


# --- Bounds ------------------------------------------------------------------------------


def test_stream_of_ever_new_names_keeps_a_bounded_number_of_them() -> None:
    merged = Merged()

    for n in range(10 * NAMES_MAX):
        merged.add({"usage": {f"name-{n}": n}})

    kept = merged.report["usage"]
    assert isinstance(kept, dict)
    assert len(kept) == NAMES_MAX


def test_report_of_any_depth_is_merged() -> None:
    deep: dict[str, object] = {}
    for _ in range(5_000):
        deep = {"usage": deep}
    merged = Merged()

    merged.add(deep)
    merged.add(deep)

    found: Any = merged.report
    for _ in range(DEPTH_MAX):
        found = found["usage"]
    assert isinstance(found, dict)
