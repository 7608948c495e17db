"""What things would cost, as LiteLLM's clients ask it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from budgets.services.keys import block_key
from gateway.models import Deployment
from spend.models import PriceAdjustment, SpendEvent
from tests.api_client import Api, master, new_id
from tests.conftest import Cast
from tests.gateway.support import CHAT, HELLO
from tests.gateway.test_estimates import own_model
from tests.spend.price_support import new_model, priced, rate

# sandbox-chat: 0.0000005 for input, 0.00000005 from the cache, 0.000002 for output
ANSWER: dict[str, Any] = {
    "model": CHAT,
    "choices": [{"message": {"content": "Hi!"}}],
    "usage": {
        "prompt_tokens": 1000, "completion_tokens": 100,
        "prompt_tokens_details": {"cached_tokens": 400},
    },
}  # fmt: skip
COST = Decimal("0.00052")
ASKED: dict[str, dict[str, Any]] = {
    "/cost/estimate": {"model": CHAT, "input_tokens": 1, "output_tokens": 1},
    "/spend/calculate": {"model": CHAT, "messages": HELLO},
    "/utils/token_counter": {"model": CHAT, "prompt": "hello"},
}


# --- What requests of so many tokens cost --------------------------------------------------


def test_an_estimate_tells_each_part_exactly_and_the_sums_of_day_and_month() -> None:
    told = master().made(
        "/cost/estimate",
        model=CHAT,
        input_tokens=1000,
        output_tokens=100,
        cache_read_input_tokens=400,
        reasoning_tokens=40,
        num_requests_per_day=10,
    )

    assert told["cost_per_request"] == COST
    assert told["input_cost_per_request"] == Decimal("0.00032")
    assert told["output_cost_per_request"] == Decimal("0.0002")
    assert told["cache_read_cost_per_request"] == Decimal("0.00002")
    assert told["reasoning_cost_per_request"] == Decimal("0.00008")
    assert told["cache_creation_cost_per_request"] == told["margin_cost_per_request"] == 0
    assert (told["daily_cost"], told["monthly_cost"]) == (COST * 10, None)
    assert told["daily_input_cost"] == Decimal("0.0032")
    assert told["input_cost_per_token"] == Decimal("0.0000005")
    assert told["cache_read_input_token_cost"] == Decimal("0.00000005")
    assert (told["provider"], told["currency"]) == ("sandbox", "USD")
    assert told["price_reference"].startswith("price:")


def test_amounts_are_numbers_with_all_their_digits() -> None:
    reply = master().post("/cost/estimate", ASKED["/cost/estimate"] | {"output_tokens": 0})

    assert '"cost_per_request":0.0000005,' in reply.text


def test_margins_and_discounts_of_who_asks_are_in_the_sum_and_apart(cast: Cast) -> None:
    PriceAdjustment.objects.create(
        organization=cast.organization,
        margin_percent=Decimal(10),
        effective_from=datetime.now(UTC) - timedelta(days=1),
    )
    asked = {"model": CHAT, "input_tokens": 1000, "output_tokens": 0}

    theirs = Api(cast.key().secret).made("/cost/estimate", **asked)
    named = master().made("/cost/estimate", **asked, organization_id=cast.organization.public_id)
    others = master().made("/cost/estimate", **asked)

    assert theirs["cost_per_request"] == named["cost_per_request"] == Decimal("0.00055")
    assert theirs["margin_cost_per_request"] == Decimal("0.00005")
    assert theirs["input_cost_per_request"] == others["cost_per_request"] == Decimal("0.0005")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"cache_read_input_tokens": 2}, "input_tokens"),
        ({"cache_read_input_tokens": 1, "cache_creation_input_tokens": 1}, "input_tokens"),
        ({"reasoning_tokens": 2}, "output_tokens"),
    ],
)
def test_parts_that_exceed_their_whole_are_refused(change: dict[str, int], param: str) -> None:
    reply = master().post("/cost/estimate", ASKED["/cost/estimate"] | change)

    assert (reply.status, reply.error["param"]) == (400, param)


def test_a_model_of_the_price_book_needs_no_deployment() -> None:
    told = master().made("/cost/estimate", model="openai/gpt-4o", input_tokens=1, output_tokens=1)

    assert told["provider"] == "openai"
    assert told["cost_per_request"] > 0


# --- What a prompt or an answer costs ------------------------------------------------------


def test_an_answer_costs_what_the_gateway_charges_for_its_usage() -> None:
    named = master().post("/spend/calculate", {"completion_response": ANSWER})
    given = master().made(
        "/spend/calculate", model=CHAT, completion_response=ANSWER | {"model": "unheard-of"}
    )

    assert named.text == '{"cost":0.00052}'
    assert given["cost"] == COST


@pytest.mark.parametrize(
    ("size", "region", "cost"), [("low", "", "0.0086"), ("high", "", "0.0126"),
                                 ("high", "eu", "0.01386")],
)  # fmt: skip
def test_an_answer_costs_what_its_form_and_region_do(
    size: str, region: str, cost: str, cast: Cast
) -> None:
    searched = rate("request", "12", per=1000, variant="high")
    version = priced(
        new_model(), rate("request", "8", per=1000), searched, rate("input", "0.6"),
        region_factors={"eu": "1.1"},
    )  # fmt: skip
    known = version.model
    name = own_model(
        cast, provider=known.provider.slug, upstream_model=known.name, region=region
    )  # fmt: skip
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "search_context_size": size}

    told = Api(cast.key().secret).made(
        "/spend/calculate", model=name, completion_response={"usage": usage}
    )

    assert told["cost"] == Decimal(cost)


def test_an_estimate_is_at_the_prices_of_the_deployments_region(cast: Cast) -> None:
    version = priced(new_model(), rate(), rate("output", "10"), region_factors={"eu": "1.1"})
    known = version.model
    name = own_model(
        cast, provider=known.provider.slug, upstream_model=known.name, region="eu"
    )  # fmt: skip

    told = Api(cast.key().secret).made(
        "/cost/estimate", model=name, input_tokens=1000, output_tokens=100
    )

    assert told["cost_per_request"] == Decimal("0.00385")
    assert told["input_cost_per_token"] == Decimal("0.00000275")


def test_a_prompt_costs_its_counted_tokens_at_the_input_rate() -> None:
    told = master().made("/spend/calculate", model=CHAT, messages=HELLO)

    assert told["cost"] == 8 * Decimal("0.0000005")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"model": CHAT}, "messages"),
        ({"messages": HELLO}, "model"),
        ({"completion_response": {"usage": ANSWER["usage"]}}, "model"),
        ({"completion_response": ANSWER | {"model": "a\0b"}}, "model"),
        ({"completion_response": ANSWER | {"usage": None}}, "completion_response.usage"),
        ({"completion_response": ANSWER | {"usage": {"prompt_tokens": 1.5}}},
         "completion_response.usage"),
    ],
)  # fmt: skip
def test_what_cannot_be_calculated_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    reply = master().post("/spend/calculate", body)

    assert (reply.status, reply.error["param"]) == (400, param)


# --- How many tokens -----------------------------------------------------------------------


def test_a_text_and_messages_are_counted_and_the_count_says_how() -> None:
    text = master().made("/utils/token_counter", model="gpt-4o", prompt="hello")
    messages = master().made("/utils/token_counter", model="gpt-4o", messages=HELLO)

    assert (text["total_tokens"], messages["total_tokens"]) == (1, 8)
    assert text["tokenizer_type"] == "o200k_base"
    assert (text["is_exact"], text["count_source"]) == (True, "local_estimate")
    assert (text["request_model"], text["model_used"], text["error"]) == ("gpt-4o", "gpt-4o", False)


def test_a_name_is_counted_as_the_model_that_serves_it(cast: Cast) -> None:
    name = own_model(cast, upstream_model="gpt-4o")

    told = Api(cast.key().secret).made("/utils/token_counter", model=name, prompt="hello")
    outsider = master().made("/utils/token_counter", model=name, prompt="hello")

    assert (told["request_model"], told["model_used"], told["is_exact"]) == (name, "gpt-4o", True)
    assert (outsider["model_used"], outsider["is_exact"]) == (name, False)


def test_system_and_tools_count_too() -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    plain = master().made("/utils/token_counter", model="gpt-4o", messages=HELLO)["total_tokens"]

    told = master().made(
        "/utils/token_counter", model="gpt-4o", messages=HELLO, system="Be kind.", tools=[tool]
    )

    assert told["total_tokens"] > plain + 10


def test_nothing_to_count_is_refused_and_an_empty_text_is_none() -> None:
    empty = master().made("/utils/token_counter", model="gpt-4o", prompt="")

    reply = master().post("/utils/token_counter", {"model": "gpt-4o"})

    assert empty["total_tokens"] == 0
    assert (reply.status, reply.error["param"]) == (400, "prompt")


# --- Who may ask ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ASKED)
def test_a_virtual_key_may_ask_until_it_is_blocked(path: str, cast: Cast) -> None:
    key = cast.key("0")
    before = Api(key.secret).post(path, ASKED[path])
    block_key(key=key.key, blocked=True)

    after = Api(key.secret).post(path, ASKED[path])

    assert (before.status, after.status) == (200, 403)
    assert after.error["code"] == "key_blocked"


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("secret", ["", "sk-nobody", "sk-é", "x" * 10_000])
def test_whoever_has_no_key_may_not_ask(path: str, secret: str) -> None:
    reply = Api(secret).post(path, ASKED[path])

    assert (reply.status, reply.error["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("path", ASKED)
def test_a_key_asks_for_its_own_organization_only(path: str, cast: Cast) -> None:
    api = Api(cast.key().secret)

    own = api.post(path, ASKED[path] | {"organization_id": cast.organization.public_id})
    other = api.post(path, ASKED[path] | {"organization_id": cast.outsider.public_id})

    assert (own.status, other.status) == (200, 400)
    assert other.error["param"] == "organization_id"


@pytest.mark.parametrize("path", ["/cost/estimate", "/spend/calculate"])
def test_models_of_others_unknown_ones_and_those_without_a_price_are_refused(
    path: str, cast: Cast
) -> None:
    api = Api(cast.key().secret)
    theirs = own_model(Cast(cast.outsider, cast.team, cast.user, cast.organization))
    unpriced = own_model(cast, upstream_model=new_id("unheard-of"))

    replies = [api.post(path, ASKED[path] | {"model": m}) for m in (theirs, new_id("m"), unpriced)]

    assert [each.status for each in replies] == [404, 404, 400]
    assert [each.error["code"] for each in replies] == [
        "model_not_found", "model_not_found", "unpriced_model",
    ]  # fmt: skip
    assert {each.error["param"] for each in replies} == {"model"}


def test_a_part_that_the_price_says_nothing_of_is_not_taken_for_free(cast: Cast) -> None:
    name = own_model(cast, price_override={"input_cost_per_token": "1"})

    reply = Api(cast.key().secret).post("/cost/estimate", ASKED["/cost/estimate"] | {"model": name})

    assert (reply.status, reply.error["code"]) == (400, "unpriced_model")
    assert "output" in reply.error["message"]


def test_the_deployment_that_is_drawn_most_often_is_the_one_that_is_told(cast: Cast) -> None:
    prices = {"input_cost_per_token": "1", "output_cost_per_token": "1"}
    name = own_model(cast)
    own_model(cast, name=name, weight=9, price_override=prices)

    told = Api(cast.key().secret).made(
        "/cost/estimate", model=name, input_tokens=1, output_tokens=1
    )

    assert told["cost_per_request"] == 2
    assert Deployment.objects.filter(model_name=name).count() == 2


def test_asking_spends_nothing(cast: Cast) -> None:
    secret = cast.key("1").secret

    for path, body in ASKED.items():
        assert Api(secret).post(path, body).status == 200

    assert not SpendEvent.objects.filter(organization_id=cast.organization.pk).exists()
