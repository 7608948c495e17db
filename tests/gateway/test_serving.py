"""What callers see, through both doors, with the real SDK and the real processes."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from django.conf import settings

from budgets import storekeeper
from budgets.services.accounts import Terms
from budgets.services.keys import block_key, update_key
from budgets.services.tenancy import update_organization
from gateway.models import Deployment
from gateway.services import create_deployment
from spend.models import SpendEvent
from tests.conftest import Cast
from tests.gateway.support import (
    CHAT,
    HELLO,
    PER_REQUEST,
    Answer,
    chat,
    client,
    get,
    recorded,
)
from tests.stack import Stack, wait_until


def test_a_reply_is_the_upstreams_own_and_its_cost_is_exact(door: str, cast: Cast) -> None:
    key = cast.key("1")
    usage = {
        "prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }  # fmt: skip

    answer = chat(door, key.secret, sandbox={"reply": "Hi!", "usage": usage})

    # 600 × 0.0000005 + 400 × 0.00000005 + 100 × 0.000002
    cost = Decimal("0.00052")
    assert answer.json["choices"][0]["message"]["content"] == "Hi!"
    assert answer.json["usage"] == usage
    assert Decimal(answer.headers["x-costplatform-cost"]) == cost
    assert answer.headers["x-litellm-response-cost"] == answer.headers["x-costplatform-cost"]
    assert answer.headers["x-costplatform-remaining"] == "0.99948"
    row = recorded(answer.headers["x-request-id"])
    assert (row.cost, row.amount_units, row.flags) == (cost, 520_000, [])
    assert row.usage == {
        "input": 600,
        "cached_read": 400,
        "output": 60,
        "reasoning": 40,
        "request": 1,
    }


def test_the_openai_sdk_runs_unchanged(door: str, cast: Cast) -> None:
    sdk = client(door, cast.key("1").secret)

    whole = sdk.chat.completions.create(model=CHAT, messages=HELLO)
    chunks = list(
        sdk.chat.completions.create(
            model=CHAT,
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    models = {model.id for model in sdk.models.list()}

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert whole.choices[0].message.content == text
    assert chunks[-1].usage == whole.usage
    assert {CHAT, PER_REQUEST} <= models


def test_a_refused_request_is_one_call_and_never_reaches_the_upstream(
    door: str, stack: Stack, cast: Cast
) -> None:
    key = cast.key("0.015")
    sdk = client(door, key.secret)
    before = len(stack.served())
    sdk.chat.completions.create(model=PER_REQUEST, messages=HELLO)

    with pytest.raises(openai.RateLimitError) as refusal:
        sdk.chat.completions.create(model=PER_REQUEST, messages=HELLO)

    assert refusal.value.response.headers["x-should-retry"] == "false"
    # The SDK says on each request which try it is: this was the first and only one.
    assert refusal.value.request.headers["x-stainless-retry-count"] == "0"
    body = refusal.value.body
    assert isinstance(body, dict)
    assert (body["type"], body["code"]) == ("insufficient_quota", "budget_exceeded")
    assert body["budget"]["account"]["kind"] == "key"
    assert body["budget"] | {"spent": "0.01", "limit": "0.015", "needed": "0.01"} == body["budget"]
    assert len(stack.served()) == before + 1


@pytest.mark.parametrize(
    ("change", "kind", "status"),
    [
        ({"model": "nobody-has-it"}, openai.NotFoundError, 404),
        ({"messages": []}, openai.BadRequestError, 400),
        ({"n": 0}, openai.BadRequestError, 400),
    ],
)
def test_errors_are_of_the_sdks_own_classes(
    door: str, cast: Cast, change: dict[str, object], kind: type[openai.APIStatusError], status: int
) -> None:
    sdk = client(door, cast.key("1").secret)
    asked: dict[str, Any] = {"model": CHAT, "messages": HELLO} | change

    with pytest.raises(kind) as error:
        sdk.chat.completions.create(**asked)

    assert error.value.status_code == status


@pytest.mark.parametrize(
    "secret", ["", "nonsense", "sk-cp-short", "sk-cp-" + "a" * 49, "sk-" + "x" * 30]
)
def test_a_key_that_is_none_is_refused(door: str, secret: str) -> None:
    answer = chat(door, secret)

    assert answer.status == 401
    assert answer.error["type"] == "authentication_error"


def test_blocking_a_key_or_its_organization_counts_from_the_next_request(
    door: str, cast: Cast
) -> None:
    key = cast.key("1")
    assert chat(door, key.secret).status == 200

    block_key(key=key.key, blocked=True)
    blocked = chat(door, key.secret)
    block_key(key=key.key, blocked=False)
    again = chat(door, key.secret)
    update_organization(organization=cast.organization, values={"blocked": True})

    assert (blocked.status, blocked.error["code"]) == (403, "key_blocked")
    assert again.status == 200
    assert chat(door, key.secret).status == 403


def test_a_key_calls_only_the_models_that_it_lists(door: str, cast: Cast) -> None:
    key = cast.key("1", allowed_models=[CHAT])

    assert chat(door, key.secret).status == 200
    refused = chat(door, key.secret, model=PER_REQUEST)

    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert [m["id"] for m in get(door, key.secret, "/v1/models").json["data"]] == [CHAT]


def test_streams_hide_the_usage_that_the_client_did_not_ask_for_and_are_billed_by_it(
    door: str, cast: Cast
) -> None:
    key = cast.key("1")

    plain = chat(door, key.secret, stream=True)
    asked = chat(door, key.secret, stream=True, stream_options={"include_usage": True})

    assert b'"usage":{' not in plain.body.replace(b" ", b"")
    assert b'"usage":{' in asked.body.replace(b" ", b"")
    assert plain.body.endswith(b"data: [DONE]\n\n")
    assert "x-costplatform-cost" not in plain.headers
    rows = [recorded(answer.headers["x-request-id"]) for answer in (plain, asked)]
    assert rows[0].cost == rows[1].cost > 0
    assert [row.flags for row in rows] == [[], []]


def test_an_answer_without_usage_is_counted_and_flagged(door: str, cast: Cast) -> None:
    key = cast.key("1")
    script = {"usage": None, "reply": "The quick brown fox jumps over the lazy dog."}

    for stream in (False, True):
        answer = chat(door, key.secret, stream=stream, sandbox=script)
        row = recorded(answer.headers["x-request-id"])
        assert row.flags == ["estimated"]
        assert row.usage["output"] == 10


def test_an_upstreams_error_is_passed_on_and_costs_nothing(door: str, cast: Cast) -> None:
    key = cast.key("1")

    answer = chat(door, key.secret, sandbox={"status": 503, "retry_after": 7})

    assert answer.status == 503
    assert answer.headers["retry-after"] == "7"
    assert "error" in answer.json
    row = recorded(answer.headers["x-request-id"])
    assert (row.cost, row.status, row.flags) == (Decimal(0), 503, ["upstream_error"])


@pytest.mark.parametrize(
    ("fault", "stream", "status"),
    [
        ("reset_before_headers", False, 502), ("truncate", False, 502),
        ("reset_before_headers", True, 502),
    ],
)  # fmt: skip
def test_an_upstream_that_breaks_off_is_a_502_and_metered_as_an_estimate(
    door: str, cast: Cast, fault: str, stream: bool, status: int
) -> None:
    answer = chat(door, cast.key("1").secret, stream=stream, sandbox={"fault": fault})

    assert (answer.status, answer.error["code"]) == (status, "upstream_failed")
    assert recorded(answer.headers["x-request-id"]).flags == ["estimated", "upstream_error"]


@pytest.mark.parametrize("fault", ["reset_mid_stream", "truncate", "garbage_sse"])
def test_a_stream_that_breaks_off_tells_the_client_and_is_metered(
    door: str, cast: Cast, fault: str
) -> None:
    answer = chat(door, cast.key("1").secret, stream=True, sandbox={"fault": fault, "chunks": 10})

    row = recorded(answer.headers["x-request-id"])
    assert "estimated" in row.flags
    if fault == "reset_mid_stream":
        assert b'"code":"upstream_failed"' in answer.body
        assert "upstream_error" in row.flags


def test_a_client_that_goes_away_is_billed_by_the_drained_usage(
    door: str, cast: Cast, stack: Stack
) -> None:
    key = cast.key("1")
    script = {"chunks": 20, "chunk_delay_ms": 20, "marker": f"gone-{key.key.pk}-{door[-5:]}"}

    _start_and_leave(door, key.secret, stream=True, sandbox=script)

    request_id = _request_of(stack, script["marker"])
    row = recorded(request_id)
    assert row.flags == ["client_closed"]
    assert row.usage["output"] > 1


def test_a_client_that_goes_away_from_an_endless_answer_is_billed_by_what_was_seen(
    door: str, cast: Cast, stack: Stack
) -> None:
    key = cast.key("1")
    script = {"chunks": 100, "chunk_delay_ms": 200, "marker": f"endless-{key.key.pk}-{door[-5:]}"}

    _start_and_leave(door, key.secret, stream=True, sandbox=script)

    request_id = _request_of(stack, script["marker"])
    assert recorded(request_id).flags == ["client_closed", "estimated"]


def test_a_client_that_leaves_while_its_reserve_is_under_way_is_charged_nothing(
    door: str, cast: Cast, stack: Stack
) -> None:
    key = cast.key("1")
    recorded(chat(door, key.secret).headers["x-request-id"])

    storekeeper.store().client_pause(500)
    _start_and_leave(door, key.secret, seconds=0.2)

    wait_until(lambda: not storekeeper.open_reservations(), seconds=10)
    stack.settle_down()
    rows = SpendEvent.objects.filter(key_digest=key.key.digest, amount_units__gt=0)
    assert rows.count() == 1


def test_a_hanging_upstream_is_given_up_when_the_client_leaves(
    door: str, cast: Cast, stack: Stack
) -> None:
    key = cast.key("1")
    marker = f"hang-{key.key.pk}-{door[-5:]}"

    _start_and_leave(door, key.secret, sandbox={"fault": "hang", "marker": marker})

    row = recorded(_request_of(stack, marker))
    assert {"client_closed", "estimated"} <= set(row.flags)


def test_concurrent_answers_never_reach_another_caller(door: str, cast: Cast) -> None:
    key = cast.key()

    def ask(n: int) -> bool:
        said = f"marker-{n}-{n * 7919}"
        answer = chat(
            door, key.secret, messages=[{"role": "user", "content": said}], stream=n % 2 == 0
        )
        return said.encode() in answer.body.replace(b'"},"', b"") or _said(answer, said)

    with ThreadPoolExecutor(32) as threads:
        assert all(threads.map(ask, range(150)))


def test_an_unpriced_model_is_refused(door: str, cast: Cast) -> None:
    name = f"unpriced-{cast.organization.pk}"
    _deploy(name, upstream_model="nobody-prices-it")

    answer = chat(door, cast.key("1").secret, model=name)

    assert (answer.status, answer.error["code"]) == (400, "unpriced_model")


def test_a_deployments_own_price_wins_and_an_explicit_zero_is_a_price(
    door: str, cast: Cast
) -> None:
    name = f"free-{cast.organization.pk}"
    _deploy(name, price_override={"input_cost_per_token": "0", "output_cost_per_token": "0"})

    answer = chat(door, cast.key("0").secret, model=name)

    assert answer.status == 200
    assert answer.headers["x-costplatform-cost"] == "0"


def test_another_organizations_deployment_is_not_there(door: str, cast: Cast) -> None:
    name = f"theirs-{cast.organization.pk}"
    _deploy(name, organization=cast.outsider)

    assert chat(door, cast.key("1").secret, model=name).error["code"] == "model_not_found"


def test_a_request_that_nothing_bounds_is_refused(door: str, cast: Cast) -> None:
    name = f"unbounded-{cast.organization.pk}"
    _deploy(
        name, provider="nobody-knows",
        price_override={"input_cost_per_token": "0.001", "output_cost_per_token": "0.001"},
    )  # fmt: skip

    answer = chat(door, cast.key("1").secret, model=name)

    assert (answer.status, answer.error["code"]) == (400, "unbounded_cost")
    assert answer.error["param"] == "max_completion_tokens"
    assert chat(door, cast.key("1").secret, model=name, max_tokens=5).status == 200


def test_a_private_upstream_is_not_connected_to_and_costs_nothing(door: str, cast: Cast) -> None:
    name = f"private-{cast.organization.pk}"
    _deploy(name, api_base="http://127.0.0.1:9/v1")
    key = cast.key("1")

    answer = chat(door, key.secret, model=name)

    assert (answer.status, answer.error["code"]) == (502, "upstream_failed")
    assert chat(door, key.secret).headers["x-litellm-key-max-budget"] == "1"


def test_what_a_request_cost_can_be_asked_for_by_its_own_key_only(door: str, cast: Cast) -> None:
    key, other = cast.key("1"), cast.key("1")
    request_id = chat(door, key.secret).headers["x-request-id"]
    recorded(request_id)

    own = get(door, key.secret, f"/v1/requests/{request_id}")

    assert own.json["state"] == "recorded"
    kinds = [account["kind"] for account in own.json["accounts"]]
    assert kinds == ["key", "organization", "model", "provider", "deployment"]
    assert get(door, other.secret, f"/v1/requests/{request_id}").status == 404


def test_a_body_that_is_too_large_is_refused_before_anything_else(door: str, cast: Cast) -> None:
    parts = urlsplit(door)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Length: {settings.GATEWAY_BODY_BYTES_MAX + 1}\r\n\r\n"
    )

    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.settimeout(10)
        connection.sendall(head.encode() + b"x" * 1_000)
        answer = b""
        while b"}}" not in answer and (part := connection.recv(4_096)):
            answer += part

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"payload_too_large"' in answer


def test_a_new_limit_counts_from_the_next_request(door: str, cast: Cast) -> None:
    key = cast.key("1")
    for _ in range(3):
        assert chat(door, key.secret, model=PER_REQUEST).status == 200

    update_key(
        key=key.key, values={}, terms=Terms(max_budget=Decimal("0.04"), duration="1mo"),
        now=datetime.now(UTC),
    )  # fmt: skip

    assert chat(door, key.secret, model=PER_REQUEST).status == 200
    assert chat(door, key.secret, model=PER_REQUEST).status == 429


def _deploy(name: str, **values: object) -> Deployment:
    sandbox = Deployment.objects.get(public_id=CHAT)
    defaults = {
        "public_id": name, "model_name": name, "provider": "sandbox", "upstream_model": CHAT,
        "api_base": sandbox.api_base,
    }  # fmt: skip
    return create_deployment(values=defaults | values, api_key="sk-sandbox")


def _start_and_leave(url: str, secret: str, *, seconds: float = 0.7, **fields: object) -> None:
    """Send a request over a plain socket, wait for the first bytes (or a moment), and hang up."""
    parts = urlsplit(url)
    body = json.dumps({"model": CHAT, "messages": HELLO} | fields).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {secret}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(head.encode() + body)
        connection.settimeout(seconds)
        try:
            connection.recv(1_000)
        except TimeoutError:
            time.sleep(0.1)


def _request_of(stack: Stack, marker: object) -> str:
    def lines() -> list[str]:
        return [line["request_id"] for line in stack.served() if line["marker"] == marker]

    wait_until(lambda: bool(lines()), seconds=10)
    return lines()[0]


def _said(answer: Answer, said: str) -> bool:
    """Return whether the text of a stream's chunks, put together, has it."""
    chunks = [
        json.loads(line[6:]) for line in answer.body.splitlines() if line.startswith(b"data: {")
    ]
    return said in "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
