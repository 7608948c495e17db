"""The rules for nonsense, alike in every shape: nothing negative, nothing twice, never a crash."""

import copy
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spend.components import Component
from spend.usage import Reading
from spend.usage.counts import ITEMS_MAX, Counts, milliseconds, whole
from tests.spend.usage_support import (
    FLAVOURS,
    STREAMED,
    cases,
    events_of,
    read,
    read_streamed,
    totals,
)

pytestmark = pytest.mark.no_servers

# --- A count -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "count"), [(0, 0), (7, 7), (12.0, 12), (-0.0, 0), (10**9, 10**9)]
)
def test_whole_number_in_range_is_a_count(value: object, count: int) -> None:
    assert whole(value) == count
    assert type(whole(value)) is int


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, -1, -1.0, 2.5, 10**9 + 1, 1e9 + 1, 10**5000, 1e300, "12", "", b"1",
        float("nan"), float("inf"), float("-inf"), [], [1], {}, Decimal(1), 1j,
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, int) else hex(value)[:20],
)  # fmt: skip
def test_anything_else_is_none(value: object) -> None:
    assert whole(value) is None


def test_count_that_is_none_is_0_and_told_as_mended() -> None:
    counts = Counts()

    assert counts.take({"n": "7"}, "n") == 0
    assert counts.clamped


def test_null_is_not_told_and_nothing_is_mended() -> None:
    counts = Counts()

    assert (counts.take({"n": None}, "n"), counts.take({}, "n")) == (0, 0)
    assert not counts.clamped


def test_list_is_cut_and_told_as_mended() -> None:
    counts = Counts()

    assert len(counts.items([{}] * (ITEMS_MAX + 1))) == ITEMS_MAX
    assert counts.clamped


@pytest.mark.parametrize("word", ["a" * 65, "a\x00", "ü", "a\n", 7, ["a"], {}, True])
def test_word_that_cannot_be_read_is_empty_and_told_as_mended(word: object) -> None:
    counts = Counts()

    assert counts.word({"tier": word}, "tier") == ""
    assert counts.clamped


# --- A duration --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (3, 3_000), (8.47, 8_470), (8.470000267028809, 8_470), ("8", 8_000), ("2.5", 2_500),
        (0.0005, 0), (0.0015, 2), (2.0625, 2_062), (1e-9, 0), (10**6, 10**9), (-0.0, 0),
    ],
)  # fmt: skip
def test_seconds_are_counted_in_milliseconds_rounded_half_to_even(
    seconds: object, expected: int
) -> None:
    assert milliseconds(seconds) == expected


@pytest.mark.parametrize(
    "seconds",
    [
        None, True, -1, -0.001, 10**6 + 1, "1000001", 10**5000, 1e300, float("nan"), float("inf"),
        "", "8s", "-1", "1e3", "1" * 5000, "٣", "NaN", [], {},
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, int) else hex(value)[:20],
)  # fmt: skip
def test_what_is_no_duration_is_none(seconds: object) -> None:
    assert milliseconds(seconds) is None


@given(seconds=st.floats(0, 10**6))
def test_duration_is_never_off_by_more_than_half_a_millisecond(seconds: float) -> None:
    exact = Decimal(str(seconds)) * 1000

    assert milliseconds(seconds) == int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


# --- Totals without which there is no usage ------------------------------------------------

TOTALS = {
    "openai_chat": ("prompt_tokens", "completion_tokens"),
    "openai_responses": ("input_tokens", "output_tokens"),
    "anthropic_messages": ("input_tokens", "output_tokens"),
    "openai_images": ("input_tokens", "output_tokens"),
    "openai_transcription": ("input_tokens", "output_tokens"),
}


@pytest.mark.parametrize("name", TOTALS)
@pytest.mark.parametrize("nonsense", [None, -1, "1", True, 0.5, 10**10, float("nan"), [], {}])
def test_without_a_usable_total_there_is_no_usage(name: str, nonsense: object) -> None:
    for wrong in TOTALS[name]:
        usage = dict.fromkeys(TOTALS[name], 1) | {wrong: nonsense}

        assert read(name, {"usage": usage}) is None


