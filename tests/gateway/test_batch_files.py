"""What is no batch: each file and request is refused with the reason, and nothing goes upstream."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.batches import lines
from gateway.models import GatewayBatch, GatewayFile
from tests.conftest import Cast
from tests.gateway import batch_support
from tests.gateway.batch_support import BatchProvider, create, jsonl, line, upload
from tests.gateway.support import post, recorded
from tests.gateway.upstreams import RATE, Upstream, deployed
from tests.stack import Stack

M = "the model"
CHAT = "/v1/chat/completions"


@pytest.fixture
def provider(upstream: Upstream) -> Iterator[BatchProvider]:
    with batch_support.serving(upstream) as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """What the many cases of a table share, made by the first of them."""
    return {}


def changed(**fields: Any) -> dict[str, Any]:
    return line(M) | fields


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in line(M).items() if key != name}


def body(**fields: Any) -> dict[str, Any]:
    good = line(M)
    return good | {"body": good["body"] | fields}


def other(**fields: Any) -> list[object]:
    """Return a good line, and after it one that differs."""
    return [line(M, "1"), body(**fields) | {"custom_id": "2"}]


WRONG: list[tuple[list[object], str, str | None]] = [
    ([], "The file has no line.", "file"),
    ([b"\n \n"], "The file has no line.", "file"),
    ([b"{"], "Line 1: It is not valid JSON.", "file"),
    ([b"\xff\xfe\n"], "Line 1: It is not valid JSON.", "file"),
    ([b"NaN\n"], "Line 1: It is not valid JSON.", "file"),
    ([b"[]\n"], "Line 1: It must be a JSON object", "file"),
    ([b"null\n"], "Line 1: It must be a JSON object", "file"),
    ([b'"text"\n'], "Line 1: It must be a JSON object", "file"),
    ([line(M, "1"), b"{]\n"], "Line 2: It is not valid JSON.", "file"),
    ([b"\n\n", b"{]\n"], "Line 3: It is not valid JSON.", "file"),
    ([without("custom_id")], "Line 1: It must be a JSON object", "file"),
    ([without("method")], "Line 1: It must be a JSON object", "file"),
    ([without("url")], "Line 1: It must be a JSON object", "file"),
    ([without("body")], "Line 1: It must be a JSON object", "file"),
    ([changed(more=1)], "Line 1: It must be a JSON object", "file"),
    ([changed(custom_id="")], "custom_id must be text", "custom_id"),
    ([changed(custom_id=7)], "custom_id must be text", "custom_id"),
    ([changed(custom_id=None)], "custom_id must be text", "custom_id"),
    ([changed(custom_id="x" * 513)], "custom_id must be text", "custom_id"),
    ([line(M, "1"), line(M, "1")], "Line 2: Another line has the same", "custom_id"),
    ([changed(method="GET")], "method must be POST.", "method"),
    ([changed(method="post")], "method must be POST.", "method"),
    ([changed(method=None)], "method must be POST.", "method"),
    ([changed(url="/chat/completions")], "url must be one of", "url"),
    ([changed(url="/v1/images/generations")], "url must be one of", "url"),
    ([changed(url="/v1/batches")], "url must be one of", "url"),
    ([changed(url="https://elsewhere.example/v1/chat/completions")], "url must be one of", "url"),
    ([changed(url=["/v1/chat/completions"])], "url must be one of", "url"),
    ([line(M, "1"), line(M, "2", url="/v1/responses", input="x")], "the same url", "url"),
    ([changed(body=None)], "body must be a JSON object.", "body"),
    ([changed(body=[])], "body must be a JSON object.", "body"),
    ([changed(body="text")], "body must be a JSON object.", "body"),
    ([body(messages=[])], "messages must be a list", "messages"),
    ([body(messages="hello")], "messages must be a list", "messages"),
    ([body(n=0)], "n must be a whole number", "n"),
    ([body(n=129)], "n must be a whole number", "n"),
    ([body(max_tokens=-1)], "max_tokens must be a whole number", "max_tokens"),
    ([body(max_tokens=10**12)], "max_tokens must be a whole number", "max_tokens"),
    ([body(max_tokens="5")], "max_tokens has the wrong type.", "max_tokens"),
    ([body(model=None)], "model must be the name", "model"),
    ([body(model="")], "model must be the name", "model"),
    ([body(model=["a"])], "model must be the name", "model"),
    (other(model="another"), "Line 2: All lines must name the same model.", "model"),
    ([body(models=["a", "b"])], "models is not supported here.", "models"),
    ([body(fallbacks=["a"])], "fallbacks is not supported here.", "fallbacks"),
    ([body(stream=True)], "A batch cannot stream.", "stream"),
    ([body(stream="yes")], "stream has the wrong type.", "stream"),
    ([body(service_tier="priority")], "A batch has a service tier of its own.", "service_tier"),
    ([body(service_tier="flex")], "A batch has a service tier of its own.", "service_tier"),
    ([body(user=7)], "user must be text", "user"),
    (other(user="ann"), "Line 2: All lines must be for the same end user.", "user"),
    ([body(metadata={"tags": "t"})], "metadata.tags must be a list", "metadata.tags"),
    (other(metadata={"tags": ["t"]}), "Line 2: All lines must have the same tags.", None),
    ([changed(url="/v1/embeddings", body={"model": M})], "input must be text", "input"),
]


@pytest.mark.parametrize("case", WRONG, ids=[problem for _, problem, _ in WRONG])
def test_a_file_that_is_no_batch_is_refused_with_its_line_and_goes_nowhere(
    case: tuple[list[object], str, str | None],
    shared: dict[str, Any],
    stack: Stack,
    cast: Cast,
    upstream: Upstream,
    provider: BatchProvider,
) -> None:
    given, problem, param = case
    model = shared.setdefault("model", deployed(upstream, cast).model_name)
    secret = shared.setdefault("secret", cast.key("1").secret)
    before = GatewayFile.objects.count()
    data = b"".join(each if isinstance(each, bytes) else jsonl(each) for each in given)

    answer = upload(stack.lane, secret, data.replace(M.encode(), model.encode()))

    assert answer.status == 400
    assert problem in answer.error["message"]
    assert param in {None, answer.error["param"]}
    assert answer.headers["x-should-retry"] == "false"
    assert upstream.seen == []
    assert GatewayFile.objects.count() == before


@pytest.mark.parametrize(
    ("purpose", "more", "param"),
    [
        ("assistants", {}, "purpose"), ("fine-tune", {}, "purpose"), ("", {}, "purpose"),
        ("batch", {"expires_after[seconds]": "3600"}, "expires_after[seconds]"),
    ],
)  # fmt: skip
def test_files_for_anything_else_are_refused(
    purpose: str, more: dict[str, str], param: str, stack: Stack, cast: Cast, upstream: Upstream
) -> None:
    upstream.seen.clear()

    answer = upload(stack.lane, cast.key("1").secret, jsonl(line("m")), purpose=purpose, **more)

    assert (answer.status, answer.error["code"]) == (400, "unsupported_parameter")
    assert answer.error["param"] == param
    assert upstream.seen == []


def test_what_is_no_form_with_one_file_is_refused(stack: Stack, cast: Cast) -> None:
    secret = cast.key("1").secret

    answers = [
        post(stack.lane, secret, {"purpose": "batch"}, path="/v1/files"),
        post(stack.lane, secret, b"", path="/v1/files", content_type="multipart/form-data"),
    ]

    assert [answer.status for answer in answers] == [400, 400]


def test_a_file_may_have_so_many_lines_and_no_more(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    model, secret = deployed(upstream, cast).model_name, cast.key("1000").secret
    most = [
        {
            "custom_id": str(n), "method": "POST", "url": "/v1/embeddings",
            "body": {"model": model, "input": "x"},
        }
        for n in range(lines.LINES_MAX + 1)
    ]  # fmt: skip

    fits = upload(stack.lane, secret, jsonl(*most[1:]))
    too_many = upload(stack.lane, secret, jsonl(*most))

    assert fits.status == 200
    assert GatewayFile.objects.get(public_id=fits.json["id"]).lines == lines.LINES_MAX
    assert (too_many.status, too_many.error["param"]) == (400, "file")
    assert f"Line {lines.LINES_MAX + 1}: " in too_many.error["message"]


def test_a_model_that_the_key_may_not_call_or_that_is_not_there_is_refused(
    door: str, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    model = deployed(upstream, cast).model_name

    forbidden = upload(door, cast.key(allowed_models=["other"]).secret, jsonl(line(model)))
    unknown = upload(door, cast.key().secret, jsonl(line("nobody-has-it")))

    assert (forbidden.status, forbidden.error["code"]) == (403, "model_not_allowed")
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
    assert provider.files == {}


def test_a_provider_that_serves_no_batches_gets_none(
    door: str, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    model = deployed(upstream, cast, provider="mistral").model_name

    answer = upload(door, cast.key("1").secret, jsonl(line(model)))

    assert (answer.status, answer.error["code"]) == (400, "route_not_served")
    assert provider.files == {}


@pytest.mark.parametrize(
    "case",
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"endpoint": 7}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"completion_window": None}, "completion_window"),
        ({"completion_window": ["24h"]}, "completion_window"),
        ({"input_file_id": None}, "input_file_id"),
        ({"input_file_id": ""}, "input_file_id"),
        ({"input_file_id": {"id": 1}}, "input_file_id"),
        ({"input_file_id": "x" * 65}, "input_file_id"),
        ({"input_file_id": "a\x00b"}, "input_file_id"),
        ({"metadata": "text"}, "metadata"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {"x" * 65: ""}}, "metadata"),
        ({"metadata": {"tags": [7]}}, "metadata.tags"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}},
         "output_expires_after"),
        ({"background": True}, "background"),
        ({"user": "somebody else"}, "user"),
    ],
    ids=str,
)  # fmt: skip
def test_a_batch_that_is_asked_for_wrongly_is_refused_and_holds_nothing(
    case: tuple[dict[str, Any], str],
    shared: dict[str, Any],
    stack: Stack,
    cast: Cast,
    upstream: Upstream,
    provider: BatchProvider,
) -> None:
    fields, param = case
    if "file" not in shared:
        shared["batches"] = cast.key("1").secret
        name = deployed(upstream, cast).model_name
        shared["file"] = upload(stack.lane, shared["batches"], jsonl(line(name, user="ann")))
    upstream.seen.clear()
    before = GatewayBatch.objects.count()

    answer = create(stack.lane, shared["batches"], shared["file"].json["id"], **fields)

    assert (answer.status, answer.error["param"]) == (400, param)
    assert upstream.seen == []
    assert GatewayBatch.objects.count() == before


def test_who_a_batch_is_for_may_be_told_with_it(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    file = upload(stack.lane, secret, jsonl(line(deployed(upstream, cast).model_name)))
    wanted = {
        "input_file_id": file.json["id"], "endpoint": CHAT, "completion_window": "24h",
        "metadata": {"tags": ["a"], "job": "x"},
    }  # fmt: skip

    answer = post(
        stack.lane, secret, wanted, path="/v1/batches",
        x_costplatform_end_user="ann", x_costplatform_tags="b",
    )  # fmt: skip

    batch = GatewayBatch.objects.get(public_id=answer.json["id"])
    provider.end(batch.upstream_id, [])
    row = recorded(str(batch_support.in_ledger(batch).request_id))
    assert (row.end_user, sorted(row.tags)) == ("ann", ["a", "b"])
    (told,) = provider.batches.values()
    assert told["metadata"] == {"job": "x"}


def test_the_output_of_a_batch_is_no_input_of_one(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    batch = batch_support.begun(stack.lane, secret, deployed(upstream, cast).model_name)
    provider.end(batch.upstream_id, [batch_support.answered()])
    output = batch_support.polled(stack.lane, secret, batch).json["output_file_id"]

    answer = create(stack.lane, secret, output)

    assert (answer.status, answer.error["param"]) == (400, "input_file_id")


def test_an_image_counts_as_a_context_window(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    model, secret = deployed(upstream, cast).model_name, cast.key("1").secret

    file = upload(stack.lane, secret, jsonl(line(model, messages=image, max_tokens=100)))
    answer = create(stack.lane, secret, file.json["id"])

    batch = GatewayBatch.objects.get(public_id=answer.json["id"])
    assert batch.ceiling == (10_000 + 100) * RATE / 2 + RATE
