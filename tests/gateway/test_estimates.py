"""What a request would cost and whether it would pass: as the request itself is told, for free."""

import random
import socket
import uuid
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from budgets import storekeeper
from budgets.changes import change
from budgets.models import Enforcement, RefusalCount
from budgets.scripts import TAG
from budgets.services import accounts
from budgets.services.accounts import Terms
from budgets.services.keys import Issued, Owner, block_key, issue_key
from gateway.models import Deployment
from gateway.services import create_deployment
from spend.models import SpendEvent
from tests.conftest import Cast
from tests.gateway.support import CHAT, HELLO, PER_REQUEST, Answer, chat, post, recorded
from tests.scopes import SCOPES, Passing, limited, strict
from tests.spend.support import now
from tests.stack import Stack, wait_until

PATH = "/v1/estimate"
TOLD = ("code", "type", "message", "param", "budget")


def ask(url: str, secret: str, **fields: Any) -> Answer:
    return post(url, secret, {"model": CHAT, "messages": HELLO} | fields, path=PATH)


def estimated(url: str, secret: str, **fields: Any) -> dict[str, Any]:
    answer = ask(url, secret, **fields)
    assert answer.status == 200, answer
    content: dict[str, Any] = answer.json
    return content


def own_model(cast: Cast, *, weight: int = 1, name: str = "", **values: Any) -> str:
    like = Deployment.objects.filter(model_name=CHAT).order_by("pk")[0]
    name = name or f"own-{uuid.uuid4().hex[:12]}"
    defaults = {
        "organization": cast.organization, "model_name": name, "provider": like.provider,
        "upstream_model": like.upstream_model, "api_base": like.api_base, "weight": weight,
        "input_tokens_max": 1_000_000, "output_tokens_max": 100,
    }  # fmt: skip
    create_deployment(values=defaults | values, api_key="sk-sandbox")
    return name


# --- What it would cost ------------------------------------------------------------------


def test_the_most_is_what_a_strict_budget_holds_for_the_same_request(door: str, cast: Cast) -> None:
    key = cast.key("1")
    fields: dict[str, Any] = {"max_tokens": 50, "n": 2, "stream": False, "seed": 7}

    told = estimated(door, key.secret, **fields)
    row = recorded(chat(door, key.secret, **fields).headers["x-request-id"])

    assert Decimal(told["max"]) * 10**9 == row.reserved_units
    assert told["output_tokens_max"] == 100
    assert (told["currency"], told["model"], told["object"]) == ("USD", CHAT, "estimate")
    (deployment,) = told["deployments"]
    assert deployment["id"] == row.deployment
    assert deployment["price"]["reference"] == row.price_reference
    assert deployment["price"]["effective_from"] is not None


def test_the_least_is_the_counted_prompt_read_from_the_cache_and_a_token_for_each_choice(
    door: str, cast: Cast
) -> None:
    key = cast.key("1")

    told = estimated(door, key.secret, n=3)

    # 3 for the reply, 3 for the message, one each for "user" and "hello".
    assert told["prompt_tokens"] == 8
    assert Decimal(told["min"]) == 8 * Decimal("0.00000005") + 3 * Decimal("0.000002")
    assert Decimal(told["min"]) < Decimal(told["max"])


def test_the_count_says_whether_it_is_exact(stack: Stack, cast: Cast) -> None:
    key, prices = cast.key("1"), {"input_cost_per_token": "1e-6", "output_cost_per_token": "1e-6"}
    known = own_model(cast, upstream_model="gpt-4o", price_override=prices)

    exact = estimated(stack.lane, key.secret, model=known)
    guessed = estimated(stack.lane, key.secret)

    assert (exact["prompt_tokens"], exact["prompt_tokens_exact"]) == (8, True)
    assert exact["deployments"][0]["tokenizer"] == "o200k_base"
    assert exact["deployments"][0]["price"]["effective_from"] is None
    assert guessed["prompt_tokens_exact"] is False


def test_what_such_requests_have_cost_is_told_once_it_is_known(door: str, cast: Cast) -> None:
    key = cast.key("1")
    before = estimated(door, key.secret)

    answer = chat(door, key.secret)
    told = estimated(door, key.secret)
    small = estimated(door, key.secret, max_tokens=1)

    assert (before["expected"], before["expected_from"]) == (None, 0)
    assert told["expected"] == answer.headers["x-costplatform-cost"]
    assert told["expected_from"] == 1
    assert Decimal(small["expected"]) <= Decimal(small["max"])


def test_each_deployment_that_may_be_drawn_is_told_and_the_range_covers_all(
    door: str, cast: Cast
) -> None:
    key = cast.key("1")
    cheap = {"input_cost_per_token": "0", "output_cost_per_token": "0.000001"}
    dear = {"input_cost_per_token": "0", "output_cost_per_token": "0.0001"}
    name = own_model(cast, price_override=cheap)
    own_model(cast, name=name, weight=5, price_override=dear, output_tokens_max=200)

    told = estimated(door, key.secret, model=name)

    assert [each["max"] for each in told["deployments"]] == ["0.02", "0.0001"]
    assert [each["weight"] for each in told["deployments"]] == [5, 1]
    assert (told["min"], told["max"]) == ("0.000001", "0.02")
    assert told["output_tokens_max"] == 200


