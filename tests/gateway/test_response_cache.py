"""Answers that are given again, through both doors: who gets them, what they cost, what is told."""

import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from budgets import storekeeper
from budgets.changes import change
from budgets.models import AccountKind
from budgets.services import accounts, keys
from budgets.services.accounts import Terms
from budgets.services.keys import Owner, issue_key
from gateway.caching.scripts import ENTRY
from gateway.models import Deployment
from gateway.routes import forms
from gateway.routing_rules import create_rule
from gateway.services import delete_deployment, update_deployment
from spend import verification
from spend.models import Day, PriceRate
from tests.api_client import master
from tests.conftest import Cast, make_cast
from tests.gateway.cache_support import SERVED, USAGE, ask, caching, kept, looked_up, primed
from tests.gateway.support import HELLO, client, get, post, recorded
from tests.gateway.upstreams import RATE, Canned, Upstream, deployed
from tests.metrics_text import scrape
from tests.spend.support import now
from tests.stack import Stack, wait_until

COST = 16 * RATE
"""The tokens, and the request itself."""
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"content": "Hel"}}]},
    {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
]
STREAMED = Canned.events([*CHUNKS, {"choices": [], "usage": USAGE}])
WITHOUT_USAGE = Canned.events(CHUNKS)


@pytest.fixture(scope="module")
def doors(stack: Stack) -> Iterator[dict[str, str]]:
    with caching(stack, "kept") as lane, caching(stack, "kept-views", GATEWAY_LANE="off") as views:
        yield {"lane": lane, "views": views}


@pytest.fixture(params=["lane", "views"])
def cached(request: pytest.FixtureRequest, doors: dict[str, str]) -> str:
    return doors[request.param]


@pytest.fixture
def url(doors: dict[str, str]) -> str:
    return doors["lane"]


@pytest.fixture
def deployment(upstream: Upstream, cast: Cast) -> Deployment:
    upstream.answers(SERVED)
    return deployed(upstream, cast)


@pytest.fixture
def model(deployment: Deployment) -> str:
    return deployment.model_name


# --- What is given again -------------------------------------------------------------------


def test_the_same_request_is_answered_again_for_nothing_and_no_provider_is_asked(
    cached: str, cast: Cast, upstream: Upstream, deployment: Deployment
) -> None:
    secret, name = cast.key("1").secret, deployment.model_name
    first = primed(cached, secret, name)

    second = ask(cached, secret, name)

    assert (looked_up(first), looked_up(second)) == ("miss", "hit")
    assert (second.status, second.body) == (200, first.body)
    assert second.headers["content-type"] == first.headers["content-type"]
    assert len(upstream.seen) == 1
    told = second.headers
    assert (told["x-costplatform-cost"], told["x-costplatform-saved"]) == ("0", "0.000016")
    assert told["x-costplatform-deployment"] == deployment.public_id
    assert (told["x-costplatform-chosen-by"], told["x-costplatform-attempts"]) == ("cache", "0")
    assert len(told["x-litellm-cache-key"]) == 64
    assert int(told["age"]) >= 0
    assert "x-litellm-cache-key" not in first.headers


def test_a_hit_is_a_row_of_its_own_that_says_what_it_has_saved(
    url: str, cast: Cast, deployment: Deployment
) -> None:
    issued = cast.key("1")
    first = primed(url, issued.secret, deployment.model_name)

    second = ask(url, issued.secret, deployment.model_name)

    row, paid = (recorded(each.headers["x-request-id"]) for each in (second, first))
    assert (row.amount_units, row.saved_units) == (0, 16_000)
    assert (row.flags, row.usage, row.lines, row.status) == (["cache_hit"], {}, [], 200)
    assert (row.deployment, row.provider, row.upstream_model) == (
        paid.deployment, paid.provider, paid.upstream_model,
    )  # fmt: skip
    assert (paid.saved_units, paid.amount_units) == (0, 16_000)
    # Nothing was sent to provider and deployment, so nothing counts there.
    assert len(paid.accounts) - len(row.accounts) == 2
    assert set(row.accounts) < set(paid.accounts)


