"""Where an attempt fails, or has no room, the next one is made: each metered by itself."""

import uuid
from decimal import Decimal
from typing import Any

import pytest

from budgets.changes import change
from budgets.models import AccountKind
from budgets.services import accounts
from budgets.services.accounts import Terms
from gateway.models import Deployment
from gateway.routing.causes import Cause
from gateway.routing_rules import create_rule
from spend.models import SpendEvent
from tests.conftest import Cast
from tests.gateway.support import HELLO, Answer, get, post, recorded
from tests.gateway.upstreams import RATE, Canned, Upstream, deployed
from tests.spend.support import now
from tests.stack import Stack, wait_until

USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
COST = 16 * RATE
"""The tokens, and the request itself."""
SERVED = Canned.json({"id": "c", "choices": [], "usage": USAGE})
BROKEN = Canned.json({"error": {"message": "out of order"}}, status=500)
TOO_LONG = Canned.json(
    {"error": {"message": "too long", "code": "context_length_exceeded"}}, status=400
)


@pytest.fixture
def group(upstream: Upstream, cast: Cast) -> list[Deployment]:
    """Three deployments of one model; all answer, until a test says otherwise."""
    upstream.answers(SERVED)
    name = f"group-{uuid.uuid4().hex}"
    return [deployed(upstream, cast, model_name=name) for _ in range(3)]


def ask(url: str, secret: str, model: str, **fields: Any) -> Answer:
    return post(url, secret, {"model": model, "messages": HELLO, "max_tokens": 10} | fields)


def rows(answer: Answer, number: int) -> list[SpendEvent]:
    """Return the ledger's rows of all attempts at a request, as soon as there are so many."""
    id = uuid.UUID(answer.headers["x-request-id"])
    found = SpendEvent.objects.filter(id=id) | SpendEvent.objects.filter(attempt_of=id)
    wait_until(lambda: found.count() >= number, seconds=15)
    return list(found.order_by("admitted_at", "id"))


def rule(cast: Cast, model: str, **values: Any) -> None:
    create_rule(values={"organization": cast.organization, "model_name": model} | values)


def test_a_failing_deployment_is_followed_by_another_and_both_are_metered(
    door: str, cast: Cast, upstream: Upstream, group: list[Deployment]
) -> None:
    bad, *good = group
    upstream.of_model[bad.upstream_model] = BROKEN
    key = cast.key("1")

    answers = [ask(door, key.secret, bad.model_name) for _ in range(12)]

    assert {answer.status for answer in answers} == {200}
    retried = [each for each in answers if each.headers["x-costplatform-attempts"] == "2"]
    # Once it has failed too often it cools down, and nobody asks it any more.
    assert 0 < len(retried) < len(answers)
    first, second = rows(retried[0], 2)
    assert (first.deployment, first.amount_units, first.flags) == (
        bad.public_id, 0, ["upstream_error"],
    )  # fmt: skip
    assert second.deployment in {each.public_id for each in good}
    assert (second.attempt_of, first.attempt_of) == (first.id, None)
    assert second.cost == COST
    assert retried[0].headers["x-costplatform-deployment"] == second.deployment
    assert retried[0].headers["x-litellm-attempted-retries"] == "1"


def test_a_request_is_told_as_one_with_all_its_attempts(
    stack: Stack, cast: Cast, upstream: Upstream, group: list[Deployment]
) -> None:
    key = cast.key("1")
    upstream.answers(BROKEN, SERVED)

    answer = ask(stack.lane, key.secret, group[0].model_name)
    rows(answer, 2)
    told = get(stack.lane, key.secret, f"/v1/requests/{answer.headers['x-request-id']}").json

    assert [each["status"] for each in told["attempts"]] == [500, 200]
    assert told["amount"] == told["attempts"][1]["amount"] == "0.000016"
    assert told["deployment"] == told["attempts"][1]["deployment"]


