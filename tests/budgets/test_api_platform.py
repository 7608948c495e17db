"""What all organizations together may spend on a provider, a model, a deployment."""

from decimal import Decimal
from typing import Any, Final

import pytest

from budgets import queries, snapshots
from budgets.models import Account, AccountKind
from budgets.periods import FOREVER
from gateway.models import Deployment
from tests.api_client import Api, live_counter, master, new_id
from tests.budgets.test_api_parallel import AT_ONCE, at_once
from tests.conftest import Cast

api = master
RATES: Final = {"rpm_limit": 9, "tpm_limit": 90, "max_parallel_requests": 3}


def only(told: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: told[name] for name in names}


def account_id(kind: AccountKind, text: str) -> Any:
    return queries.platform_account_id(kind, text)


def new_deployment() -> Deployment:
    made = api().made(
        "/model/new",
        model_name=new_id("model"),
        litellm_params={"model": "openai/gpt-4o", "api_base": "http://127.0.0.1:1/v1"},
    )
    return Deployment.objects.get(public_id=made["model_id"])


# --- Providers -------------------------------------------------------------------------
def test_a_provider_is_limited_in_litellms_words_and_the_gateway_reads_it() -> None:
    name = new_id("provider")[:60]

    set_to = api().made(
        "/provider/budgets",
        **{name: {"budget_limit": 1000, "time_period": "30d", "enforcement": "strict", **RATES}},
    )["providers"][name]
    told = api().told("/provider/budgets")["providers"][name]

    assert only(told, ("budget_limit", "time_period", "spend", "enforcement", *RATES)) == {
        "budget_limit": 1000, "time_period": "1mo", "spend": 0, "enforcement": "strict", **RATES,
    }  # fmt: skip
    assert told["budget_reset_at"] == set_to["budget_reset_at"] is not None
    (terms,) = snapshots.platform_terms()[account_id(AccountKind.PROVIDER, name)]
    assert terms.max_budget == Decimal(1000)
    assert terms.rpm_limit == 9


def test_an_entry_replaces_a_providers_budget_and_null_ends_it() -> None:
    name, other = new_id("provider")[:60], new_id("provider")[:60]
    api().made("/provider/budgets", **{name: {"max_budget": 5, **RATES}, other: {"max_budget": 6}})

    replaced = api().made("/provider/budgets", **{name: {"max_budget": 7}})["providers"]
    ended = api().made("/provider/budgets", **{name: None})["providers"]

    assert replaced[name]["budget_limit"] == 7
    assert replaced[name]["rpm_limit"] is None
    assert name not in ended
    assert ended[other]["budget_limit"] == 6


def test_what_a_provider_spent_is_its_live_counter() -> None:
    name = new_id("provider")[:60]
    api().made("/provider/budgets", **{name: {"max_budget": 5}})

    with live_counter(account_id(AccountKind.PROVIDER, name), FOREVER, 10**9):
        told = api().told("/provider/budgets")["providers"][name]

    assert told["spend"] == 1
    assert told["currency"] == "USD"


def test_one_bad_entry_leaves_all_providers_as_they_were() -> None:
    name = new_id("provider")[:60]

    reply = api().post("/provider/budgets", {name: {"max_budget": 5}, "x": {"max_budget": -1}})

    assert (reply.status, reply.error["param"]) == (400, "x.max_budget")
    assert name not in api().told("/provider/budgets")["providers"]