def test_an_estimate_that_one_of_its_deployments_would_refuse_says_no(
    stack: Stack, cast: Cast
) -> None:
    key = cast.key("0.01")
    cheap = {"input_cost_per_token": "0", "output_cost_per_token": "0.000001"}
    dear = {"input_cost_per_token": "0", "output_cost_per_token": "0.001"}
    name = own_model(cast, weight=5, price_override=cheap)
    own_model(cast, name=name, price_override=dear)

    told = estimated(stack.lane, key.secret, model=name)

    assert [each["would_be_admitted"] for each in told["deployments"]] == [True, False]
    assert told["would_be_admitted"] is False
    assert told["refusal"] == told["deployments"][1]["refusal"]


def test_a_long_prompt_is_counted_to_its_end(door: str, cast: Cast) -> None:
    key = cast.key()
    long = [{"role": "user", "content": "word " * 40_000}]

    told = estimated(door, key.secret, messages=long)

    assert abs(told["prompt_tokens"] - 40_000) < 100


# --- Whether it would pass ---------------------------------------------------------------


def drawn_terms(draw: random.Random) -> Terms:
    return Terms(
        max_budget=draw.choice([None, Decimal(draw.randint(0, 40)) / 1000]),
        enforcement=draw.choice(list(Enforcement)),
        duration=draw.choice(["", "1d", "1mo"]),
        rpm_limit=draw.choice([None, None, draw.randint(0, 3)]),
        tpm_limit=draw.choice([None, None, draw.randint(0, 3_000)]),
        max_parallel_requests=draw.choice([None, None, draw.randint(0, 1)]),
    )


@pytest.mark.parametrize("seed", range(24))
def test_an_estimate_says_yes_where_the_request_is_answered_and_else_why_not(
    seed: int, door: str, cast: Cast
) -> None:
    draw = random.Random(seed)
    scope = SCOPES[seed % len(SCOPES)]
    model = draw.choice([CHAT, PER_REQUEST])
    passing = limited(scope, cast=cast, terms=drawn_terms(draw), model=model)
    with change(scope=cast.organization.pk):
        accounts.set_private_budget(
            account=cast.organization.account, terms=drawn_terms(draw), now=now()
        )

    for _ in range(4):
        fields = passing.fields | {"max_tokens": draw.choice([1, 500, 4_000])}
        told = estimated(door, passing.secret, **fields)
        answer = chat(door, passing.secret, **fields)

        assert told["would_be_admitted"] is (answer.status == 200), answer
        if answer.status != 200:
            assert told["refusal"]["status"] == answer.status
            assert same(told["refusal"], answer.error)
        settled(passing)


def same(told: dict[str, Any], refused: dict[str, Any]) -> bool:
    """Compare refusals; how long to wait may have become less in between."""
    if told["code"] == "rate_limit_exceeded":
        told, refused = told | {"message": ""}, refused | {"message": ""}
    return {name: told.get(name) for name in TOLD} == {name: refused.get(name) for name in TOLD}


def settled(passing: Passing) -> None:
    """Wait until the request has left: it is answered a moment before it is settled."""
    wait_until(lambda: not in_flight(passing.account_id), seconds=5)


def in_flight(account: uuid.UUID) -> bool:
    return any(account in each.accounts for each in storekeeper.reservations())


def traces(*held_by: uuid.UUID) -> dict[str, Any]:
    """Return what the live store holds of accounts, and how long its stream is."""
    store = storekeeper.store()
    found: dict[str, Any] = {
        f"{kind}:{each}": store.hgetall(f"{TAG}{kind}:{each.hex}")
        for each in held_by
        for kind in ("c", "w")
    }
    return found


def test_estimates_hold_count_and_send_nothing(door: str, stack: Stack, cast: Cast) -> None:
    terms = Terms(max_budget=Decimal("0.015"), rpm_limit=100, max_parallel_requests=9)
    passing = limited("key", cast=cast, terms=terms)
    accounts_of_path = (passing.account_id, cast.organization.account_id)
    recorded(chat(door, passing.secret, model=PER_REQUEST).headers["x-request-id"])
    chat(door, passing.secret, model=PER_REQUEST)
    estimated(door, passing.secret, model=PER_REQUEST)
    before, served = traces(*accounts_of_path), len(stack.served())
    spent = SpendEvent.objects.filter(organization_id=cast.organization.pk).count()

    answers = [estimated(door, passing.secret, model=PER_REQUEST) for _ in range(5)]

    assert {answer["refusal"]["code"] for answer in answers} == {"budget_exceeded"}
    assert traces(*accounts_of_path) == before
    assert before[f"w:{passing.account_id}"]
    assert len(stack.served()) == served
    assert SpendEvent.objects.filter(organization_id=cast.organization.pk).count() == spent
    assert not in_flight(passing.account_id)