def test_where_all_deployments_fail_the_last_error_is_passed_on(
    door: str, cast: Cast, upstream: Upstream, group: list[Deployment]
) -> None:
    upstream.answers(BROKEN)

    answer = ask(door, cast.key("1").secret, group[0].model_name)

    assert (answer.status, answer.body) == (500, BROKEN.body)
    assert len({sent.json["model"] for sent in upstream.seen}) == 3
    assert [row.amount_units for row in rows(answer, 3)] == [0, 0, 0]


def test_an_error_that_is_the_requests_own_is_passed_on_at_once(
    door: str, cast: Cast, upstream: Upstream, group: list[Deployment]
) -> None:
    upstream.answers(Canned.json({"error": {"message": "no such field"}}, status=400))

    answer = ask(door, cast.key("1").secret, group[0].model_name)

    assert (answer.status, len(upstream.seen)) == (400, 1)


def test_retries_are_as_many_as_the_rule_says(
    stack: Stack, cast: Cast, upstream: Upstream, group: list[Deployment]
) -> None:
    upstream.answers(BROKEN)
    rule(cast, group[0].model_name, retries=0)

    ask(stack.lane, cast.key("1").secret, group[0].model_name)

    assert len(upstream.seen) == 1


@pytest.mark.parametrize("kind", [AccountKind.DEPLOYMENT, AccountKind.PROVIDER])
@pytest.mark.parametrize(
    "terms", [Terms(max_budget=Decimal(0), enforcement="strict"), Terms(rpm_limit=0)]
)
def test_a_deployment_without_room_is_passed_over_and_not_called(
    kind: AccountKind, terms: Terms, door: str, cast: Cast, upstream: Upstream,
    group: list[Deployment],
) -> None:  # fmt: skip
    full = group[0]
    text = full.public_id if kind == AccountKind.DEPLOYMENT else full.provider
    limit(kind, text, terms)
    key = cast.key("1")

    answers = [ask(door, key.secret, full.model_name) for _ in range(6)]

    assert {answer.status for answer in answers} == {200}
    assert full.upstream_model not in {sent.json["model"] for sent in upstream.seen}


def test_where_no_deployment_has_room_the_limit_is_told(
    door: str, cast: Cast, upstream: Upstream, group: list[Deployment]
) -> None:
    for each in group:
        limit(AccountKind.DEPLOYMENT, each.public_id, Terms(rpm_limit=0))

    answer = ask(door, cast.key("1").secret, group[0].model_name)

    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert upstream.seen == []


def limit(kind: AccountKind, text: str, terms: Terms) -> None:
    with change(scope=0):
        account = accounts.platform_account(kind=kind, text=text)
        accounts.set_private_budget(account=account, terms=terms, now=now())


def test_a_budget_that_is_gone_falls_back_to_the_cheaper_model(
    door: str, cast: Cast, upstream: Upstream
) -> None:
    dear = deployed(upstream, cast, rate=Decimal(1)).model_name
    cheap = deployed(upstream, cast).model_name
    upstream.answers(SERVED)
    key = cast.key("1")
    refused = ask(door, key.secret, dear)
    rule(cast, dear, budget_fallbacks=[cheap])

    answer = ask(door, key.secret, dear)

    assert refused.error["code"] == "budget_exceeded"
    assert (answer.status, answer.headers["x-costplatform-fallback"]) == (200, Cause.BUDGET)
    assert answer.headers["x-litellm-model-group"] == cheap
    row = recorded(answer.headers["x-request-id"])
    assert (row.model, row.cost) == (cheap, COST)


def test_a_budget_without_room_for_the_fallback_either_calls_nobody(
    stack: Stack, cast: Cast, upstream: Upstream
) -> None:
    dear = deployed(upstream, cast, rate=Decimal(1)).model_name
    cheap = deployed(upstream, cast).model_name
    upstream.answers(SERVED)
    rule(cast, dear, budget_fallbacks=[cheap], fallbacks=[cheap])

    answer = ask(stack.lane, cast.key("0").secret, dear)

    assert (answer.status, answer.error["code"], upstream.seen) == (429, "budget_exceeded", [])


