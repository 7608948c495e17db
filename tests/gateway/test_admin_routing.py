"""The admin of routing rules."""

from typing import Any

import pytest
from django.test import Client

from budgets.snapshots import GLOBAL_SCOPE
from gateway.models import RoutingRule
from tests import admin_site
from tests.admin_site import Pages, errors_of, login, raises_version, save, text_of
from tests.conftest import Cast
from tests.gateway.routing_support import deployed, models, no_rule_for_every_model, rule_of

PAGES = Pages(RoutingRule)


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


def test_every_page_opens_for_a_superuser_and_for_nobody_else(root: Client) -> None:
    (model,) = models(1)
    rule = rule_of(model, retries=1)
    nobody = login(admin_site.staff())

    for page in PAGES.all_of(rule):
        answer = root.get(page)
        assert answer.status_code == 200, page
        assert admin_site.links_out(text_of(answer)) == []
        assert nobody.get(page).status_code == 403, page


def test_who_may_only_view_sees_in_words_what_happens_and_no_way_to_save() -> None:
    model, other = models(2)
    rule = rule_of(model, strategy="lowest_cost", fallbacks=[other], budget_fallbacks=[])
    reader = login(admin_site.staff("gateway.view_routingrule"))

    page = reader.get(PAGES.url("change", rule.pk))

    assert page.status_code == 200
    assert f"Lowest cost, then {other}, when its budget is gone: nothing else" in text_of(page)
    assert 'name="_save"' not in text_of(page)


def test_a_rule_is_made_here_and_counts_from_the_next_request_on(root: Client, cast: Cast) -> None:
    model, first, second = models(3)

    with raises_version(GLOBAL_SCOPE):
        answer = save(
            root, PAGES.url("add"), model_name=model, organization=str(cast.organization.pk),
            strategy="latency", retries="0", fallbacks=f"{first}\n {second} \n",
            budget_fallbacks="-",
        )  # fmt: skip

    assert answer.status_code == 302
    rule = RoutingRule.objects.get(model_name=model)
    assert rule.organization == cast.organization
    assert (rule.strategy, rule.retries, rule.fallbacks) == ("latency", 0, [first, second])
    assert (rule.budget_fallbacks, rule.context_window_fallbacks) == ([], None)


def test_the_page_tells_what_happens_together_with_more_general_rules(
    root: Client, cast: Cast
) -> None:
    no_rule_for_every_model()
    model, other = models(2)
    rule_of("*", strategy="availability", retries=1)
    rule_of(model, fallbacks=[other])
    own = rule_of(model, organization=cast.organization, retries=0)

    page = text_of(root.get(PAGES.url("change", own.pk)))
    no_rule_for_every_model()

    assert f"Most reliable, no retries, then {other}" in page


def test_a_form_saved_as_it_is_changes_nothing(root: Client) -> None:
    model, other = models(2)
    rule = rule_of(model, fallbacks=[other], budget_fallbacks=[])
    before = RoutingRule.objects.values().get(pk=rule.pk)

    answer = save(root, PAGES.url("change", rule.pk))

    assert answer.status_code == 302
    after = RoutingRule.objects.values().get(pk=rule.pk)
    assert after | {"updated_at": None} == before | {"updated_at": None}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"model_name": "nobody's"}, "model_name"),
        ({"model_name": ""}, "model_name"),
        ({"strategy": "fastest"}, "strategy"),
        ({"strategy": "", "retries": ""}, "strategy"),
        ({"retries": "6"}, "retries"),
        ({"fallbacks": "nobody's"}, "fallbacks"),
        ({"fallbacks": "{model}"}, "fallbacks"),
        ({"budget_fallbacks": "a\nb\nc\nd\ne\nf"}, "budget_fallbacks"),
        ({"content_policy_fallbacks": "x" * 256}, "content_policy_fallbacks"),
    ],
)
def test_what_does_not_fit_is_told_at_its_field(
    changed: dict[str, Any], field: str, root: Client
) -> None:
    (model,) = models(1)
    rule = rule_of(model, retries=1)
    before = RoutingRule.objects.values().get(pk=rule.pk)
    filled = {name: text.replace("{model}", model) for name, text in changed.items()}

    answer = save(root, PAGES.url("change", rule.pk), **filled)

    assert list(errors_of(answer)) == [field]
    assert RoutingRule.objects.values().get(pk=rule.pk) == before


def test_a_second_rule_for_the_same_model_is_refused_at_the_model(root: Client) -> None:
    (model,) = models(1)
    rule_of(model, retries=1)

    answer = save(root, PAGES.url("add"), model_name=model, retries="2")

    assert errors_of(answer) == {"model_name": ["Is taken."]}


def test_a_rule_that_is_deleted_is_no_rule_any_more(root: Client) -> None:
    (model,) = models(1)
    rule = rule_of(model, retries=1)

    with raises_version(GLOBAL_SCOPE):
        root.post(PAGES.url("delete", rule.pk), {"post": "yes"})

    assert not RoutingRule.objects.filter(pk=rule.pk).exists()


def test_the_list_says_in_words_what_happens_with_a_few_queries(root: Client, cast: Cast) -> None:
    model, other = deployed().model_name, deployed().model_name
    rule_of(model, strategy="lowest_cost", fallbacks=[other])
    for organization in (cast.organization, cast.outsider):
        rule_of(model, organization=organization, retries=2)

    with admin_site.few_queries():
        page = root.get(PAGES.url("changelist"), {"q": model})

    told = text_of(page)
    assert f"Lowest cost, then {other}" in told
    assert told.count("2 retries") == 2
    assert "every organization" in told
