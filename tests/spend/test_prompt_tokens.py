import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spend.counting import prompt_tokens, tokens
from spend.counting.prompt_tokens import IMAGE_TOKENS, LOW_IMAGE_TOKENS
from spend.counting.tokens import Count

pytestmark = pytest.mark.no_servers

TOOL = {"function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
names = st.sampled_from([
    "role", "content", "name", "tool_calls", "function_call", "type", "text", "image_url", "file",
    "input_audio", "function", "arguments", "parameters", "properties", "required", "items", "enum",
    "description", "data", "format", "detail",
])  # fmt: skip
shapes = st.recursive(
    json_values | st.sampled_from(["text", "object", "array", "image_url", "file", "low", "wav"]),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
    max_leaves=24,
)


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    count(messages=[{"content": "a"}])


def count(**request: Any) -> Count:
    return prompt_tokens.count_request(request=request, model="gpt-4o")


def of_part(part: object) -> Count:
    """Return what one part adds to a message."""
    message = {"role": "user", "content": [part]}
    whole, empty = count(messages=[message]), count(messages=[{**message, "content": []}])
    return Count(whole.tokens - empty.tokens, whole.is_exact, whole.tokenizer)


@given(messages=st.lists(shapes), tools=shapes, tool_choice=shapes, functions=shapes)
def test_a_request_of_any_shape_has_a_count(**request: Any) -> None:
    assert count(**request).tokens >= 3
    assert count(**request) == count(**request)


@pytest.mark.parametrize(
    ("part", "number", "is_exact"),
    [
        ({"type": "text", "text": "Hello, world!"}, 4, True),
        ({"type": "refusal", "refusal": "Hello, world!"}, 4, True),
        ({"type": "image_url", "image_url": {"detail": "low"}}, LOW_IMAGE_TOKENS, True),
        ({"type": "image_url", "image_url": {"url": "data:" + "A" * 10**6}}, IMAGE_TOKENS, False),
        (
            {"type": "input_audio", "input_audio": {"format": "wav", "data": "A" * 64_000}},
            10,
            False,
        ),
        (
            {"type": "input_audio", "input_audio": {"format": "mp3", "data": "A" * 21_000}},
            10,
            False,
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, 1_500, False),
        ({"type": "file", "file": {"file_data": "A" * 100_000}}, 2_500, False),
        ({"type": "news"}, 5, False),
        (None, 1, False),
    ],
)
def test_what_each_kind_of_part_counts(part: object, number: int, is_exact: bool) -> None:
    counted = of_part(part)

    assert (counted.tokens, counted.is_exact) == (number, is_exact)


def test_the_form_of_an_answer_counts_as_its_json() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "answer"}}
    plain = count(messages=[])

    shaped = count(messages=[], response_format=form)

    text = '{"type":"json_schema","json_schema":{"name":"answer"}}'
    assert shaped.tokens - plain.tokens == tokens.count_text(text=text, model="gpt-4o").tokens
    assert plain.is_exact
    assert not shaped.is_exact


def test_functions_of_the_older_kind_count_as_tools() -> None:
    assert count(messages=[], functions=[TOOL["function"]]) == count(messages=[], tools=[TOOL])


def test_a_tool_of_an_unknown_kind_makes_an_estimate() -> None:
    assert count(messages=[], tools=[TOOL]).is_exact
    assert not count(messages=[], tools=[TOOL, {"type": "web_search"}]).is_exact


def test_a_schema_is_read_to_a_bounded_depth() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5_000):
        schema = {"type": "object", "properties": {"a": schema}}
    tool = {"function": {"name": "f", "parameters": schema}}

    assert 0 < count(messages=[], tools=[tool]).tokens < 1_000


def test_another_models_prompt_is_an_estimate() -> None:
    messages = [{"role": "user", "content": "Hello, world!"}]

    counted = prompt_tokens.count_messages(messages=messages, model="gemini-2.5-pro")

    assert counted == Count(11, False, tokens.OTHER)


def test_texts_beyond_the_bounds_count_by_their_bytes() -> None:
    message = {"content": "a" * 2**19}

    together = count(messages=[message] * 3)

    alone = count(messages=[message]).tokens - prompt_tokens.TOKENS_OF_REPLY_START
    by_bytes = prompt_tokens.TOKENS_PER_MESSAGE + 2**19 // 4
    assert together.tokens == 3 + 2 * alone + by_bytes
    assert not together.is_exact


def test_a_great_many_messages_take_bounded_time() -> None:
    messages = [{"role": "user", "content": "a"}] * 300_000

    began = time.perf_counter()
    counted = count(messages=messages)

    assert time.perf_counter() - began < 10
    assert counted.tokens == 3 + 300_000 * 5