@pytest.mark.parametrize("name", FLAVOURS)
@pytest.mark.parametrize("answer", [None, [], "", 7, {}, {"usage": None}, {"usage": []}])
def test_answer_without_anything_tells_nothing(name: str, answer: object) -> None:
    assert read(name, answer) is None


# --- Any parts of known totals --------------------------------------------------------------

PARTS = [
    "cached_tokens", "cache_write_tokens", "cache_creation_tokens", "audio_tokens", "image_tokens",
    "video_tokens", "text_tokens", "reasoning_tokens", "thinking_tokens",
    "cache_read_input_tokens", "cache_creation_input_tokens", "ephemeral_1h_input_tokens",
    "ephemeral_5m_input_tokens", "ttl_12h_tokens", "cached_audio_tokens",
]  # fmt: skip
PLACES = [
    "cached_tokens_details", "cache_creation_token_details", "cache_write_tokens_details",
    "cache_creation",
]  # fmt: skip
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 60), st.integers(), st.floats(), st.text(max_size=3)
)
parts = st.dictionaries(st.sampled_from(PARTS), leaves, max_size=8)
details = st.builds(
    lambda flat, deep: {**flat, **deep},
    parts,
    st.dictionaries(st.sampled_from(PLACES), parts, max_size=2),
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [*PARTS, *PLACES, "usage", "data", "type", "output", "meta", "iterations"]
            )
            | st.text(max_size=3),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=20,
)
amount = st.integers(0, 50)


def checked(reading: Reading | None) -> Reading:
    assert reading is not None
    assert all(type(n) is int and n > 0 for n in reading.usage.values())
    assert all(isinstance(component, Component) for component in reading.usage)
    assert reading.usage[Component.REQUEST] == 1
    return reading


@given(data=st.data(), total_in=amount, total_out=amount, left_out=amount)
@pytest.mark.parametrize(
    "name", ["openai_chat", "gemini_openai", "openai_responses", "openai_batch"]
)
def test_parts_of_a_completion_add_up_to_its_totals(
    name: str, data: st.DataObject, total_in: int, total_out: int, left_out: int
) -> None:
    is_response = name in {"openai_responses", "openai_batch"}
    one, other = ("input", "output") if is_response else ("prompt", "completion")
    usage = {
        f"{one}_tokens": total_in,
        f"{other}_tokens": total_out,
        "total_tokens": total_in + total_out + left_out,
        f"{one}_tokens_details": data.draw(details | leaves),
        f"{other}_tokens_details": data.draw(details | leaves),
    }

    reading = checked(read(name, {"usage": usage}))

    assert totals(reading) == (total_in, total_out + left_out)
    assert reading.usage.get(Component.REASONING, 0) >= left_out


@given(told=details, total_in=amount, total_out=amount)
def test_images_add_up_to_their_totals(told: object, total_in: int, total_out: int) -> None:
    usage = {
        "input_tokens": total_in, "output_tokens": total_out,
        "input_tokens_details": told, "output_tokens_details": told,
    }  # fmt: skip

    reading = checked(read("openai_images", {"data": [{}], "usage": usage}))

    assert totals(reading) == (total_in, total_out)


@given(told=details, total_in=amount, total_out=amount)
def test_transcription_adds_up_to_its_totals(told: object, total_in: int, total_out: int) -> None:
    usage = {"input_tokens": total_in, "output_tokens": total_out, "input_token_details": told}

    reading = checked(read("openai_transcription", {"usage": usage}))

    assert totals(reading) == (total_in, total_out)


@given(told=details, total=amount, text=leaves)
@pytest.mark.parametrize("name", ["openai_embeddings", "rerank"])
def test_input_alone_adds_up_to_its_total(
    name: str, told: object, total: int, text: object
) -> None:
    usage = {"total_tokens": total, "prompt_tokens_details": told, "text_tokens": text}

    assert totals(checked(read(name, {"usage": usage}))) == (total, 0)