# --- Models and deployments ------------------------------------------------------------
def test_a_model_is_limited_changed_listed_and_freed() -> None:
    model = new_id("a model/")

    made = api().made("/api/v1/model-budgets", model=model, max_budget="1000.500", **RATES)
    changed = api().made("/api/v1/model-budgets", model=model, rpm_limit=None)
    listed = api().told("/api/v1/model-budgets")
    deleted = api().made("/api/v1/model-budgets/delete", model=model)
    again = api().post("/api/v1/model-budgets/delete", {"model": model})

    assert (made["max_budget"], made["spend"]) == ("1000.5", "0")
    assert only(made, RATES) == RATES
    assert (changed["max_budget"], changed["rpm_limit"]) == ("1000.5", None)
    assert model in {each["model"] for each in listed}
    assert deleted["max_budget"] == "1000.5"
    assert (again.status, again.error["param"]) == (404, "model")
    assert account_id(AccountKind.MODEL, model) not in snapshots.platform_terms()


def test_a_model_that_nothing_would_limit_is_refused() -> None:
    model = new_id("model")
    api().made("/api/v1/model-budgets", model=model, max_budget="1")

    replies = [
        api().post("/api/v1/model-budgets", {"model": new_id("model")}),
        api().post("/api/v1/model-budgets", {"model": model, "max_budget": None}),
    ]

    assert [(each.status, each.error["param"]) for each in replies] == [(400, "max_budget")] * 2


def test_a_deployment_is_limited_by_its_id() -> None:
    deployment = new_deployment()
    id = {"deployment_id": deployment.public_id}

    made = api().made("/api/v1/deployment-budgets", **id, max_budget="2", budget_duration="1d")
    listed = api().told("/api/v1/deployment-budgets")
    account = Account.objects.get(id=account_id(AccountKind.DEPLOYMENT, deployment.public_id))
    deleted = api().made("/api/v1/deployment-budgets/delete", **id)

    assert made["deployment_id"] == deleted["deployment_id"] == deployment.public_id
    assert made["budget_duration"] == "1d"
    assert deployment.public_id in {each["deployment_id"] for each in listed}
    assert account.label == str(deployment)


def test_a_deployment_that_there_is_not_cannot_be_limited() -> None:
    unknown = {"deployment_id": new_id("deployment")}

    limited = api().post("/api/v1/deployment-budgets", {**unknown, "max_budget": "1"})
    freed = api().post("/api/v1/deployment-budgets/delete", unknown)

    assert (limited.status, limited.error["param"]) == (404, "deployment_id")
    assert (freed.status, freed.error["param"]) == (404, "deployment_id")


def test_changes_of_one_model_at_once_are_all_kept() -> None:
    model = new_id("model")
    changes: list[dict[str, Any]] = [{"max_budget": "1"}, *({name: n} for name, n in RATES.items())]

    replies = at_once(
        [
            lambda api, change=change: api.post(  # type: ignore[misc]  # a default is no argument
                "/api/v1/model-budgets", {"model": model, **change}
            )
            for change in changes[:AT_ONCE]
        ]
    )

    assert [reply.status for reply in replies] == [200] * len(changes)
    (told,) = [each for each in api().told("/api/v1/model-budgets") if each["model"] == model]
    assert only(told, RATES) == RATES
    assert told["max_budget"] == "1"


def test_a_budget_of_the_platform_is_none_of_the_shared_ones(cast: Cast) -> None:
    model = new_id("model")
    api().made("/api/v1/model-budgets", model=model, max_budget="1")
    budget = queries.own_budget(account_id(AccountKind.MODEL, model))
    assert budget is not None

    replies = [
        api().post("/budget/update", {"budget_id": budget.public_id, "max_budget": 2}),
        api().post("/budget/info", {"budgets": [budget.public_id]}),
        api().post("/budget/delete", {"id": budget.public_id}),
        api().post("/key/generate", {"budget_id": budget.public_id}),
    ]

    assert [reply.status for reply in replies] == [404] * 4


@pytest.mark.parametrize(
    "path", ["/provider/budgets", "/api/v1/model-budgets", "/api/v1/deployment-budgets"]
)
def test_only_the_master_key_is_told(cast: Cast, path: str) -> None:
    assert Api(cast.key().secret).get(path).status == 403
    assert Api(cast.key().secret).post(path, {}).status == 403
