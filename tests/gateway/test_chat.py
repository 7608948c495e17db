from typing import Any

import orjson
import pytest

from gateway.errors import GatewayError, InvalidRequest, UnsupportedParameter
from gateway.routes import chat
from gateway.routes.asked import Asked

pytestmark = pytest.mark.no_servers

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parse(headers: dict[str, str] | None = None, **fields: Any) -> Asked:
    return chat.parse(orjson.dumps(HELLO | fields), headers=headers or {})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff", b"{}"])
def test_a_body_that_is_no_chat_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        chat.parse(body, headers={})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", None), ("model", ""), ("model", 7), ("model", "m" * 256),
        ("messages", []), ("messages", "hi"), ("messages", None),
        ("stream", "yes"), ("stream", 1), ("stream_options", []),
        ("n", 0), ("n", 129), ("n", True), ("n", 1.5), ("n", "2"),
        ("max_tokens", -1), ("max_tokens", 1.5), ("max_tokens", "10"), ("max_tokens", True),
        ("max_completion_tokens", 10**9 + 1),
        ("user", 7), ("user", "u" * 257), ("user", "a\x00b"),
        ("metadata", "x"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_named(field: str, value: object) -> None:
    fields: dict[str, Any] = {field: value}

    with pytest.raises(GatewayError) as refusal:
        parse(**fields)

    assert refusal.value.param == field
    assert refusal.value.http_status == 400


@pytest.mark.parametrize("tools", ["search", 7, {"type": "function"}])
@pytest.mark.parametrize("beside", [{}, {"plugins": []}, {"web_search_options": {}}])
def test_tools_that_are_no_list_are_refused_whatever_else_is_asked(
    tools: object, beside: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(tools=tools, **beside)

    assert refusal.value.param == "tools"


@pytest.mark.parametrize("tool", [None, "search", 7, []])
def test_a_tool_that_is_no_object_may_search_for_all_we_know(tool: object) -> None:
    asked = parse(tools=[tool], cached_content="c")

    assert asked.may_search
    assert not asked.bytes_bound_input


def test_what_is_nested_too_deeply_to_be_sent_on_is_refused() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    body = orjson.dumps(HELLO | {"x": deep})

    chat.send(chat.parse(body, headers={}), "m")
    with pytest.raises(InvalidRequest, match="too deeply"):
        chat.send(chat.parse(body.replace(b"[]", b"[" * 200 + b"]" * 200), headers={}), "m")


@pytest.mark.parametrize("tier", ["x" * 25, 7, ["auto"], {}])
def test_what_is_no_service_tier_is_refused(tier: object) -> None:
    with pytest.raises(GatewayError) as refusal:
        parse(service_tier=tier)

    assert refusal.value.param == "service_tier"


@pytest.mark.parametrize("name", ["models", "route", "fallbacks", "deferred"])
def test_what_would_have_another_model_answer_is_refused(name: str) -> None:
    fields: dict[str, Any] = {name: ["another"]}

    with pytest.raises(UnsupportedParameter) as refusal:
        parse(**fields)

    assert refusal.value.param == name


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": []}]},
        {"plugins": [{"id": "web"}]},
        {"search_parameters": {"mode": "on"}},
        {"messages": [{"role": "user", "content": [{"type": []}]}]},
    ],
)
def test_bytes_bound_nothing_where_the_provider_reads_more(fields: dict[str, Any]) -> None:
    assert not parse(**fields).bytes_bound_input


def test_tools_of_the_client_are_bound_by_their_bytes() -> None:
    assert parse(tools=[{"type": "function", "function": {"name": "f"}}]).bytes_bound_input


def test_the_larger_of_both_output_limits_counts() -> None:
    assert parse(max_tokens=5, max_completion_tokens=9).output_tokens_asked == 9
    assert parse().output_tokens_asked is None


def test_usage_is_asked_for_on_streams_and_other_options_stay() -> None:
    asked = parse(stream=True, stream_options={"include_usage": False, "x": 1})

    sent = orjson.loads(chat.send(asked, "up").data)

    assert sent["stream_options"] == {"include_usage": True, "x": 1}
    assert sent["model"] == "up"
    assert asked.hides_usage


def test_unknown_fields_pass_through_and_doubled_names_become_one() -> None:
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],'
        b'"max_tokens":1,"max_tokens":2,"zz":[1]}'
    )

    asked = chat.parse(body, headers={})

    assert asked.output_tokens_asked == 2
    assert orjson.loads(chat.send(asked, "m").data)["zz"] == [1]
    assert chat.send(asked, "m").data.count(b"max_tokens") == 1


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
        {"role": "user", "content": ["text"]},
        {"role": "assistant", "audio": {"id": "a"}},
    ],
)
def test_bytes_bound_nothing_where_a_message_is_not_text(message: object) -> None:
    assert not parse(messages=[message]).bytes_bound_input


def test_bytes_bound_text_in_either_form() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]

    assert parse().bytes_bound_input
    assert parse(messages=parts).bytes_bound_input
    assert not parse(web_search_options={}).bytes_bound_input


def test_end_user_and_tags_are_taken_from_body_and_header_and_tags_are_not_sent_on() -> None:
    asked = parse(
        headers={"x-litellm-tags": "b, c"}, user="ann", metadata={"tags": ["a", "b"], "k": "v"}
    )

    assert asked.end_user == "ann"
    assert asked.tags == ("a", "b", "c")
    assert orjson.loads(chat.send(asked, "m").data)["metadata"] == {"k": "v"}


@pytest.mark.parametrize(
    "tags", ["a", ["a", 7], [""], ["x" * 257], [str(n) for n in range(17)], [{}], [[]]]
)
def test_tags_that_do_not_fit_are_refused(tags: object) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(metadata={"tags": tags})

    assert refusal.value.param == "metadata.tags"
