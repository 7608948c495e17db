"""Rules: who may have which, what they refuse, and which of them a request is routed by."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, transaction

from budgets.errors import Conflict, InvalidInput
from budgets.models import Change
from budgets.snapshots import GLOBAL_SCOPE
from gateway.catalogue import EMPTY, Catalogue, read_catalogue
from gateway.models import FALLBACK_FIELDS, RoutingRule, StrategyChoice
from gateway.routing.causes import Cause
from gateway.routing.fallbacks import Override, Rule
from gateway.routing.strategies import Strategy, Why
from gateway.routing.words import in_words
from gateway.routing_rules import create_rule, delete_rule, set_rule, update_rule
from tests.admin_site import newest_change, raises_version
from tests.conftest import Cast
from tests.gateway.routing_support import deployed, models, no_rule_for_every_model, rule_of


def catalogue() -> Catalogue:
    return read_catalogue(today=datetime.now(UTC).date())


# --- Writing -------------------------------------------------------------------------------


def test_a_rule_counts_from_the_next_request_on_and_its_history_is_kept() -> None:
    (model, other) = models(2)

    with raises_version(GLOBAL_SCOPE):
        rule = rule_of(model, strategy="lowest_cost", fallbacks=[other])
    made = newest_change("gateway_routingrule")
    with raises_version(GLOBAL_SCOPE):
        update_rule(rule=rule, values={"retries": 0})
    changed = newest_change("gateway_routingrule")
    with raises_version(GLOBAL_SCOPE):
        delete_rule(rule=rule)
    deleted = newest_change("gateway_routingrule")

    assert [each.action for each in (made, changed, deleted)] == ["insert", "update", "delete"]
    assert made.after is not None
    assert made.after["fallbacks"] == [other]
    assert changed.after is not None
    assert changed.after["retries"] == 0
    assert not RoutingRule.objects.filter(model_name=model).exists()


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"strategy": "fastest"}, "strategy", "must be one of weighted"),
        ({"retries": 6}, "retries", "from 0 to 5"),
        ({"retries": -1}, "retries", "from 0 to 5"),
        ({"fallbacks": ["{other}"] * 2}, "fallbacks", "twice"),
        ({"fallbacks": ["{model}"]}, "fallbacks", "itself"),
        ({"budget_fallbacks": list("abcdef")}, "budget_fallbacks", "more than 5"),
        ({"content_policy_fallbacks": [""]}, "content_policy_fallbacks", "1 to 255"),
        ({"context_window_fallbacks": ["x" * 256]}, "context_window_fallbacks", "1 to 255"),
        ({"fallbacks": ["nobody's"]}, "fallbacks", "which no deployment serves"),
        ({"fallbacks": ["*"]}, "fallbacks", "which no deployment serves"),
        ({"model_name": "nobody's", "retries": 1}, "model_name", "which no deployment serves"),
        ({}, "strategy", "says nothing"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(
    values: dict[str, Any], field: str, words: str
) -> None:
    model, other = models(2)
    before = Change.objects.count()
    names = {"{other}": other, "{model}": model}
    filled = {
        name: [names.get(each, each) for each in value] if isinstance(value, list) else value
        for name, value in values.items()
    }

    with pytest.raises(InvalidInput, match=words) as refused:
        create_rule(values={"model_name": model, **filled})

    assert refused.value.field == field
    assert Change.objects.count() == before


def test_an_organization_has_one_rule_for_a_model_and_so_has_everybody(cast: Cast) -> None:
    (model,) = models(1)
    rule_of(model, retries=0)
    rule_of(model, organization=cast.organization, retries=1)

    with pytest.raises(Conflict):
        rule_of(model, retries=2)
    with pytest.raises(Conflict):
        rule_of(model, organization=cast.organization, retries=2)


def test_the_database_refuses_what_goes_around_the_services() -> None:
    (model,) = models(1)
    for values in ({"retries": 6}, {"fallbacks": list("abcdef")}, {"budget_fallbacks": ["a"] * 6}):
        with pytest.raises(IntegrityError), transaction.atomic():
            RoutingRule.objects.create(model_name=model, **values)


def test_an_organizations_rule_names_no_models_of_others(cast: Cast) -> None:
    (model,) = models(1)
    theirs = deployed(organization=cast.outsider).model_name
    own = deployed(organization=cast.organization).model_name

    with pytest.raises(InvalidInput) as refused:
        rule_of(model, organization=cast.organization, fallbacks=[theirs])
    made = rule_of(model, organization=cast.organization, fallbacks=[own])

    assert refused.value.field == "fallbacks"
    assert made.fallbacks == [own]


def test_setting_a_rule_changes_what_is_named_and_takes_away_what_says_nothing(cast: Cast) -> None:
    model, other = models(2)

    def put(**values: Any) -> RoutingRule | None:
        return set_rule(model_name=model, organization=cast.organization, values=values)

    put(strategy="latency", fallbacks=[other])
    changed = put(retries=1)
    assert changed is not None
    assert (changed.strategy, changed.retries, changed.fallbacks) == ("latency", 1, [other])

    put(strategy=None, retries=None)
    assert put(fallbacks=None) is None
    assert not RoutingRule.objects.filter(model_name=model).exists()
    assert put(fallbacks=None) is None


# --- Reading -------------------------------------------------------------------------------


def test_without_a_rule_the_settings_say_how(settings: LazySettings) -> None:
    settings.GATEWAY_ROUTING_STRATEGY, settings.GATEWAY_RETRIES = "least_busy", 1

    assert EMPTY.rule_for("any", 1) == Rule(Strategy.LEAST_BUSY, 1, {})


def test_the_most_particular_rule_that_says_something_applies(cast: Cast) -> None:
    no_rule_for_every_model()
    model, other, a, b, c = models(5)
    organization = cast.organization
    rule_of("*", strategy="lowest_cost", retries=4, fallbacks=[a])
    rule_of("*", organization=organization, retries=3, budget_fallbacks=[b])
    rule_of(model, fallbacks=[b], content_policy_fallbacks=[])
    rule_of(model, organization=organization, retries=0, fallbacks=[c])

    found = catalogue()
    no_rule_for_every_model()

    cost = Strategy.LOWEST_COST
    assert found.rule_for(model, organization.pk) == Rule(
        cost, 0, {Cause.DEFAULT: (c,), Cause.BUDGET: (b,), Cause.CONTENT_POLICY: ()}
    )
    assert found.rule_for(other, organization.pk) == Rule(
        cost, 3, {Cause.DEFAULT: (a,), Cause.BUDGET: (b,)}
    )
    assert found.rule_for(model, cast.outsider.pk) == Rule(
        cost, 4, {Cause.DEFAULT: (b,), Cause.CONTENT_POLICY: ()}
    )
    assert found.rule_for(other, cast.outsider.pk) == Rule(cost, 4, {Cause.DEFAULT: (a,)})


def test_every_strategy_and_cause_can_be_chosen_and_told() -> None:
    assert set(StrategyChoice.values) == {each.value for each in Strategy}
    assert set(FALLBACK_FIELDS) == set(Cause)
    assert {each.value for each in Strategy} <= {each.value for each in Why}


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("model", "override", "words"),
    [
        (
            "gpt-4o",
            Override(
                Strategy.LOWEST_COST, None,
                {Cause.DEFAULT: ("claude",), Cause.BUDGET: ("gpt-4o-mini",)},
            ),
            "gpt-4o: lowest cost, then claude, when its budget is gone: gpt-4o-mini",
        ),
        (
            "*",
            Override(Strategy.AVAILABILITY, 1, {Cause.DEFAULT: ("a", "b")}),
            "every other model: most reliable, 1 retry, then a or b",
        ),
        (
            "m",
            Override(None, 0, {Cause.CONTEXT_WINDOW: ("long",), Cause.CONTENT_POLICY: ()}),
            "m: no retries, when it is too long: long, when its content is refused: nothing else",
        ),
        ("m", Override(), "m: as every other model"),
    ],
)  # fmt: skip
def test_a_rule_says_in_words_what_will_happen(model: str, override: Override, words: str) -> None:
    assert in_words(model, override) == words


def test_a_rule_is_called_by_its_model_and_told_in_words() -> None:
    (model,) = models(1)
    rule = rule_of(model, retries=3)

    assert (str(rule), rule.in_words()) == (model, f"{model}: 3 retries")
    assert str(RoutingRule(model_name="*")) == "every other model"
