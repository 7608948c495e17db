"""Whatever a provider reports: classes that add up, nothing negative, never a crash."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spend import usage
from spend.components import INPUT_COMPONENTS, OUTPUT_COMPONENTS, Component, total_of
from spend.usage import TOKENS_MAX, Reading

pytestmark = pytest.mark.no_servers


def chat(tokens_in: int, tokens_out: int, **details: Mapping[str, object]) -> Reading | None:
    return usage.of_openai_chat(
        {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "prompt_tokens_details": details.get("prompt", {}),
            "completion_tokens_details": details.get("completion", {}),
        }
    )


def classes(reading: Reading | None) -> dict[str, int]:
    assert reading is not None
    return {component.value: n for component, n in reading.usage.items()}


def test_plain_usage_is_input_output_and_one_request() -> None:
    assert classes(chat(10, 5)) == {"input": 10, "output": 5, "request": 1}


def test_cached_written_and_audio_tokens_are_taken_out_of_the_prompt() -> None:
    reading = chat(
        100, 5,
        prompt={
            "cached_tokens": 40, "cache_write_tokens": 30, "audio_tokens": 20,
            "cache_creation_token_details": {"ephemeral_1h_input_tokens": 10},
        },
    )  # fmt: skip

    assert classes(reading) == {
        "input": 10, "cached_read": 40, "cache_write_5m": 20, "cache_write_1h": 10,
        "input_audio": 20, "output": 5, "request": 1,
    }  # fmt: skip


def test_reasoning_and_audio_tokens_are_taken_out_of_the_completion() -> None:
    reading = chat(1, 100, completion={"reasoning_tokens": 60, "audio_tokens": 30})

    assert classes(reading) == {
        "input": 1, "output": 10, "reasoning": 60, "output_audio": 30, "request": 1,
    }  # fmt: skip


def test_usage_of_nothing_is_a_usage() -> None:
    reading = chat(0, 0)

    assert classes(reading) == {"request": 1}
    assert reading is not None
    assert not reading.was_clamped


@pytest.mark.parametrize("name", ["cache_write_tokens", "cache_creation_tokens"])
def test_cache_writes_are_read_under_either_name(name: str) -> None:
    assert classes(chat(10, 0, prompt={name: 4}))["cache_write_5m"] == 4


def test_reasoning_that_only_the_total_has_is_billed() -> None:
    """xAI counts it apart from completion_tokens; others within."""
    apart = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135}
    reported = apart | {"completion_tokens_details": {"reasoning_tokens": 94}}

    reading = usage.of_openai_chat(reported)

    assert reading is not None
    assert reading.usage == {
        Component.INPUT: 32, Component.OUTPUT: 9, Component.REASONING: 94, Component.REQUEST: 1,
    }  # fmt: skip
    assert not reading.was_clamped


def test_cache_write_under_one_name_is_read_also_if_the_other_is_null() -> None:
    details = {"cache_write_tokens": None, "cache_creation_tokens": 4}

    assert classes(chat(10, 0, prompt=details)) == {"input": 6, "cache_write_5m": 4, "request": 1}


@pytest.mark.parametrize(
    "reported",
    [
        None, [], "", 7, {}, {"prompt_tokens": 1}, {"completion_tokens": 1},
        {"prompt_tokens": None, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": -1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": "1", "completion_tokens": 1},
        {"prompt_tokens": TOKENS_MAX + 1, "completion_tokens": 1},
    ],
)  # fmt: skip
def test_report_without_usable_totals_tells_nothing(reported: object) -> None:
    assert usage.of_openai_chat(reported) is None


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"cached_tokens": 11}, {"cached_read": 10}),
        ({"cached_tokens": -1}, {"input": 10}),
        ({"cached_tokens": "7"}, {"input": 10}),
        ({"cached_tokens": 2.5}, {"input": 10}),
        ({"cached_tokens": True}, {"input": 10}),
        ({"cached_tokens": 8, "audio_tokens": 8}, {"cached_read": 8, "input_audio": 2}),
        ({"cached_tokens": 8, "cache_write_tokens": 8}, {"cached_read": 8, "cache_write_5m": 2}),
    ],
)
def test_nonsense_is_cut_to_what_is_possible_and_flagged(
    details: dict[str, object], expected: dict[str, int]
) -> None:
    reading = chat(10, 0, prompt=details)

    assert reading is not None
    assert reading.was_clamped
    assert classes(reading) == expected | {"request": 1}


@pytest.mark.parametrize("details", [None, [], "x", 3])
def test_details_that_are_none_are_no_nonsense(details: object) -> None:
    reading = usage.of_openai_chat(
        {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": details}
    )

    assert reading is not None
    assert not reading.was_clamped
    assert classes(reading) == {"input": 3, "output": 2, "request": 1}


NAMES = [
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
    "completion_tokens_details", "cached_tokens", "cache_write_tokens", "cache_creation_tokens",
    "cache_creation_token_details", "ephemeral_1h_input_tokens", "audio_tokens", "reasoning_tokens",
]  # fmt: skip
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 30), st.integers(), st.floats(), st.text(max_size=3)
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=6),
    ),
    max_leaves=15,
)
details = st.dictionaries(st.sampled_from(NAMES), anything, max_size=6)
plausible = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 40), "completion_tokens": st.integers(0, 40)},
    optional={"prompt_tokens_details": details, "completion_tokens_details": details},
)


@given(reported=anything | plausible)
def test_any_report_gives_classes_that_add_up_or_none(reported: object) -> None:
    reading = usage.of_openai_chat(reported)

    if reading is None:
        return
    assert isinstance(reported, dict)
    assert all(n > 0 for n in reading.usage.values())
    assert {type(n) for n in reading.usage.values()} == {int}
    assert total_of(reading.usage, INPUT_COMPONENTS) == reported["prompt_tokens"]
    assert total_of(reading.usage, OUTPUT_COMPONENTS) == reported["completion_tokens"]
    assert reading.usage[Component.REQUEST] == 1


@given(reported=plausible)
def test_plausible_report_is_always_read(reported: object) -> None:
    assert usage.of_openai_chat(reported) is not None


@pytest.mark.parametrize(("counted", "told"), [(0, 0), (7, 7), (10**9 + 1, 10**9)])
def test_estimate_takes_what_was_counted_within_bounds(counted: int, told: int) -> None:
    estimated = usage.estimated(input_tokens=counted, output_tokens=counted)

    assert estimated == {Component.INPUT: told, Component.OUTPUT: told, Component.REQUEST: 1}