def test_what_a_hit_has_saved_is_told_of_the_request_and_summed_by_day(
    url: str, cast: Cast, model: str
) -> None:
    secret = cast.key("1").secret
    primed(url, secret, model)
    id = ask(url, secret, model).headers["x-request-id"]
    recorded(id)

    told = get(url, secret, f"/v1/requests/{id}").json

    assert (told["amount"], told["saved"], told["flags"]) == ("0", "0.000016", ["cache_hit"])
    (day,) = Day.objects.filter(account_id=cast.organization.account_id)
    assert (day.amount_units, day.saved_units, day.events) == (16_000, 16_000, 2)
    (log,) = master().told("/spend/logs", request_id=id)
    assert (log["cache_hit"], log["spend"]) == ("True", 0)


def test_a_stream_is_given_again_byte_for_byte(
    cached: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(STREAMED)
    secret, with_usage = cast.key("1").secret, {"include_usage": True}
    first = primed(cached, secret, model, stream=True, stream_options=with_usage)

    second = ask(cached, secret, model, stream=True, stream_options=with_usage)

    assert looked_up(second) == "hit"
    assert second.headers["content-type"] == "text/event-stream"
    assert second.body == first.body == STREAMED.body
    row = recorded(second.headers["x-request-id"])
    assert (row.streamed, row.amount_units, row.saved_units) == (True, 0, 16_000)


@pytest.mark.parametrize("first_wants_usage", [True, False])
def test_the_usage_of_a_kept_stream_is_told_to_whoever_wants_it(
    first_wants_usage: bool, url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(STREAMED)
    secret = cast.key("1").secret
    bodies = {True: STREAMED.body, False: WITHOUT_USAGE.body}

    for number, wants in enumerate((first_wants_usage, not first_wants_usage)):
        get_it = ask if number else primed
        options = {"stream_options": {"include_usage": True}} if wants else {}
        answer = get_it(url, secret, model, stream=True, **options)
        assert answer.body == bodies[wants]

    assert len(upstream.seen) == 1


def test_openais_sdk_reads_a_kept_stream(
    url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(STREAMED)
    secret = cast.key("1").secret
    primed(url, secret, model, stream=True)

    with client(url, secret) as sdk:
        chunks = sdk.chat.completions.create(
            model=model, messages=HELLO, max_tokens=10, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert text == "Hello"
    assert len(upstream.seen) == 1


def test_whole_and_streamed_answers_are_kept_apart(
    url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret = cast.key("1").secret
    primed(url, secret, model)
    upstream.answers(STREAMED)

    streamed = ask(url, secret, model, stream=True)

    assert (looked_up(streamed), streamed.body) == ("miss", WITHOUT_USAGE.body)


@pytest.mark.parametrize(
    "asked",
    [
        (
            "/v1/embeddings",
            {"input": "a text"},
            {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}},
        ),
        (
            "/v1/messages",
            {"messages": HELLO, "max_tokens": 5},
            {"type": "message", "usage": {"input_tokens": 3, "output_tokens": 2}},
        ),
        (
            "/v1/responses",
            {"input": "a question", "max_output_tokens": 5},
            {"error": None, "output": [], "usage": {"input_tokens": 3, "output_tokens": 2}},
        ),
    ],
)
def test_other_routes_are_answered_again_too(
    asked: tuple[str, dict[str, Any], dict[str, Any]], url: str, cast: Cast,
    upstream: Upstream, model: str,
) -> None:  # fmt: skip
    path, fields, answer = asked
    upstream.answers(Canned.json(answer))
    secret, before = cast.key("1").secret, kept()
    first = post(url, secret, {"model": model} | fields, path=path)
    wait_until(lambda: kept() > before, seconds=10)

    second = post(url, secret, {"model": model} | fields, path=path)

    assert (looked_up(second), second.body) == ("hit", first.body)
    assert len(upstream.seen) == 1


def test_sound_is_given_again(url: str, cast: Cast, upstream: Upstream, model: str) -> None:
    sound = Canned((b"ID3" + bytes(100_000), bytes(range(256))), content_type="audio/mpeg")
    upstream.answers(sound)
    secret, before = cast.key("1").secret, kept()
    fields = {"model": model, "input": "Good evening.", "voice": "alloy"}
    first = post(url, secret, fields, path="/v1/audio/speech")
    wait_until(lambda: kept() > before, seconds=10)

    second = post(url, secret, fields, path="/v1/audio/speech")

    assert looked_up(second) == "hit"
    assert second.body == first.body == sound.body
    assert second.headers["content-type"] == "audio/mpeg"


# --- Who gets it ---------------------------------------------------------------------------


def test_another_organization_never_gets_it(
    cached: str, cast: Cast, upstream: Upstream, deployment: Deployment
) -> None:
    update_deployment(deployment=deployment, values={"organization": None}, api_key=None)
    other = make_cast()
    primed(cached, cast.key("1").secret, deployment.model_name)

    answer = ask(cached, other.key("1").secret, deployment.model_name)

    assert (looked_up(answer), len(upstream.seen)) == ("miss", 2)
    assert recorded(answer.headers["x-request-id"]).amount_units == 16_000


def test_keys_users_and_end_users_of_an_organization_share_it(
    url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    primed(url, cast.key("1").secret, model, user="alice", metadata={"tags": ["a"], "x": "y"})

    answer = ask(url, cast.key("1").secret, model, user="bob", safety_identifier="b")

    assert looked_up(answer) == "hit"
    row = recorded(answer.headers["x-request-id"])
    assert (row.end_user, row.tags) == ("bob", [])


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1},
        {"messages": [{"role": "user", "content": "hello "}]},
        {"max_tokens": 11},
        {"stream_options": {"include_obfuscation": False}},
        {"cache": {"namespace": "mine"}},
    ],
)
def test_what_differs_in_anything_that_decides_the_answer_is_another_request(
    fields: dict[str, Any], url: str, cast: Cast, model: str
) -> None:
    secret = cast.key("1").secret
    primed(url, secret, model)

    assert looked_up(ask(url, secret, model, **fields)) == "miss"


def test_the_order_of_fields_makes_no_other_request(url: str, cast: Cast, model: str) -> None:
    secret = cast.key("1").secret
    primed(url, secret, model, seed=1, response_format={"type": "text", "x": 1})

    body = {
        "response_format": {"x": 1, "type": "text"}, "seed": 1, "max_tokens": 10,
        "messages": [{"content": "hello", "role": "user"}], "model": model, "stream": False,
    }  # fmt: skip

    assert looked_up(post(url, secret, body)) == "hit"


def test_namespaces_are_kept_apart_and_each_is_found_again(
    url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret = cast.key("1").secret
    for name in ("one", "two"):
        primed(url, secret, model, cache={"namespace": name})

    again = [ask(url, secret, model, cache={"namespace": name}) for name in ("one", "two")]

    assert [looked_up(each) for each in again] == ["hit", "hit"]
    assert len(upstream.seen) == 2


# --- The gate ------------------------------------------------------------------------------


def test_a_blocked_key_gets_nothing(
    cached: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    issued = cast.key("1")
    primed(cached, issued.secret, model)
    keys.block_key(key=issued.key, blocked=True)

    answer = ask(cached, issued.secret, model)

    assert (answer.status, answer.error["code"]) == (403, "key_blocked")
    assert len(upstream.seen) == 1


def test_who_may_not_call_the_model_any_more_gets_nothing(
    cached: str, cast: Cast, model: str
) -> None:
    issued = cast.key("1")
    primed(cached, issued.secret, model)
    keys.update_key(
        key=issued.key, values={"allowed_models": ["another"]}, terms=Terms(), now=now()
    )

    answer = ask(cached, issued.secret, model)

    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")


def test_an_exhausted_limit_on_requests_refuses_hits_too(
    cached: str, cast: Cast, model: str
) -> None:
    primed(cached, cast.key("1").secret, model)
    limited = issue_key(
        owner=Owner(cast.organization), values={}, terms=Terms(rpm_limit=2), now=now()
    ).secret

    answers = [ask(cached, limited, model) for _ in range(3)]

    assert [each.status for each in answers] == [200, 200, 429]
    assert [looked_up(each) for each in answers[:2]] == ["hit", "hit"]
    assert answers[2].error["code"] == "rate_limit_exceeded"


def test_a_hit_needs_room_for_its_tokens_and_uses_none(url: str, cast: Cast, model: str) -> None:
    primed(url, cast.key("1").secret, model)
    secrets = [
        issue_key(
            owner=Owner(cast.organization), values={}, terms=Terms(tpm_limit=limit), now=now()
        ).secret
        for limit in (5, 40)
    ]

    refused = ask(url, secrets[0], model)
    answers = [ask(url, secrets[1], model) for _ in range(5)]

    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert [looked_up(each) for each in answers] == ["hit"] * 5


def test_a_spent_budget_lets_through_what_costs_nothing(
    cached: str, cast: Cast, model: str
) -> None:
    primed(cached, cast.key("1").secret, model)
    spent = cast.key("0").secret

    assert looked_up(ask(cached, spent, model)) == "hit"
    assert ask(cached, spent, model, seed=1).status == 429


def test_limits_of_the_deployment_are_not_used_up_by_hits(
    url: str, cast: Cast, deployment: Deployment
) -> None:
    secret, name = cast.key("1").secret, deployment.model_name
    with change(scope=0):
        account = accounts.platform_account(kind=AccountKind.DEPLOYMENT, text=deployment.public_id)
        accounts.set_private_budget(account=account, terms=Terms(rpm_limit=1), now=now())
    primed(url, secret, name)

    again = [ask(url, secret, name) for _ in range(3)]

    assert [looked_up(each) for each in again] == ["hit"] * 3
    assert ask(url, secret, name, seed=1).status == 429


def test_a_model_that_was_deleted_is_not_found(
    cached: str, cast: Cast, deployment: Deployment
) -> None:
    secret = cast.key("1").secret
    primed(cached, secret, deployment.model_name)
    delete_deployment(deployment=deployment)

    answer = ask(cached, secret, deployment.model_name)

    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


def test_what_a_deployment_gave_that_is_gone_or_another_is_a_miss(
    url: str, cast: Cast, upstream: Upstream, deployment: Deployment
) -> None:
    secret, name = cast.key("1").secret, deployment.model_name
    primed(url, secret, name)
    deployed(upstream, cast, model_name=name)
    delete_deployment(deployment=deployment)

    answer = ask(url, secret, name)

    assert (answer.status, looked_up(answer), len(upstream.seen)) == (200, "miss", 2)


def test_what_a_fallback_answers_is_not_kept_for_the_model_that_was_asked_for(
    url: str, cast: Cast, upstream: Upstream, deployment: Deployment
) -> None:
    other = deployed(upstream, cast)
    create_rule(
        values={
            "organization": cast.organization, "model_name": deployment.model_name,
            "fallbacks": [other.model_name], "retries": 0,
        }
    )  # fmt: skip
    upstream.of_model[deployment.upstream_model] = Canned.json({"error": {}}, status=500)
    secret, before = cast.key("1").secret, kept()

    answers = [ask(url, secret, deployment.model_name) for _ in range(2)]

    assert [(each.status, looked_up(each)) for each in answers] == [(200, "miss")] * 2
    assert kept() == before


# --- What it costs -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(stack: Stack) -> Iterator[str]:
    """A door where a hit costs a quarter of what it has saved."""
    with caching(stack, "shared", RESPONSE_CACHE_HIT_PERCENT="25") as url:
        yield url


def test_a_share_of_what_a_hit_saves_is_charged(shared: str, cast: Cast, model: str) -> None:
    secret = cast.key("1").secret
    primed(shared, secret, model)

    answer = ask(shared, secret, model)

    assert looked_up(answer) == "hit"
    assert answer.headers["x-costplatform-cost"] == "0.000004"
    row = recorded(answer.headers["x-request-id"])
    assert (row.cost, row.amount_units, row.saved_units) == (COST / 4, 4_000, 16_000)
    assert row.usage == {}


def test_a_budget_that_has_no_room_for_the_share_refuses(
    shared: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    primed(shared, cast.key("1").secret, model)
    secret = cast.key("0.000011").secret

    answers = [ask(shared, secret, model) for _ in range(3)]

    assert [each.status for each in answers] == [200, 200, 429]
    assert answers[2].error["code"] == "budget_exceeded"
    assert answers[2].error["budget"]["spent"] == "0.000008"
    assert len(upstream.seen) == 1


def test_a_hit_saves_by_the_price_of_now(url: str, cast: Cast, deployment: Deployment) -> None:
    secret = cast.key("1").secret
    primed(url, secret, deployment.model_name)
    with change(scope=0):
        rates = PriceRate.objects.filter(version__model__name=deployment.upstream_model)
        rates.update(rate=3 * RATE)

    answer = ask(url, secret, deployment.model_name)

    assert answer.headers["x-costplatform-saved"] == "0.000048"


# --- What the caller says ------------------------------------------------------------------


@pytest.mark.parametrize("said", [{"cache": {"no-cache": True}}, {"cache-control": "no-cache"}])
def test_no_cache_asks_the_provider_and_keeps_what_it_says(
    said: dict[str, Any], url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret, header = cast.key("1").secret, said.pop("cache-control", "max-age=0")
    body = {"model": model, "messages": HELLO, "max_tokens": 10}
    key = key_of(url, secret, model)
    newer = Canned.json({"id": "newer", "choices": [], "usage": USAGE})
    upstream.answers(newer)

    answer = post(url, secret, body | said, cache_control=header)

    assert (looked_up(answer), answer.json["id"]) == ("off", "newer")
    wait_until(lambda: newer.body in storekeeper.store().get(ENTRY + key), seconds=10)
    assert ask(url, secret, model).json["id"] == "newer"


def key_of(url: str, secret: str, model: str) -> str:
    """Return under which key the usual request is kept, when it is."""
    primed(url, secret, model)
    return ask(url, secret, model).headers["x-litellm-cache-key"]


@pytest.mark.parametrize(
    "said",
    [
        {"cache": {"no-store": True}},
        {"cache": {"use-cache": False}},
        {"cache-control": "max-age=0, No-Store"},
    ],
)
def test_what_must_not_be_stored_is_not(
    said: dict[str, Any], url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret, header = cast.key("1").secret, said.pop("cache-control", "")
    body = {"model": model, "messages": HELLO, "max_tokens": 10}
    before = kept()

    answers = [post(url, secret, body | said, cache_control=header) for _ in range(2)]

    assert {each.status for each in answers} == {200}
    assert (len(upstream.seen), kept()) == (2, before)


def test_an_answer_is_given_again_until_its_time_is_over(
    url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret = cast.key("1").secret
    key = key_of(url, secret, model)
    assert 3_500_000 < storekeeper.store().pttl(ENTRY + key) <= 3_600_000
    ask(url, secret, model, cache={"ttl": 1, "no-cache": True})

    wait_until(lambda: storekeeper.store().get(ENTRY + key) is None, seconds=10)

    assert looked_up(ask(url, secret, model)) == "miss"


def test_an_answer_that_is_too_old_for_the_caller_is_not_given_again(
    url: str, cast: Cast, model: str
) -> None:
    secret = cast.key("1").secret
    primed(url, secret, model)
    time.sleep(1.1)

    assert looked_up(ask(url, secret, model, cache={"s-maxage": 60})) == "hit"
    assert looked_up(ask(url, secret, model, cache={"s-maxage": 0})) == "miss"


def test_the_field_for_the_cache_is_not_sent_on_whether_there_is_one_or_not(
    door: str, url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret = cast.key("1").secret

    answers = [ask(each, secret, model, cache={"ttl": 3_600}) for each in (door, url)]

    assert [each.status for each in answers] == [200, 200]
    assert ["cache" in sent.json for sent in upstream.seen] == [False, False]


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("no-cache", "cache"),
        ({"max-age": 5}, "cache"),
        ({"ttl": 0}, "cache.ttl"),
        ({"ttl": True}, "cache.ttl"),
        ({"ttl": 1.5}, "cache.ttl"),
        ({"ttl": 2_592_001}, "cache.ttl"),
        ({"s-maxage": -1}, "cache.s-maxage"),
        ({"no-cache": "yes"}, "cache.no-cache"),
        ({"namespace": "n" * 129}, "cache.namespace"),
        ({"namespace": "\x00"}, "cache.namespace"),
        ({"namespace": 7}, "cache.namespace"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_sent(
    said: object, param: str, url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret = cast.key("1").secret

    answer = ask(url, secret, model, cache=said)

    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("invalid_request", param)
    assert upstream.seen == []


def test_what_does_not_fit_is_named_where_there_is_no_cache_too(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    answer = ask(door, cast.key("1").secret, model, cache={"ttl": "long"})

    assert (answer.status, answer.error["param"]) == (400, "cache.ttl")
    assert upstream.seen == []


# --- What is not kept ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("canned", "stream"),
    [
        (Canned.json({"choices": []}), False),
        (Canned.json({"choices": [], "usage": USAGE, "error": {"message": "no"}}), False),
        (Canned.json({"choices": [], "usage": {"prompt_tokens": -1}}), False),
        (Canned.json({"error": {"message": "slow down"}}, status=429), False),
        (Canned.json({"choices": [], "usage": USAGE, "x": "y" * 2**20}), False),
        (Canned.events(CHUNKS), True),
        (Canned.events([{"error": {"code": 500}}, {"choices": [], "usage": USAGE}]), True),
    ],
    ids=[
        "no usage", "an error with usage", "nonsense", "refused", "too large", "no usage streamed",
        "an error streamed",
    ],
)  # fmt: skip
def test_only_whole_answers_whose_usage_was_told_are_kept(
    canned: Canned, stream: bool, url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(canned)
    secret, before = cast.key("1").secret, kept()
    fields = {"stream": True} if stream else {}

    first = ask(url, secret, model, **fields)
    recorded(first.headers["x-request-id"])
    # Whatever is kept after an answer is kept before the next one is.
    upstream.answers(SERVED)
    primed(url, secret, model, seed=uuid.uuid4().int % 10**9)

    assert kept() == before + 1


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": HELLO, "web_search_options": {}}),
        ("/v1/chat/completions", {"messages": HELLO, "tools": [{"type": "web_search"}]}),
        ("/v1/chat/completions", {"messages": HELLO, "data_sources": []}),
        ("/v1/responses", {"input": "x", "previous_response_id": "resp"}),
        ("/v1/responses", {"input": "x", "prompt": {"id": "pmpt"}}),
        ("/v1/messages", {"messages": HELLO, "mcp_servers": []}),
        ("/v1/messages/count_tokens", {"messages": HELLO}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 2**20}]}),
    ],
)
def test_what_may_differ_next_time_or_is_too_large_is_not_looked_up(
    path: str, fields: dict[str, Any], url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(SERVED)
    most = {"max_tokens": 5} if "count" not in path and "responses" not in path else {}

    answer = post(url, cast.key("100").secret, {"model": model} | most | fields, path=path)

    assert (answer.status, looked_up(answer)) == (200, "off")


def test_an_upload_is_not_looked_up(url: str, cast: Cast, upstream: Upstream, model: str) -> None:
    upstream.answers(Canned.json({"text": "hello"}))

    file = forms.Upload("file", "a.wav", "audio/wav", b"RIFF")
    body, content_type = forms.Form((("model", model), ("cache", "{}")), (file,)).encoded(
        replacing={}
    )
    path, secret = "/v1/audio/transcriptions", cast.key("1").secret

    answer = post(url, secret, body, path=path, content_type=content_type)

    assert (answer.status, looked_up(answer)) == (200, "off")


# --- Crowds, failures, and the cache that is off -------------------------------------------


def test_a_crowd_of_the_same_request_is_answered_in_full_and_charged_exactly(
    url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret = cast.key("1").secret
    with ThreadPoolExecutor(16) as crowd:
        answers = list(crowd.map(lambda _: ask(url, secret, model), range(48)))

    rows = [recorded(each.headers["x-request-id"]) for each in answers]

    assert {each.body for each in answers} == {SERVED.body}
    hits = [row for row in rows if row.flags == ["cache_hit"]]
    assert len(hits) + len(upstream.seen) == len(rows)
    assert sum(row.amount_units for row in rows) == 16_000 * len(upstream.seen)
    assert sum(row.saved_units for row in rows) == 16_000 * len(hits)


def test_nothing_drifts_by_hits(stack: Stack, url: str, cast: Cast, model: str) -> None:
    secret = cast.key("1").secret
    primed(url, secret, model)
    for _ in range(5):
        ask(url, secret, model)

    stack.settle_down()

    assert [each for each in verification.verify().differences if cast_has(cast, each)] == []


def cast_has(cast: Cast, difference: Any) -> bool:
    return str(cast.organization.account_id) in str(difference)


def test_where_the_cache_is_away_every_request_is_a_miss(
    stack: Stack, cast: Cast, upstream: Upstream, model: str, master_key: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
    secret = cast.key("1").secret

    with caching(stack, "away", RESPONSE_CACHE_URL=away) as url:
        answers = [ask(url, secret, model) for _ in range(3)]
        lookups = scrape(url, master_key).sum("costplatform_cache_lookups_total", result="away")

    assert [(each.status, looked_up(each)) for each in answers] == [(200, "miss")] * 3
    assert len(upstream.seen) == 3
    assert lookups >= 3


def test_where_the_cache_hangs_every_request_is_a_miss(
    stack: Stack, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret = cast.key("1").secret

    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with caching(stack, "hangs", RESPONSE_CACHE_URL=hangs) as url:
            answers = [ask(url, secret, model) for _ in range(3)]

    assert [(each.status, looked_up(each)) for each in answers] == [(200, "miss")] * 3
    assert len(upstream.seen) == 3


def test_another_server_may_keep_the_answers(
    stack: Stack, cast: Cast, model: str, master_key: str
) -> None:
    base = stack.env["REDIS_URL"].rpartition("/")[0]
    secret = cast.key("1").secret

    with caching(stack, "elsewhere", RESPONSE_CACHE_URL=f"{base}/9") as url:
        ask(url, secret, model)
        wait_until(lambda: looked_up(ask(url, secret, model)) == "hit", seconds=10)
        told = scrape(url, master_key).sum("costplatform_cache_lookups_total", result="hit")

    assert told >= 1


def test_a_cache_that_is_off_keeps_nothing_and_says_nothing(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret, before = cast.key("1").secret, kept()

    answers = [ask(door, secret, model) for _ in range(2)]

    assert (len(upstream.seen), kept()) == (2, before)
    assert all("x-costplatform-cache" not in each.headers for each in answers)


def test_lookups_and_kept_answers_are_counted(
    url: str, cast: Cast, model: str, master_key: str
) -> None:
    names = ("costplatform_cache_lookups_total", "costplatform_cache_stores_total")
    counted = [(names[0], "hit"), (names[0], "miss"), (names[1], "kept")]
    time.sleep(1.2)
    before = [scrape(url, master_key).sum(name, result=result) for name, result in counted]
    secret = cast.key("1").secret
    primed(url, secret, model)
    ask(url, secret, model)
    time.sleep(1.2)

    after = [scrape(url, master_key).sum(name, result=result) for name, result in counted]

    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


def test_a_kept_answer_that_cannot_be_read_is_a_miss(
    url: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    secret = cast.key("1").secret
    key = key_of(url, secret, model)
    storekeeper.store().set(ENTRY + key, orjson.dumps({"no": "answer"}), px=60_000)

    answer = ask(url, secret, model)

    assert (answer.status, looked_up(answer), len(upstream.seen)) == (200, "miss", 2)