def test_only_real_refusals_are_counted(stack: Stack, cast: Cast) -> None:
    passing = limited("key", cast=cast, terms=strict("0"))
    for _ in range(3):
        assert not estimated(stack.lane, passing.secret)["would_be_admitted"]

    chat(stack.lane, passing.secret)
    counts = RefusalCount.objects.filter(account_id=passing.account_id)
    wait_until(counts.exists, seconds=15)

    assert [each.requests for each in counts] == [1]


def test_what_is_left_is_told_as_the_key_is_told_it_elsewhere(door: str, cast: Cast) -> None:
    owner = Owner(cast.organization, cast.team, cast.user)
    terms = Terms(max_budget=Decimal(1), rpm_limit=10, duration="1mo")
    issued: Issued = issue_key(owner=owner, values={}, terms=terms, now=now())
    with change(scope=cast.organization.pk):
        accounts.set_private_budget(
            account=cast.team.account, terms=Terms(max_budget=Decimal(5), rpm_limit=9), now=now()
        )
    recorded(chat(door, issued.secret, model=PER_REQUEST).headers["x-request-id"])

    money, rate, team = estimated(door, issued.secret, model=PER_REQUEST)["budgets"]

    assert money | {"limit": "1", "spent": "0.01", "held": "0", "left": "0.99"} == money
    assert money["account"]["kind"] == "key"
    assert money["resets_at"] is not None
    assert rate | {"limits": "requests", "limit": 10, "used": 1, "left": 9} == rate
    assert team | {"limit": "5", "left": "4.99", "limits": "money"} == team
    assert not {"spent", "used", "held"} & team.keys()


@pytest.mark.parametrize("scope", ["model", "provider", "deployment"])
def test_what_all_organizations_share_binds_and_is_not_told(
    scope: str, stack: Stack, cast: Cast
) -> None:
    passing = limited(scope, cast=cast, terms=strict("0"))

    told = estimated(stack.lane, passing.secret, **passing.fields)

    assert told["would_be_admitted"] is False
    assert told["budgets"] == []
    assert told["refusal"]["budget"]["limit"] is None


# --- Who may ask, and what -----------------------------------------------------------------


def test_it_is_there_without_the_version_too(door: str, cast: Cast) -> None:
    body = {"model": CHAT, "messages": HELLO, "stream": True, "nobody_knows_this": {"a": 1}}

    answer = post(door, cast.key("1").secret, body, path="/estimate")

    assert (answer.status, answer.json["would_be_admitted"]) == (200, True)


def test_who_may_not_call_may_not_ask(door: str, cast: Cast) -> None:
    blocked = cast.key()
    block_key(key=blocked.key, blocked=True)

    refused = [ask(door, secret) for secret in (blocked.secret, "sk-nobody", settings.MASTER_KEY)]

    assert [answer.status for answer in refused] == [403, 401, 401]
    assert refused[0].error["code"] == "key_blocked"


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "nobody-has-it"}, 404, "model_not_found", "model"),
        ({"messages": []}, 400, "invalid_request", "messages"),
        ({"n": 0}, 400, "invalid_request", "n"),
        ({"service_tier": "flex"}, 400, "unsupported_parameter", "service_tier"),
    ],
)
def test_what_the_request_itself_is_refused_for_the_estimate_is_too(
    door: str, cast: Cast, change: dict[str, Any], status: int, code: str, param: str
) -> None:
    key = cast.key("1")

    estimate, request = ask(door, key.secret, **change), chat(door, key.secret, **change)

    assert (estimate.status, estimate.error["code"]) == (status, code)
    assert estimate.error["param"] == param
    assert {**estimate.error, "request_id": ""} == {**request.error, "request_id": ""}


def test_a_model_without_a_price_has_no_estimate(stack: Stack, cast: Cast) -> None:
    name = own_model(cast, upstream_model=f"unheard-of-{uuid.uuid4().hex}")

    answer = ask(stack.lane, cast.key("1").secret, model=name)

    assert (answer.status, answer.error["code"]) == (400, "unpriced_model")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model": "m"}'])
def test_a_body_that_is_no_request_is_refused(body: bytes, stack: Stack, cast: Cast) -> None:
    answer = post(stack.lane, cast.key("1").secret, body, path=PATH)

    assert (answer.status, answer.error["code"]) == (400, "invalid_request")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(stack: Stack) -> None:
    parts = urlsplit(stack.lane)
    length = settings.GATEWAY_BODY_BYTES_MAX + 1
    head = f"POST {PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {length}\r\n\r\n"

    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.settimeout(10)
        connection.sendall(head.encode() + b"x" * 1_000)
        answer = b""
        while b"}}" not in answer and (part := connection.recv(4_096)):
            answer += part

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"payload_too_large"' in answer