@given(told=details, out=details | leaves, fresh=amount, total_out=amount)
def test_message_adds_up_to_its_input_its_cache_and_its_output(
    told: dict[str, object], out: object, fresh: int, total_out: int
) -> None:
    usage = {
        **told,
        "input_tokens": fresh,
        "output_tokens": total_out,
        "output_tokens_details": out,
    }

    reading = checked(read("anthropic_messages", {"usage": usage}))

    hit = whole(told.get("cache_read_input_tokens")) or 0
    written = whole(told.get("cache_creation_input_tokens")) or _sum_of_split(told)
    assert totals(reading) == (fresh + hit + written, total_out)


def _sum_of_split(told: dict[str, object]) -> int:
    split = told.get("cache_creation")
    names = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    return sum(whole(split.get(name)) or 0 for name in names) if isinstance(split, dict) else 0


@given(usage=details, total_in=amount, total_out=amount, more=amount)
@pytest.mark.parametrize("name", STREAMED)
def test_what_is_streamed_is_read_as_what_is_not(
    name: str, usage: dict[str, object], total_in: int, total_out: int, more: int
) -> None:
    told = {
        **usage,
        "prompt_tokens": total_in, "completion_tokens": total_out,
        "input_tokens": total_in, "output_tokens": total_out,
        "total_tokens": total_in + total_out + more,
        "prompt_tokens_details": usage, "completion_tokens_details": usage,
        "input_tokens_details": usage, "output_tokens_details": usage,
    }  # fmt: skip
    answer = {"usage": told, "data": [{}], "service_tier": "flex"}

    assert read_streamed(name, events_of(name, answer)) == read(name, answer)


@pytest.mark.parametrize(
    ("details", "usage"),
    [
        ({"reasoning_tokens": 300, "text_tokens": 500}, {"reasoning": 300, "output": 200}),
        ({"reasoning_tokens": 700}, {"reasoning": 500}),
        ({"reasoning_tokens": 400, "audio_tokens": 400}, {"reasoning": 400, "output_audio": 100}),
        ({"image_tokens": 74}, {"output_image": 74, "output": 426}),
        ({"text_tokens": 1}, {"output": 500}),
    ],
)
def test_overlapping_parts_of_an_output_are_counted_once(
    details: dict[str, int], usage: dict[str, int]
) -> None:
    told = {"prompt_tokens": 0, "completion_tokens": 500, "completion_tokens_details": details}

    reading = checked(read("openai_chat", {"usage": told}))

    assert {kind.value: n for kind, n in reading.usage.items()} == usage | {"request": 1}
    parts = sum(n for name, n in details.items() if name != "text_tokens")
    assert reading.was_clamped == (parts > 500)


# --- Anything in place of anything -----------------------------------------------------------

DEEP: list[object] = []
for _ in range(5_000):
    DEEP = [DEEP]
NASTY: list[object] = [
    None, True, 0, -1, 1.5, float("nan"), float("inf"), 10**30, 10**5000, "", "12", "x" * 10_000,
    "\x00\ud800", [], [[[]]], [{}] * 3, DEEP, {}, {"a": {"b": []}}, {"usage": {"input_tokens": 1}},
]  # fmt: skip


def variations(value: Any, *, put: Any) -> Iterator[Any]:
    """Yield the same JSON with something else in place of each of its values."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, inner in items:
        for other in (put, *variations(inner, put=put)):
            changed = copy.copy(value)
            changed[name] = other
            yield changed


@pytest.mark.parametrize("put", NASTY, ids=range(len(NASTY)))
def test_nothing_in_place_of_a_field_makes_reading_fail(put: object) -> None:
    for name, case in cases():
        request = case.get("request", {})
        for answer in variations(case["answer"], put=put):
            if (reading := read(name, answer, request)) and reading.usage:
                checked(reading)
            if name in STREAMED:
                read_streamed(name, [*events_of(name, case["answer"]), *events_of(name, answer)])
        for changed in variations(request, put=put):
            read(name, case["answer"], changed)


@given(answer=anything, request=st.dictionaries(st.text(max_size=5), anything, max_size=3))
@pytest.mark.parametrize("name", FLAVOURS)
def test_no_answer_makes_reading_fail(
    name: str, answer: object, request: dict[str, object]
) -> None:
    if (reading := read(name, answer, request)) and reading.usage:
        checked(reading)
    if name in STREAMED:
        read_streamed(name, [answer, {"usage": answer}, answer], request)
