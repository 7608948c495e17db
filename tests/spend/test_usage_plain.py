"""The quick way to read a chat completion's usage says what the careful one says, or nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spend.components import Component
from spend.usage import openai_chat, plain_chat
from spend.usage.counts import NOTHING, Counts

pytestmark = pytest.mark.no_servers

counts = st.one_of(
    st.integers(0, 60), st.integers(-2, 2 * 10**9), st.none(), st.booleans(), st.just("3"),
    st.floats(allow_nan=True), st.just({}),
)  # fmt: skip
details = st.one_of(
    st.none(), st.just([]),
    st.dictionaries(
        st.sampled_from(
            ["cached_tokens", "audio_tokens", "reasoning_tokens", "text_tokens", "image_tokens",
             "accepted_prediction_tokens", "cached_tokens_details"]
        ),
        counts, max_size=4,
    ),
)  # fmt: skip
usages = st.fixed_dictionaries(
    {"prompt_tokens": counts, "completion_tokens": counts},
    optional={
        "total_tokens": counts, "prompt_tokens_details": details,
        "completion_tokens_details": details, "cost": counts, "citation_tokens": counts,
    },
)  # fmt: skip


def carefully(reported: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(plain_chat, "classes", lambda _: None)
        told = Counts()
        return openai_chat.classes(told, reported, request=NOTHING), told.clamped


@given(usages)
def test_what_is_read_quickly_is_what_is_read_carefully(reported: dict[str, Any]) -> None:
    quick = plain_chat.classes(reported)

    if quick is not None:
        with pytest.MonkeyPatch.context() as patch:
            careful, was_clamped = carefully(reported, patch)
        assert not was_clamped
        assert _told(quick) == _told(careful)


def test_what_nearly_all_report_is_read_quickly() -> None:
    reported = {
        "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
    }  # fmt: skip

    assert _told(plain_chat.classes(reported)) == {
        Component.INPUT: 5, Component.CACHED_READ: 4, Component.INPUT_AUDIO: 1,
        Component.OUTPUT: 5, Component.REASONING: 2,
    }  # fmt: skip


def _told(classes: Any) -> dict[Component, int]:
    return {component: n for component, n in classes.items() if n}
