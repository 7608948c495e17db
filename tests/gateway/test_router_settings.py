"""LiteLLM's router settings: by its endpoints, and from a file."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from budgets.models import Change
from budgets.snapshots import GLOBAL_SCOPE
from gateway.models import RoutingRule
from gateway.router_settings import STRATEGIES, everybodys_rules
from gateway.routing.strategies import Strategy
from tests.admin_site import raises_version
from tests.api_client import master, new_id
from tests.conftest import Cast
from tests.gateway.routing_support import models, rule_of


@pytest.fixture(autouse=True)
def _no_rules() -> Iterator[None]:
    """Settings are about all models: begin without the rules of other tests, and leave none."""
    RoutingRule.objects.all().delete()
    yield
    RoutingRule.objects.all().delete()


def update(**router_settings: Any) -> None:
    reply = master().made("/config/update", router_settings=router_settings)
    assert reply == {"message": "Config updated successfully"}


def current() -> dict[str, Any]:
    values: dict[str, Any] = master().told("/router/settings")["current_values"]
    return values


# --- /fallback -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["general", "context_window", "content_policy"])
def test_fallbacks_of_a_model_are_set_told_and_taken_away(kind: str) -> None:
    model, a, b = models(3)
    told = {"model": model, "fallback_models": [a, b], "fallback_type": kind}

    made = master().made("/fallback", **told)

    assert {name: made[name] for name in told} == told
    assert master().told(f"/fallback/{model}", fallback_type=kind) == told
    assert master().delete(f"/fallback/{model}", {"fallback_type": kind}).status == 200
    assert master().get(f"/fallback/{model}", {"fallback_type": kind}).status == 404
    assert master().delete(f"/fallback/{model}", {"fallback_type": kind}).status == 404
    assert not RoutingRule.objects.exists()


def test_the_rest_of_a_rule_stays_when_its_fallbacks_go() -> None:
    model, other = models(2)
    rule_of(model, strategy="latency", fallbacks=[other])

    assert master().delete(f"/fallback/{model}").status == 200

    (rule,) = RoutingRule.objects.all()
    assert (rule.strategy, rule.fallbacks) == ("latency", None)


def test_a_model_without_a_list_is_told_that_for_every_model() -> None:
    model, other = models(2)
    update(default_fallbacks=[other])

    assert master().told(f"/fallback/{model}")["fallback_models"] == [other]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"fallback_models": ["nobody's"]}, "fallback_models"),
        ({"fallback_models": []}, "fallback_models"),
        ({"fallback_models": ["{model}"]}, "fallback_models"),
        ({"fallback_models": ["{other}"] * 2}, "fallback_models"),
        ({"fallback_models": ["{other}"], "fallback_type": "budget"}, "fallback_type"),
        ({"model": "nobody's", "fallback_models": ["{other}"]}, "model"),
    ],
)
def test_fallbacks_that_do_not_fit_are_refused(fields: dict[str, Any], param: str) -> None:
    model, other = models(2)
    text = json.dumps({"model": model, **fields})

    reply = master().post("/fallback", text.replace("{model}", model).replace("{other}", other))

    assert (reply.status, reply.error["param"]) == (400, param)
    assert not RoutingRule.objects.exists()


# --- /router/settings and /config/update ---------------------------------------------------


def test_settings_are_told_as_they_are(settings: LazySettings) -> None:
    settings.GATEWAY_ROUTING_STRATEGY, settings.GATEWAY_RETRIES = "latency", 3

    told = master().told("/router/settings")

    values = told["current_values"]
    assert (values["routing_strategy"], values["num_retries"]) == ("latency-based-routing", 3)
    assert values["fallbacks"] == values["default_fallbacks"] == []
    assert told["source"]["routing_strategy"] == "default"
    (field,) = [each for each in told["fields"] if each["field_name"] == "routing_strategy"]
    assert field["field_value"] == "latency-based-routing"
    assert set(field["options"]) == set(STRATEGIES) == set(told["routing_strategy_descriptions"])
    names = {each["field_name"] for each in told["fields"]}
    assert names == set(values)
    described = master().told("/router/fields")["fields"]
    assert {each["field_name"] for each in described} == names
    assert {each["field_value"] for each in described} == {None}


def test_what_is_updated_is_told_back_and_becomes_rules() -> None:
    a, b, c = models(3)
    said = {
        "routing_strategy": "cost-based-routing",
        "num_retries": 1,
        "fallbacks": [{a: [b, c]}],
        "context_window_fallbacks": [{a: [c]}, {b: [c]}],
        "content_policy_fallbacks": [{c: [a]}],
        "budget_fallbacks": [{a: []}],
        "default_fallbacks": [c],
    }

    with raises_version(GLOBAL_SCOPE):
        update(**said)

    told = {name: current()[name] for name in said}
    in_order: Any = lambda lists: sorted(lists, key=str)  # noqa: E731  # of models, which is by chance
    assert {**told, "context_window_fallbacks": in_order(told["context_window_fallbacks"])} == {
        **said, "context_window_fallbacks": in_order(said["context_window_fallbacks"]),
    }  # fmt: skip
    assert RoutingRule.objects.get(model_name=a).in_words() == (
        f"{a}: then {b} or {c}, when it is too long: {c}, when its budget is gone: nothing else"
    )
    assert RoutingRule.objects.get(model_name="*").in_words() == (
        f"every other model: lowest cost, 1 retry, then {c}"
    )
    source = master().told("/router/settings")["source"]
    assert {source[name] for name in said} == {"db"}


def test_what_is_not_said_stays_and_null_takes_away() -> None:
    a, b = models(2)
    update(routing_strategy="least-busy", fallbacks=[{a: [b]}], default_fallbacks=[b])

    update(routing_strategy=None)

    assert current()["fallbacks"] == [{a: [b]}]
    assert current()["default_fallbacks"] == [b]
    assert everybodys_rules()["*"].strategy is None


def test_a_list_replaces_all_of_its_kind_and_leaves_organizations_alone(cast: Cast) -> None:
    a, b, c = models(3)
    rule_of(a, organization=cast.organization, fallbacks=[c])
    update(fallbacks=[{a: [b]}, {b: [c]}], default_fallbacks=[c])

    update(fallbacks=[{b: [a]}])

    assert current()["fallbacks"] == [{b: [a]}]
    assert current()["default_fallbacks"] == [c]
    assert RoutingRule.objects.get(organization=cast.organization).fallbacks == [c]


def test_a_star_among_the_fallbacks_is_the_default() -> None:
    a, b = models(2)

    update(fallbacks=[{"*": [b]}, {b: [a]}])

    assert current()["default_fallbacks"] == [b]
    assert current()["fallbacks"] == [{b: [a]}]


def test_the_other_section_of_litellm_is_read_too() -> None:
    a, b = models(2)

    master().made("/config/update", litellm_settings={"num_retries": 0, "fallbacks": [{a: [b]}]})

    assert (current()["num_retries"], current()["fallbacks"]) == (0, [{a: [b]}])


def test_a_providers_budget_is_that_of_provider_budgets() -> None:
    provider = new_id("p")[:40]

    update(provider_budget_config={provider: {"budget_limit": 1_000, "time_period": "30d"}})

    told = master().told("/provider/budgets")["providers"][provider]
    assert (told["budget_limit"], told["time_period"]) == (1_000, "1mo")
    expected = {"budget_limit": 1_000, "time_period": "1mo"}
    assert current()["provider_budget_config"][provider] == expected
    update(provider_budget_config={provider: None})
    assert provider not in master().told("/provider/budgets")["providers"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"router_settings": {"routing_strategy": "usage-based-routing"}}, "routing_strategy"),
        ({"router_settings": {"num_retries": 6}}, "num_retries"),
        ({"router_settings": {"fallbacks": [{"nobody's": ["{a}"]}]}}, "fallbacks"),
        ({"router_settings": {"fallbacks": [{"{a}": ["nobody's"]}]}}, "fallbacks"),
        ({"router_settings": {"fallbacks": [{"{a}": ["{a}"]}]}}, "fallbacks"),
        ({"router_settings": {"default_fallbacks": ["nobody's"]}}, "default_fallbacks"),
        ({"router_settings": {"budget_fallbacks": [{"{a}": ["x"] * 6}]}}, "budget_fallbacks"),
        (
            {"router_settings": {"default_fallbacks": ["{a}"], "fallbacks": [{"*": ["{a}"]}]}},
            "default_fallbacks",
        ),
        ({"router_settings": {"cooldown_time": 5}}, "cooldown_time"),
        ({"router_settings": {"provider_budget_config": {"p": {}}}}, "provider_budget_config.p"),
    ],
)
def test_settings_that_do_not_fit_are_named_and_nothing_is_changed(
    body: dict[str, Any], param: str
) -> None:
    (a,) = models(1)
    body["router_settings"] |= {"content_policy_fallbacks": None}
    before = Change.objects.count()

    reply = master().post("/config/update", json.dumps(body).replace("{a}", a))

    assert reply.status == 400
    assert reply.error["param"].startswith(f"router_settings.{param}"), reply.text
    assert Change.objects.count() == before


def test_the_same_setting_in_both_sections_is_refused() -> None:
    reply = master().post(
        "/config/update",
        {"router_settings": {"num_retries": 1}, "litellm_settings": {"num_retries": 1}},
    )

    assert (reply.status, reply.error["param"]) == (400, "litellm_settings.num_retries")


def test_what_fails_late_takes_back_what_came_before_it() -> None:
    a, b = models(2)

    reply = master().post(
        "/config/update",
        {"router_settings": {"fallbacks": [{a: [b]}, {b: ["nobody's"]}]}},
    )

    assert reply.status == 400
    assert b in reply.error["message"]
    assert not RoutingRule.objects.exists()


def test_every_strategy_has_a_name_here() -> None:
    assert set(STRATEGIES.values()) == set(Strategy)


# --- From a file ---------------------------------------------------------------------------


def run(path: Path, content: object, *options: str) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    out = io.StringIO()
    call_command("apply_config", str(path), *options, stdout=out)
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def test_a_file_is_applied_and_what_it_changes_is_told(file: Path) -> None:
    a, b = models(2)
    provider = new_id("p")[:40]
    rule_of(a, strategy="latency", fallbacks=[b])
    config = {
        "router_settings": {
            "routing_strategy": "cost-based-routing",
            "context_window_fallbacks": [{a: [b]}],
            "provider_budget_config": {provider: {"budget_limit": 100.5, "time_period": "1d"}},
        }
    }

    told = run(file, config)

    assert told.splitlines() == [
        f"{a}: fastest, then {b}, when it is too long: {b} (was: fastest, then {b})",
        "every other model: lowest cost",
        f"provider {provider}: USD 100.50 a day",
    ]
    assert Change.objects.order_by("-id")[0].actor == "apply-config"
    assert run(file, config) == "Nothing to change.\n"
    master().made("/provider/budgets", **{provider: None})


def test_a_check_tells_the_same_and_changes_nothing(file: Path) -> None:
    a, b = models(2)
    config = {"router_settings": {"fallbacks": [{a: [b]}], "num_retries": 0}}
    out, before = io.StringIO(), Change.objects.count()
    file.write_text(json.dumps(config))

    with pytest.raises(CommandError) as found:
        call_command("apply_config", str(file), "--check", stdout=out)

    assert found.value.returncode == 2
    assert out.getvalue().splitlines() == [f"{a}: then {b}", "every other model: no retries"]
    assert Change.objects.count() == before
    assert not RoutingRule.objects.exists()
    run(file, config)
    assert run(file, config, "--check") == "Nothing to change.\n"


def test_what_a_file_no_longer_names_is_told_as_taken_away(file: Path) -> None:
    a, b = models(2)
    run(file, {"router_settings": {"fallbacks": [{a: [b]}]}})

    told = run(file, {"router_settings": {"fallbacks": []}})

    assert told == f"{a}: nothing of its own (was: then {b})\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ('{"a": 1, "a": 1}', "a is given twice"),
        ("[]", "must be a JSON object"),
        ({"router_settings": {"num_retries": 1.5}}, "router_settings.num_retries: must be a whole"),
        ({"router_settings": {"fallbacks": [{"no": ["yes"]}]}}, "router_settings.fallbacks: of"),
        ({"routing": {}}, "routing: is unknown"),
        ({"model_list": [{"model_name": "a"}]}, "model_list: is not supported yet"),
        ("[" + " " * 2_097_152 + "]", "2097152 bytes at most"),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(file: Path, content: object, words: str) -> None:
    before = Change.objects.count()

    with pytest.raises(CommandError, match=words):
        run(file, content)

    assert Change.objects.count() == before


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("apply_config", str(tmp_path / "nothing.json"))