def test_a_prompt_that_is_too_long_goes_to_the_model_for_long_ones(
    door: str, cast: Cast, upstream: Upstream
) -> None:
    short, long = (deployed(upstream, cast).model_name for _ in range(2))
    upstream.answers(SERVED)
    upstream.of_model[short] = TOO_LONG
    rule(cast, short, context_window_fallbacks=[long])

    answer = ask(door, cast.key("1").secret, short)

    assert (answer.status, answer.headers["x-costplatform-fallback"]) == (200, "context_window")
    assert [row.model for row in rows(answer, 2)] == [short, long]


def test_a_fallback_that_the_key_may_not_call_is_passed_over(
    door: str, cast: Cast, upstream: Upstream
) -> None:
    first, forbidden, allowed = (deployed(upstream, cast).model_name for _ in range(3))
    upstream.answers(SERVED)
    upstream.of_model[first] = BROKEN
    rule(cast, first, fallbacks=[forbidden, allowed])
    key = cast.key("1", allowed_models=[first, allowed])

    answer = ask(door, key.secret, first)

    assert answer.status == 200
    assert {sent.json["model"] for sent in upstream.seen} == {first, allowed}


def test_the_cheapest_deployment_for_this_very_request_is_chosen(
    door: str, cast: Cast, upstream: Upstream, group: list[Deployment]
) -> None:
    cheap = deployed(
        upstream, cast, model_name=group[0].model_name, rate=Decimal("0.0000001"), weight=1
    )
    upstream.answers(SERVED)
    rule(cast, cheap.model_name, strategy="lowest_cost")
    key = cast.key("1")

    answers = [ask(door, key.secret, cheap.model_name) for _ in range(5)]

    assert {a.headers["x-costplatform-deployment"] for a in answers} == {cheap.public_id}
    assert {a.headers["x-costplatform-chosen-by"] for a in answers} == {"lowest_cost"}


def test_tagged_requests_go_where_their_tag_is(
    door: str, cast: Cast, upstream: Upstream, group: list[Deployment]
) -> None:
    tagged = deployed(upstream, cast, model_name=group[0].model_name, tags=["paid"])
    key = cast.key("1")

    with_tag = ask(door, key.secret, tagged.model_name, metadata={"tags": ["paid", "x"]})
    without = [ask(door, key.secret, tagged.model_name) for _ in range(5)]

    assert with_tag.headers["x-costplatform-deployment"] == tagged.public_id
    assert tagged.public_id not in {a.headers["x-costplatform-deployment"] for a in without}


def test_where_all_deployments_are_for_other_tags_the_request_is_told_so(
    door: str, cast: Cast, upstream: Upstream
) -> None:
    only = deployed(upstream, cast, tags=["paid"])

    answer = ask(door, cast.key("1").secret, only.model_name)

    assert (answer.status, answer.error["code"]) == (400, "no_deployment_for_tags")


def test_a_wildcard_serves_every_name_that_fits_at_its_own_price(
    door: str, cast: Cast, upstream: Upstream
) -> None:
    named = deployed(upstream, cast)
    prefix = f"w{uuid.uuid4().hex}/"
    deployed(
        upstream, cast, provider=named.provider, model_name=f"{prefix}*", upstream_model="*"
    )  # fmt: skip
    upstream.answers(SERVED)
    key = cast.key("1", allowed_models=[f"{prefix}*"])

    answer = ask(door, key.secret, prefix + named.upstream_model)
    unpriced = ask(door, key.secret, f"{prefix}nobody-has-it")

    assert answer.status == 200
    assert upstream.seen[0].json["model"] == named.upstream_model
    row = recorded(answer.headers["x-request-id"])
    assert (row.model, row.cost) == (prefix + named.upstream_model, COST)
    assert (unpriced.status, unpriced.error["code"]) == (400, "unpriced_model")
