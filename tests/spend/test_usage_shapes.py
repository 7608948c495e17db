"""What single shapes of API have of their own, beyond the payloads that are documented."""

import pytest

from spend.components import Component
from spend.usage import Reading
from spend.usage.counts import ITEMS_MAX
from tests.spend.usage_support import read, read_streamed

pytestmark = pytest.mark.no_servers


def reading_of(name: str, answer: object, **request: object) -> Reading:
    reading = read(name, answer, request)

    assert reading is not None
    return reading


def classes(name: str, answer: object, **request: object) -> dict[str, int]:
    usage = reading_of(name, answer, **request).usage
    return {component.value: n for component, n in usage.items() if component != "request"}


# --- The cache and what is heard and seen ------------------------------------------------


def chat(prompt: int, **details: object) -> dict[str, object]:
    usage = {"prompt_tokens": prompt, "completion_tokens": 0, "prompt_tokens_details": details}
    return {"usage": usage}


def test_audio_and_images_of_the_cache_are_no_more_than_the_cache() -> None:
    hits = {"audio_tokens": 8, "image_tokens": 8}
    answer = chat(100, cached_tokens=10, audio_tokens=8, image_tokens=8, cached_tokens_details=hits)

    reading = reading_of("openai_chat", answer)

    assert reading.was_clamped
    assert classes("openai_chat", answer) == {
        "input": 84, "cached_read_audio": 8, "cached_read_image": 2, "input_image": 6,
    }  # fmt: skip


def test_audio_of_the_cache_that_is_not_told_among_the_audio_is_mended() -> None:
    answer = chat(20, cached_tokens=10, audio_tokens=3, cached_tokens_details={"audio_tokens": 4})

    assert reading_of("openai_chat", answer).was_clamped
    assert classes("openai_chat", answer) == {
        "input": 10, "cached_read": 6, "cached_read_audio": 4,
    }  # fmt: skip


def test_first_place_that_tells_of_the_cache_counts_and_zero_tells_nothing() -> None:
    usage = {
        "prompt_tokens": 10, "completion_tokens": 0, "prompt_cache_hit_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0},
    }  # fmt: skip

    assert classes("openai_chat", {"usage": usage}) == {"input": 6, "cached_read": 4}


def test_what_a_proxy_counts_beside_tokens_is_read() -> None:
    answer = chat(
        3, character_count=40, image_count=2, audio_length_seconds=1.5, video_length_seconds=2,
        query_count=1,
    )  # fmt: skip

    assert classes("openai_chat", answer) == {
        "input": 3, "input_characters": 40, "input_images": 2, "input_audio_ms": 1_500,
        "input_video_ms": 2_000, "query": 1,
    }  # fmt: skip


def test_searches_that_are_told_come_before_the_one_that_was_asked_for() -> None:
    answer = chat(3, web_search_requests=2)

    assert classes("openai_chat", answer, web_search_options={})["web_search"] == 2


# --- Anthropic ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "short", "hour", "written", "was_clamped"),
    [
        (300, 100, 200, {"cache_write_5m": 100, "cache_write_1h": 200}, False),
        (300, 0, 0, {"cache_write_5m": 300}, False),
        (300, 100, 100, {"cache_write_5m": 200, "cache_write_1h": 100}, False),
        (300, 0, 400, {"cache_write_1h": 300}, True),
        (300, 200, 200, {"cache_write_5m": 100, "cache_write_1h": 200}, True),
        (None, 100, 200, {"cache_write_5m": 100, "cache_write_1h": 200}, False),
    ],
)
def test_cache_writes_are_split_by_how_long_they_are_kept(
    total: int | None, short: int, hour: int, written: dict[str, int], was_clamped: bool
) -> None:
    split = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour}
    usage = {
        "input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": total,
        "cache_creation": split,
    }  # fmt: skip

    assert classes("anthropic_messages", {"usage": usage}) == written
    assert reading_of("anthropic_messages", {"usage": usage}).was_clamped == was_clamped


@pytest.mark.parametrize("geo", ["global", "not_available", None])
def test_message_made_anywhere_has_no_region(geo: object) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "inference_geo": geo, "speed": "standard"}

    reading = reading_of("anthropic_messages", {"usage": usage})

    assert (reading.region, reading.variant) == ("", "")
    assert not reading.was_clamped


# --- Responses ---------------------------------------------------------------------------


