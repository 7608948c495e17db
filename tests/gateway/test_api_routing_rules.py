"""Routing rules through the management API."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gateway.models import RoutingRule
from tests.api_client import Api, Reply, master, new_id
from tests.budgets.test_api_parallel import at_once
from tests.conftest import Cast
from tests.gateway.routing_support import deployed, models, rule_of

PATH = "/api/v1/routing-rules"


def put(**fields: Any) -> dict[str, Any]:
    return master().made(PATH, **fields)


def test_a_rule_is_made_told_and_taken_away() -> None:
    model, other = models(2)

    made = put(model=model, strategy="lowest_cost", budget_fallbacks=[other])

    assert made["in_words"] == f"{model}: lowest cost, when its budget is gone: {other}"
    assert (made["organization_id"], made["retries"], made["fallbacks"]) == (None, None, None)
    assert master().told(PATH, model=model) == [made]
    deleted = master().made(f"{PATH}/delete", model=model)
    assert deleted == {"message": f"Rule for {model} deleted successfully"}
    assert master().told(PATH, model=model) == []
    assert master().post(f"{PATH}/delete", {"model": model}).status == 404


def test_what_is_left_out_stays_and_null_is_as_the_more_general_rule() -> None:
    model, other = models(2)
    put(model=model, strategy="latency", retries=0, fallbacks=[other])

    changed = put(model=model, retries=None, fallbacks=[])

    assert (changed["strategy"], changed["retries"], changed["fallbacks"]) == ("latency", None, [])


def test_an_organizations_rule_is_beside_everybodys(cast: Cast) -> None:
    (model,) = models(1)
    organization_id = cast.organization.public_id
    everybodys = put(model=model, retries=1)
    own = put(model=model, organization_id=organization_id, retries=2)

    assert own["organization_id"] == organization_id
    assert master().told(PATH, model=model) == [everybodys, own]
    assert master().told(PATH, model=model, organization_id=organization_id) == [own]
    master().made(f"{PATH}/delete", model=model, organization_id=organization_id)
    assert master().told(PATH, model=model) == [everybodys]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"strategy": "simple-shuffle"}, "strategy"),
        ({"retries": 6}, "retries"),
        ({"fallbacks": ["nobody's"]}, "fallbacks"),
        ({"budget_fallbacks": ["a"] * 6}, "budget_fallbacks"),
        ({"strategy": None}, "strategy"),
        ({}, "strategy"),
        ({"model": "nobody's", "retries": 1}, "model"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(
    fields: dict[str, Any], param: str
) -> None:
    (model,) = models(1)

    reply = master().post(PATH, {"model": model, **fields})

    assert (reply.status, reply.error["param"]) == (400, param)
    assert not RoutingRule.objects.filter(model_name__in=[model, "nobody's"]).exists()


def test_a_rule_that_would_say_nothing_any_more_is_kept_and_refused() -> None:
    (model,) = models(1)
    put(model=model, retries=1)

    reply = master().post(PATH, {"model": model, "retries": None})

    assert (reply.status, reply.error["param"]) == (400, "strategy")
    assert RoutingRule.objects.get(model_name=model).retries == 1


def test_an_organization_that_there_is_not_is_not_found() -> None:
    (model,) = models(1)
    body = {"model": model, "organization_id": new_id("org"), "retries": 1}

    reply = master().post(PATH, body)

    assert (reply.status, reply.error["param"]) == (404, "organization_id")


def test_fields_that_are_set_at_once_are_all_kept() -> None:
    model, other = models(2)
    fields: list[dict[str, Any]] = [
        {"strategy": "latency"},
        {"retries": 4},
        *({f"{name}fallbacks": [other]} for name in ("", "context_window_", "budget_")),
    ]

    def setting(named: dict[str, Any]) -> Callable[[Api], Reply]:
        return lambda api: api.post(PATH, {"model": model, **named})

    replies = at_once([setting(each) for each in fields])

    assert [reply.status for reply in replies] == [200] * len(fields)
    (rule,) = master().told(PATH, model=model)
    assert {name: rule[name] for each in fields for name in each} == {
        name: value for each in fields for name, value in each.items()
    }


def test_a_virtual_key_changes_no_rules(cast: Cast) -> None:
    reply = Api(cast.key().secret).post(PATH, {"model": "*", "retries": 0})

    assert reply.status == 403


def test_more_rules_take_no_more_queries(cast: Cast) -> None:
    model = deployed().model_name
    rule_of(model, retries=1)
    with CaptureQueriesContext(connection) as of_few:
        master().told(PATH)
    for organization in (cast.organization, cast.outsider):
        rule_of(model, organization=organization, retries=2)

    with CaptureQueriesContext(connection) as of_more:
        master().told(PATH)

    assert len(of_more) == len(of_few) <= 4
