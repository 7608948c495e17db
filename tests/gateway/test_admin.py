"""The admin of deployments and credentials."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from budgets.snapshots import GLOBAL_SCOPE
from gateway import connection_test, services, vault
from gateway.admin.deployments import DeploymentForm, _listed_prices
from gateway.models import Credential, Deployment
from spend import pricebook
from spend.models import Model, PriceRate, PriceVersion, Provider
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, errors_of, login, raises_version, save, text_of
from tests.conftest import Cast

SECRET = "upstream-secret-4711"


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def deployment() -> Deployment:
    return services.create_deployment(values=values(), api_key=SECRET)


def values(**fields: Any) -> dict[str, Any]:
    return {
        "model_name": f"model-{uuid.uuid4().hex}",
        "provider": "nobody",
        "upstream_model": "upstream",
        "api_base": "https://api.example.com/v1",
        **fields,
    }


def priced(provider: str, name: str, **fields: Any) -> PriceVersion:
    known, _ = Provider.objects.get_or_create(slug=provider, defaults={"name": provider})
    model = Model.objects.create(provider=known, name=name, **fields)
    version = PriceVersion.objects.create(
        model=model, effective_from=datetime.now(UTC) - timedelta(days=1), source="test"
    )
    PriceRate.objects.create(version=version, component="input", rate=Decimal("0.000003"))
    return version


@pytest.mark.parametrize("model", [Credential, Deployment], ids=lambda model: model.__name__)
def test_every_page_opens_for_a_superuser_and_for_nobody_else(
    model: Any, deployment: Deployment, root: Client
) -> None:
    obj = deployment if model is Deployment else deployment.credential
    nobody = login(admin_site.staff())

    for page in Pages(model).all_of(obj):
        answer = root.get(page)
        assert answer.status_code == 200, page
        assert admin_site.links_out(text_of(answer)) in ([], [deployment.api_base])
        assert SECRET not in text_of(answer)
        assert nobody.get(page).status_code == 403, page


@pytest.mark.parametrize("model", [Credential, Deployment], ids=lambda model: model.__name__)
def test_who_may_only_view_sees_the_pages_and_no_way_to_save(
    model: Any, deployment: Deployment
) -> None:
    obj: Any = deployment if model is Deployment else deployment.credential
    reader = login(admin_site.staff(f"gateway.view_{model._meta.model_name}"))

    page = reader.get(Pages(model).url("change", obj.pk))

    assert page.status_code == 200
    assert 'name="_save"' not in text_of(page)
    assert SECRET not in text_of(page)


@pytest.mark.parametrize("model", [Credential, Deployment], ids=lambda model: model.__name__)
def test_lists_ask_the_database_a_few_times_however_long_they_are(model: Any, root: Client) -> None:
    for number in range(8):
        priced("many", f"{uuid.uuid4().hex}-{number}")
        services.create_deployment(
            values=values(provider="many", upstream_model=str(number)), api_key="k"
        )

    with admin_site.few_queries():
        assert root.get(Pages(model).url("changelist")).status_code == 200


def test_a_deployment_made_here_has_its_key_sealed_and_its_rates_exact(root: Client) -> None:
    name = f"model-{uuid.uuid4().hex}"

    with raises_version(GLOBAL_SCOPE):
        answer = save(
            root, Pages(Deployment).url("add"), model_name=name, provider="openai",
            upstream_model="gpt", api_key=SECRET, input_cost_per_token="0.1",
            output_cost_per_token="2.000000000001", input_cost_per_request="0.01",
        )  # fmt: skip

    made = Deployment.objects.get(model_name=name)
    assert answer.status_code == 302
    assert made.api_base == "https://api.openai.com/v1"
    assert made.price_override == {
        "input_cost_per_token": "0.0000001",
        "output_cost_per_token": "0.000002000000000001",
        "input_cost_per_request": "0.01",
    }
    assert made.credential is not None
    assert made.credential.host == "api.openai.com:443"
    unsealed = vault.unseal(
        bytes(made.credential.secret), bound_to="api.openai.com:443", api_base=made.api_base
    )
    assert unsealed == SECRET


def test_a_form_saved_as_it_is_keeps_rates_and_key(deployment: Deployment, root: Client) -> None:
    services.update_deployment(
        deployment=deployment,
        values={"price_override": {"input_cost_per_token": "0.000000000000000001"}},
        api_key=None,
    )
    before = deployment.credential_id

    answer = save(root, Pages(Deployment).url("change", deployment.pk))

    deployment.refresh_from_db()
    assert answer.status_code == 302
    assert deployment.price_override == {"input_cost_per_token": "0.000000000000000001"}
    assert deployment.credential_id == before


def test_tags_version_and_what_becomes_of_answers_are_set_in_the_form(
    deployment: Deployment, root: Client
) -> None:
    url = Pages(Deployment).url("change", deployment.pk)

    save(
        root, url, tags="eu\n gdpr \n", api_version="2025-04-01-preview",
        when_client_leaves="cancel",
    )  # fmt: skip

    deployment.refresh_from_db()
    assert deployment.tags == ["eu", "gdpr"]
    assert deployment.api_version == "2025-04-01-preview"
    assert deployment.when_client_leaves == "cancel"
    save(root, url)
    deployment.refresh_from_db()
    assert deployment.tags == ["eu", "gdpr"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"tags": "\n".join(str(n) for n in range(17))}, "tags"),
        ({"tags": "é" * 129}, "tags"),
        ({"api_version": "2025 04"}, "api_version"),
        ({"when_client_leaves": "wait"}, "when_client_leaves"),
    ],
)
def test_what_does_not_fit_of_them_is_told_at_its_field(
    changed: dict[str, str], field: str, deployment: Deployment, root: Client
) -> None:
    answer = save(root, Pages(Deployment).url("change", deployment.pk), **changed)

    assert field in errors_of(answer)
    kept = Deployment.objects.get(pk=deployment.pk)
    assert (kept.tags, kept.api_version, kept.when_client_leaves) == ([], "", "drain")


def test_every_rate_that_a_deployment_may_have_has_its_input() -> None:
    assert set(pricebook.OVERRIDE_FIELDS) <= set(DeploymentForm.base_fields)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"api_base": ""}, "api_base"),
        ({"api_base": "ftp://api.example.com"}, "api_base"),
        ({"api_base": "https://user:pass@api.example.com/v1"}, "api_base"),
        ({"api_base": "https://api.example.com/v1?a=b"}, "api_base"),
        ({"api_base": "https://other.example.com/v1"}, "api_key"),
        ({"input_cost_per_token": "-1"}, "input_cost_per_token"),
        ({"input_cost_per_token": "1000001"}, "input_cost_per_token"),
        ({"weight": "0"}, "weight"),
        ({"weight": "1001"}, "weight"),
        ({"api_key": "two\nlines"}, "api_key"),
    ],
)
def test_what_does_not_fit_is_said_at_its_field(
    changed: dict[str, str], field: str, deployment: Deployment, root: Client
) -> None:
    answer = save(root, Pages(Deployment).url("change", deployment.pk), **changed)

    assert list(errors_of(answer)) == [field]


def test_the_page_says_for_which_host_the_key_was_saved(
    deployment: Deployment, root: Client
) -> None:
    page = text_of(root.get(Pages(Deployment).url("change", deployment.pk)))

    assert "Saved for api.example.com:443" in page
    assert 'type="password"' in page


def test_the_page_says_which_price_applies_now(root: Client) -> None:
    provider = f"p-{uuid.uuid4().hex}"
    version = priced(provider, "listed", prefixes=["listed-"])
    own = {"input_cost_per_token": "0.000009"}
    wanted = (
        (values(provider=provider, upstream_model="listed"), "USD 3 in"),
        (values(provider=provider, upstream_model="listed-2026"), "USD 3 in"),
        (values(provider=provider, upstream_model="listed", price_override=own), "USD 9 in"),
        (values(provider=provider, upstream_model="unlisted"), "Unpriced"),
    )

    for fields, told in wanted:
        made = services.create_deployment(values=fields, api_key=None)
        page = text_of(root.get(Pages(Deployment).url("change", made.pk)))
        row = text_of(root.get(Pages(Deployment).url("changelist"), {"q": made.public_id}))
        assert told in page
        assert told in row
    assert Pages(PriceVersion).url("change", version.pk)


def test_the_price_that_is_shown_is_the_one_that_the_gateway_takes() -> None:
    provider, now = f"p-{uuid.uuid4().hex}", datetime.now(UTC)
    priced(provider, "exact")
    priced(provider, "longer-name", other_names=["alias"])
    priced(provider, "short", other_names=["alias"])
    priced(provider, "by-prefix", prefixes=["pre", "prefix-"])
    priced(provider, "by-longer-prefix", prefixes=["prefix-long"])
    names = ("exact", "alias", "prefix-long-1", "prefix-1", "pre", "exact-no", "none")
    rows = [
        services.create_deployment(
            values=values(provider=provider, upstream_model=name), api_key=None
        )
        for name in names
    ]

    shown = _listed_prices(rows)

    for row in rows:
        listed = pricebook.listed(provider=provider, name=row.upstream_model)
        taken = listed.price_at(now) if listed else None
        version = shown[row.pk]
        assert (taken.reference if taken else None) == (f"price:{version.pk}" if version else None)


def test_deleting_a_deployment_counts_at_once(deployment: Deployment, root: Client) -> None:
    with raises_version(GLOBAL_SCOPE):
        answer = root.post(Pages(Deployment).url("delete", deployment.pk), {"post": "yes"})

    assert answer.status_code == 302
    assert not Deployment.objects.filter(pk=deployment.pk).exists()
    assert not Credential.objects.filter(name__contains=deployment.model_name).exists()


def test_a_credential_in_use_is_not_deleted(deployment: Deployment, root: Client) -> None:
    page = root.post(Pages(Credential).url("delete", deployment.credential_id), {"post": "yes"})

    assert page.status_code == 200
    assert Credential.objects.filter(name__contains=deployment.model_name).exists()


def test_a_secret_is_replaced_and_never_shown(deployment: Deployment, root: Client) -> None:
    assert deployment.credential is not None
    url = Pages(Credential).url("change", deployment.credential.pk)

    with raises_version(GLOBAL_SCOPE):
        save(root, url, new_secret="another")
    kept = Credential.objects.get(pk=deployment.credential.pk)
    save(root, url, name="Renamed")

    renamed = Credential.objects.get(pk=deployment.credential.pk)
    unsealed = vault.unseal(bytes(renamed.secret), bound_to=kept.host, api_base=deployment.api_base)
    assert unsealed == "another"
    assert renamed.name == "Renamed"
    assert "another" not in text_of(root.get(url))
    assert "a secret was replaced" in text_of(root.get(Pages(Credential).url("history", kept.pk)))


def test_a_credential_is_only_made_with_a_deployment(root: Client) -> None:
    assert root.get(Pages(Credential).url("add")).status_code == 403


@pytest.mark.parametrize("ok", [True, False])
def test_a_connection_is_tested_only_when_asked(
    ok: bool, deployment: Deployment, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[Deployment] = []

    def run(*, deployment: Deployment) -> connection_test.Result:
        tested.append(deployment)
        return connection_test.Result(ok=ok, detail=HOSTILE)

    monkeypatch.setattr(connection_test, "run", run)
    url = reverse("admin:gateway_deployment_test_connection", args=[deployment.pk])

    asked = text_of(root.get(url))
    assert tested == []
    answer = text_of(root.post(url))

    assert tested == [deployment]
    assert "Test now" in asked
    assert ("It works." if ok else "It does not work.") in answer
    assert "<script>alert(1)" not in answer


def test_a_connection_is_not_tested_by_who_may_only_view(deployment: Deployment) -> None:
    reader = login(admin_site.staff("gateway.view_deployment"))

    url = reverse("admin:gateway_deployment_test_connection", args=[deployment.pk])

    assert reader.post(url).status_code == 403


def test_a_hostile_model_name_is_text_on_every_page(cast: Cast, root: Client) -> None:
    made = services.create_deployment(
        values=values(model_name=HOSTILE, upstream_model=HOSTILE), api_key="k"
    )

    for obj in (made, made.credential):
        for page in Pages(type(obj)).all_of(obj):
            assert "<script>alert(1)" not in text_of(root.get(page)), page