def test_searches_that_are_told_as_none_are_none_whatever_was_called() -> None:
    answer = {
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "output": [{"type": "web_search_call", "action": {"type": "search"}}],
        "tool_usage": {"web_search": {"num_requests": 0}},
    }

    assert classes("openai_responses", answer) == {"input": 1, "output": 1}


def test_code_that_ran_in_two_containers_had_two_sessions() -> None:
    calls = [{"type": "code_interpreter_call", "container_id": c} for c in ("a", "b", "a")]
    answer = {"usage": {"input_tokens": 1, "output_tokens": 1}, "output": calls}

    assert classes("openai_responses", answer)["code_session"] == 2


# --- Images ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "request_", "variant"),
    [
        ({"quality": "high", "size": "1024x1536"}, {}, "high/1024x1536"),
        ({"quality": "low"}, {"quality": "high", "size": "1024-x-1024"}, "low/1024x1024"),
        ({"quality": "auto", "size": "auto"}, {"quality": "HD"}, "hd"),
        ({}, {"quality": "auto", "size": "auto"}, ""),
    ],
)
def test_variant_of_an_image_is_what_was_made_or_else_asked_for(
    answer: dict[str, object], request_: dict[str, object], variant: str
) -> None:
    assert reading_of("openai_images", {"data": [{}], **answer}, **request_).variant == variant


def test_parts_of_an_image_that_exceed_its_output_are_cut_in_text() -> None:
    details = {"image_tokens": 40, "text_tokens": 40}
    usage = {"input_tokens": 0, "output_tokens": 50, "output_tokens_details": details}
    answer = {"data": [{}], "usage": usage}

    assert classes("openai_images", answer) == {"output_image": 40, "output": 10, "images": 1}
    assert reading_of("openai_images", answer).was_clamped


def test_streamed_images_tell_if_one_of_them_was_mended() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1}
    done = {"type": "image_edit.completed", "usage": usage}
    wrong = {**done, "usage": {**usage, "input_tokens_details": {"image_tokens": -1}}}

    mended = read_streamed("openai_images", [wrong, done])
    whole = read_streamed("openai_images", [done, done])

    assert mended is not None
    assert whole is not None
    assert (mended.was_clamped, whole.was_clamped) == (True, False)


def test_more_streamed_images_than_are_counted_are_told_as_mended() -> None:
    done = {"type": "image_edit.completed"}

    reading = read_streamed("openai_images", [done] * (ITEMS_MAX + 2))

    assert reading is not None
    assert reading.usage[Component.IMAGES] == ITEMS_MAX
    assert reading.was_clamped


# --- Others ------------------------------------------------------------------------------


def test_video_that_failed_has_used_nothing() -> None:
    answer = {"object": "video", "status": "failed", "seconds": "8", "size": "1280x720"}

    assert read("video", answer) == Reading(usage={}, was_clamped=False)


@pytest.mark.parametrize(
    ("size", "variant"),
    [("1080x1920", "1080p"), ("1280-x-720", "720p"), ("large", ""), ("1x1", "")],
)
def test_resolution_of_a_video_is_the_shorter_side_of_its_size(size: str, variant: str) -> None:
    assert reading_of("video", {"seconds": 4, "size": size}).variant == variant


def test_queries_beyond_what_a_request_may_have_are_cut() -> None:
    reading = reading_of("search", {"results": []}, query=["a"] * (ITEMS_MAX + 1))

    assert reading.usage[Component.QUERY] == ITEMS_MAX
    assert reading.was_clamped


def test_line_of_a_batch_that_failed_tells_nothing() -> None:
    line = {"custom_id": "1", "response": None, "error": {"code": "batch_expired"}}

    assert read("openai_batch", line) is None


@pytest.mark.parametrize(
    ("traffic", "tier"),
    [
        ("ON_DEMAND", "default"), ("ON_DEMAND_FLEX", "flex"),
        ("PROVISIONED_THROUGHPUT", "provisioned_throughput"), (None, ""),
    ],
)  # fmt: skip
def test_tier_of_vertex_is_its_type_of_traffic(traffic: object, tier: str) -> None:
    usage = {
        "prompt_tokens": 1, "completion_tokens": 1,
        "extra_properties": {"google": {"traffic_type": traffic}},
    }  # fmt: skip

    assert reading_of("gemini_openai", {"usage": usage}).service_tier == tier
