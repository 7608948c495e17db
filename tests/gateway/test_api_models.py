"""Deployments through the management API."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gateway import vault
from gateway.api.models import ModelParams
from gateway.models import Credential, Deployment
from spend.components import Component
from spend.models import Model, PriceRate, PriceVersion, Provider
from spend.pricebook import OVERRIDE_FIELDS, find_model
from spend.queries import models_named
from tests.api_client import master, new_id
from tests.conftest import Cast

api = master
HOST = "https://models.example.com/v1"


def make(name: str = "", **params: Any) -> dict[str, Any]:
    return api().made(
        "/model/new",
        model_name=name or new_id("model"),
        litellm_params={"model": "openai/gpt-4o", **params},
    )


def info_of(made: dict[str, Any]) -> dict[str, Any]:
    (told,) = api().told("/model/info", litellm_model_id=made["model_id"])["data"]
    info: dict[str, Any] = told
    return info


def test_a_deployment_is_made_with_its_credential_which_is_never_shown() -> None:
    made = make(api_base=HOST, api_key="sk-upstream-secret")

    told = api().get("/model/info", {"litellm_model_id": made["model_id"]})

    deployment = Deployment.objects.get(public_id=made["model_id"])
    assert deployment.credential is not None
    assert (deployment.provider, deployment.upstream_model) == ("openai", "gpt-4o")
    secret = deployment.credential.secret
    assert "sk-upstream-secret" not in str(made) + told.text
    assert b"sk-upstream-secret" not in bytes(secret)
    assert vault.unseal(bytes(secret), bound_to=deployment.credential.host, api_base=HOST) == (
        "sk-upstream-secret"
    )


def secret_of(made: dict[str, Any]) -> tuple[Deployment, str]:
    deployment = Deployment.objects.get(public_id=made["model_id"])
    kept = deployment.credential
    assert kept is not None
    secret = bytes(kept.secret)
    return deployment, vault.unseal(secret, bound_to=kept.host, api_base=deployment.api_base)


def test_vertex_ai_is_made_of_project_location_and_a_service_accounts_key() -> None:
    account = {"client_email": "a@b.test", "private_key": "-----BEGIN\nKEY"}

    made = make(
        model="vertex_ai/gemini-2.5-pro", vertex_project="my-project",
        vertex_location="europe-west1", vertex_credentials=account,
    )  # fmt: skip

    deployment, secret = secret_of(made)
    assert (deployment.provider, deployment.upstream_model) == ("google", "gemini-2.5-pro")
    assert deployment.api_base == (
        "https://europe-west1-aiplatform.googleapis.com/v1/projects/my-project"
        "/locations/europe-west1/endpoints/openapi"
    )
    assert orjson.loads(secret) == account


def test_bedrock_is_made_of_a_region_and_an_access_key() -> None:
    keys = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret"}

    made = make(model="bedrock/openai.gpt-oss-120b-1:0", aws_region_name="eu-west-1", **keys)

    deployment, secret = secret_of(made)
    assert deployment.provider == "aws"
    assert deployment.api_base == "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1"
    assert orjson.loads(secret) == keys


def test_azure_keeps_its_api_version() -> None:
    made = make(
        model="azure/my-gpt", api_base="https://r.openai.azure.com", api_version="2025-04-01"
    )

    assert made["litellm_params"]["api_version"] == "2025-04-01"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"vertex_project": "p"}, "vertex_project"),
        ({"model": "vertex_ai/gemini", "vertex_project": "p"}, "vertex_location"),
        ({"model": "vertex_ai/gemini", "vertex_location": "l"}, "vertex_project"),
        ({"model": "vertex_ai/g", "vertex_project": "p/../q", "vertex_location": "l"},
         "vertex_project"),
        ({"aws_region_name": "eu-west-1"}, "aws_region_name"),
        ({"model": "bedrock/m", "aws_region_name": "x", "aws_access_key_id": "A"},
         "aws_secret_access_key"),
        ({"model": "bedrock/m", "aws_region_name": "x", "aws_access_key_id": "A",
          "aws_secret_access_key": "B", "api_key": "C"}, "api_key"),
        ({"model": "azure/m", "api_base": HOST, "api_version": "a b"}, "api_version"),
        ({"model": "vertex_ai/g", "api_base": HOST, "vertex_credentials": "{"}, "api_key"),
    ],
)  # fmt: skip
def test_a_place_that_does_not_fit_makes_no_deployment(params: dict[str, Any], field: str) -> None:
    before = Deployment.objects.count()

    reply = api().post(
        "/model/new",
        {"model_name": new_id("m"), "litellm_params": {"model": "openai/gpt-4o", **params}},
    )

    assert (reply.status, reply.error["param"]) == (400, f"litellm_params.{field}")
    assert Deployment.objects.count() == before


def test_the_version_one_path_tells_the_same() -> None:
    made = make()

    bare = api().told("/model/info", litellm_model_id=made["model_id"])
    versioned = api().told("/v1/model/info", litellm_model_id=made["model_id"])

    assert bare == versioned


def test_a_provider_that_is_known_needs_no_address() -> None:
    assert make()["litellm_params"]["api_base"] == "https://api.openai.com/v1"


def test_a_provider_that_is_not_known_needs_one() -> None:
    reply = api().post("/model/new", {"model_name": "m", "litellm_params": {"model": "acme/large"}})

    assert (reply.status, reply.error["param"]) == (400, "litellm_params.api_base")


@pytest.mark.parametrize(
    ("params", "provider", "upstream"),
    [
        ({"model": "openai/gpt-4o"}, "openai", "gpt-4o"),
        ({"model": "openrouter/meta/llama"}, "openrouter", "meta/llama"),
        ({"model": "gpt-4o", "custom_llm_provider": "openai"}, "openai", "gpt-4o"),
        ({"model": "openai/gpt-4o", "custom_llm_provider": "openai"}, "openai", "gpt-4o"),
        ({"model": "meta/llama", "custom_llm_provider": "groq"}, "groq", "meta/llama"),
    ],
)
def test_the_provider_is_before_the_slash_or_named(
    params: dict[str, str], provider: str, upstream: str
) -> None:
    made = make(**params)

    deployment = Deployment.objects.get(public_id=made["model_id"])
    assert (deployment.provider, deployment.upstream_model) == (provider, upstream)


@pytest.mark.parametrize("model", ["gpt-4o", "openai/", "/gpt-4o", "öpenai/gpt", "a b/c"])
def test_without_a_provider_no_deployment_is_made(model: str) -> None:
    reply = api().post("/model/new", {"model_name": "m", "litellm_params": {"model": model}})

    assert (reply.status, reply.error["param"]) == (400, "litellm_params.model")


@pytest.mark.parametrize(
    "address",
    [
        "ftp://models.example.com", "models.example.com", "https://", "https://u:p@h/v1",
        "https://h/v1?key=1", "http://[::1", "http://h:99999", "http://h:x", "http://h:0",
        "http://ｈ/v1", "http://h /v1", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_an_address_must_be_a_plain_url(address: str) -> None:
    reply = api().post(
        "/model/new",
        {"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": address}},
    )

    assert (reply.status, reply.error["param"]) == (400, "litellm_params.api_base")


def test_a_variables_name_is_no_credential() -> None:
    reply = api().post(
        "/model/new",
        {
            "model_name": "m",
            "litellm_params": {"model": "openai/m", "api_key": "os.environ/OPENAI_API_KEY"},
        },
    )

    assert (reply.status, reply.error["param"]) == (400, "litellm_params.api_key")


def test_prices_of_its_own_are_exact_and_come_first() -> None:
    reply = api().post(
        "/model/new",
        '{"model_name": "m", "litellm_params": {"model": "openai/gpt-4o",'
        ' "input_cost_per_token": 0.000000000000000001, "output_cost_per_token": 0}}',
    )

    info = info_of(reply.content)["model_info"]

    assert '"input_cost_per_token":0.000000000000000001' in reply.text
    assert info["price_source"] == "deployment"
    assert info["input_cost_per_token"] == Decimal("1e-18")
    assert info["output_cost_per_token"] == 0
    assert "cache_read_input_token_cost" not in info


def test_the_price_lists_price_is_told_with_its_source(cast: Cast) -> None:
    name = new_id("upstream")
    model = Model.objects.create(
        provider=Provider.objects.get(slug="openai"),
        name=name,
        context_window=1_000,
        output_tokens_max=100,
    )
    for days, rate in ((2, "0.5"), (1, "0.25"), (-1, "9")):
        version = PriceVersion.objects.create(
            model=model,
            effective_from=datetime.now(UTC) - timedelta(days=days),
            source="contract",
        )
        PriceRate.objects.create(version=version, component=Component.INPUT, rate=Decimal(rate))

    info = info_of(make(model=f"openai/{name}"))["model_info"]

    assert (info["price_source"], info["price_currency"]) == ("contract", "USD")
    assert info["input_cost_per_token"] == Decimal("0.25")
    assert (info["max_input_tokens"], info["max_output_tokens"]) == (1_000, 100)


def test_a_model_without_a_price_says_so() -> None:
    assert info_of(make(model=f"openai/{new_id('m')}"))["model_info"]["price_source"] is None


def test_bounds_and_id_are_those_that_are_given() -> None:
    model_id = new_id("deployment")
    made = api().made(
        "/model/new",
        model_name="m",
        litellm_params={"model": "openai/gpt-4o", "weight": 3},
        model_info={"id": model_id, "max_input_tokens": 10, "max_tokens": 5, "mode": "chat"},
        blocked=True,
    )

    told = info_of(made)
    info = told["model_info"]

    assert made["model_id"] == info["id"] == model_id
    assert (info["max_input_tokens"], info["max_output_tokens"], info["max_tokens"]) == (10, 5, 5)
    assert info["mode"] == "chat"
    assert (told["litellm_params"]["weight"], told["blocked"]) == (3, True)


def test_a_deployment_may_be_of_one_organization(cast: Cast) -> None:
    made = api().made(
        "/model/new",
        model_name="m",
        litellm_params={"model": "openai/gpt-4o"},
        model_info={"organization_id": cast.organization.public_id},
    )

    assert made["model_info"]["organization_id"] == cast.organization.public_id
    unknown = api().post(
        "/model/new",
        {
            "model_name": "m",
            "litellm_params": {"model": "openai/gpt-4o"},
            "model_info": {"organization_id": new_id("org")},
        },
    )
    assert (unknown.status, unknown.error["param"]) == (404, "model_info.organization_id")


def test_tags_say_which_requests_go_there() -> None:
    made = make(tags=["eu", "gdpr"])

    assert Deployment.objects.get(public_id=made["model_id"]).tags == ["eu", "gdpr"]
    assert info_of(made)["litellm_params"]["tags"] == ["eu", "gdpr"]
    assert "tags" not in make()["litellm_params"]


@pytest.mark.parametrize("tags", [["a", "a"], [str(n) for n in range(17)], [""], ["é" * 129]])
def test_tags_are_bounded_and_each_there_once(tags: list[str]) -> None:
    name = new_id("model")
    body = {"model_name": name, "litellm_params": {"model": "openai/m", "tags": tags}}

    reply = api().post("/model/new", body)

    assert (reply.status, reply.error["param"][:19]) == (400, "litellm_params.tags")
    assert not Deployment.objects.filter(model_name=name).exists()


def test_limits_beside_its_parameters_are_the_deployments_budget() -> None:
    limits: dict[str, Any] = {"rpm": 60, "tpm": 100_000, "max_budget": 12, "budget_duration": "30d"}

    made = make(**limits)

    told = info_of(made)["litellm_params"]
    assert {name: told[name] for name in limits} == {**limits, "budget_duration": "1mo"}
    listed = api().told("/api/v1/deployment-budgets", size=100)
    (budget,) = [each for each in listed if each["deployment_id"] == made["model_id"]]
    assert (budget["rpm_limit"], budget["tpm_limit"]) == (60, 100_000)
    assert (budget["max_budget"], budget["budget_duration"]) == ("12", "1mo")


@pytest.mark.parametrize(
    ("params", "field"),
    [({"budget_duration": "1d"}, "budget_duration"), ({"tags": ["a", "a"], "rpm": 1}, "tags")],
)
def test_limits_that_do_not_fit_make_no_deployment(params: dict[str, Any], field: str) -> None:
    name = new_id("model")

    reply = api().post(
        "/model/new", {"model_name": name, "litellm_params": {"model": "openai/m", **params}}
    )

    assert (reply.status, reply.error["param"]) == (400, f"litellm_params.{field}")
    assert not Deployment.objects.filter(model_name=name).exists()


def test_an_id_is_taken_once() -> None:
    body = {
        "model_name": "m",
        "litellm_params": {"model": "openai/gpt-4o"},
        "model_info": {"id": new_id("deployment")},
    }
    api().made("/model/new", **body)

    reply = api().post("/model/new", body)

    assert (reply.status, reply.error["code"]) == (400, "already_exists")
    assert reply.error["param"] == "model_info.id"


def test_a_deployment_is_deleted_with_its_credential() -> None:
    made = make(api_base=HOST, api_key="secret")
    credential = Deployment.objects.get(public_id=made["model_id"]).credential

    deleted = api().made("/model/delete", id=made["model_id"])

    assert deleted == {"message": f"Model: {made['model_id']} deleted successfully"}
    assert credential is not None
    assert not Credential.objects.filter(pk=credential.pk).exists()
    assert api().post("/model/delete", {"id": made["model_id"]}).status == 404
    assert api().get("/model/info", {"litellm_model_id": made["model_id"]}).status == 404


def test_every_price_field_can_be_given() -> None:
    assert set(OVERRIDE_FIELDS) <= set(ModelParams().fields)


def test_more_deployments_take_no_more_queries() -> None:
    make()
    with CaptureQueriesContext(connection) as of_few:
        api().told("/model/info")
    for _ in range(3):
        make(model=f"openai/{new_id('m')}")

    with CaptureQueriesContext(connection) as of_more:
        api().told("/model/info")

    assert len(of_more) == len(of_few) <= 6


def test_many_models_are_found_as_the_price_book_finds_one() -> None:
    provider, _ = Provider.objects.get_or_create(slug=new_id("p")[:60], defaults={"name": "P"})
    for name, others, prefixes in (
        ("base", ["alias", "shared"], ["base-"]),
        ("base-long", ["shared"], ["base-long-", "x-"]),
        ("x", [], ["x-y-"]),
    ):
        Model.objects.create(provider=provider, name=name, other_names=others, prefixes=prefixes)
    names = (
        "base", "alias", "shared", "base-1", "base-long", "base-long-2", "x-1", "x-y-2", "none",
    )  # fmt: skip

    found = models_named((provider.slug, name) for name in names)

    for name in names:
        assert found.get((provider.slug, name)) == find_model(provider=provider.slug, name=name)
