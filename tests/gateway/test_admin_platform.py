"""Budgets of models, providers and deployments: accounts made when the first is set."""

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from budgets.models import PLATFORM, Account, AccountKind, Budget, derived_account_id
from gateway.models import Deployment
from spend.models import Provider
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, login, raises_version, save, text_of

PAGE = reverse("platform_budgets")
OPEN = reverse("admin:budgets_account_platform")


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def deployment() -> Deployment:
    return new_deployment()


def new_deployment(**fields: Any) -> Deployment:
    # Of those that other tests have left, the page shows the first two hundred by name.
    name = f"0-{uuid.uuid4().hex[:12]}"
    row = {
        "model_name": name, "provider": f"0p-{name}", "upstream_model": "m",
        "api_base": "https://example.com/v1",
    }  # fmt: skip
    return Deployment.objects.create(**(row | fields))


def account_of(kind: AccountKind, text: str) -> Account | None:
    id = derived_account_id(organization_id=PLATFORM, kind=kind, text=text)
    return Account.objects.filter(pk=id).first()


def test_the_page_lists_models_providers_and_deployments_and_makes_no_account(
    deployment: Deployment, root: Client
) -> None:
    page = text_of(root.get(PAGE))

    assert deployment.model_name in page
    assert f'value="{deployment.provider}"' in page
    assert f'value="{deployment.public_id}"' in page
    assert account_of(AccountKind.PROVIDER, deployment.provider) is None


@pytest.mark.parametrize("kind", [AccountKind.MODEL, AccountKind.PROVIDER, AccountKind.DEPLOYMENT])
def test_an_account_is_made_when_its_first_limit_is_to_be_set(
    kind: AccountKind, deployment: Deployment, root: Client
) -> None:
    text = {
        AccountKind.MODEL: deployment.model_name,
        AccountKind.PROVIDER: deployment.provider,
        AccountKind.DEPLOYMENT: deployment.public_id,
    }[kind]

    answer = root.post(OPEN, {"kind": kind.value, "text": text, "label": f"the {text}"})
    again = root.post(OPEN, {"kind": kind.value, "text": text, "label": "another"})
    made = account_of(kind, text)
    assert made is not None
    with raises_version(PLATFORM):
        save(root, answer["Location"], max_budget="40", budget_duration="1d", tpm_limit="9")

    own = Budget.objects.get(private_to=made)
    page = text_of(root.get(PAGE))
    assert answer["Location"] == again["Location"] == Pages(Account).url("change", made.pk)
    assert (made.organization, made.label) == (None, f"the {text}")
    assert (own.organization, own.tpm_limit) == (None, 9)
    assert answer["Location"] in page
    assert "USD 0.00 of USD 40.00 a day" in page


def test_a_deployments_page_leads_to_the_three_and_back(
    deployment: Deployment, root: Client
) -> None:
    answer = root.post(
        OPEN, {"kind": "deployment", "text": deployment.public_id, "label": str(deployment)}
    )

    page = text_of(root.get(Pages(Deployment).url("change", deployment.pk)))

    assert answer["Location"] in page
    assert page.count("Set a limit") == 2
    assert Pages(Deployment).url("change", deployment.pk) in text_of(root.get(answer["Location"]))


def test_a_providers_page_leads_to_its_account_and_back(root: Client) -> None:
    provider = Provider.objects.create(slug=f"p-{uuid.uuid4().hex}", name="Provider")
    answer = root.post(OPEN, {"kind": "provider", "text": provider.slug, "label": provider.slug})

    page = text_of(root.get(Pages(Provider).url("change", provider.pk)))

    assert answer["Location"] in page
    assert Pages(Provider).url("change", provider.pk) in text_of(root.get(answer["Location"]))


def test_only_who_may_change_accounts_opens_one(deployment: Deployment) -> None:
    sent = {"kind": "provider", "text": deployment.provider}
    reader = login(admin_site.staff("budgets.view_account"))

    assert reader.get(PAGE).status_code == 200
    assert "Set a limit" not in text_of(reader.get(PAGE))
    assert reader.post(OPEN, sent).status_code == 403
    assert login(admin_site.staff()).get(PAGE).status_code == 403
    assert account_of(AccountKind.PROVIDER, deployment.provider) is None


@pytest.mark.parametrize(
    "sent",
    [{}, {"kind": "team", "text": "x"}, {"kind": "model"}, {"kind": "model", "text": "x" * 256},
     {"kind": "model", "text": "a\x00b"}],
)  # fmt: skip
def test_what_is_no_model_or_provider_makes_nothing(sent: dict[str, str], root: Client) -> None:
    before = Account.objects.count()

    assert root.post(OPEN, sent).status_code == 400
    assert root.get(OPEN, sent).status_code == 400
    assert Account.objects.count() == before


def test_the_page_asks_a_few_times_however_many_there_are(root: Client) -> None:
    counted = []
    for _ in range(2):
        for _ in range(5):
            one = new_deployment()
            root.post(OPEN, {"kind": "provider", "text": one.provider, "label": one.provider})
        counted.append(admin_site.queries_of(lambda: root.get(PAGE)))

    assert counted[0] == counted[1]
    assert counted[1] <= admin_site.QUERIES_MAX


def test_a_hostile_name_is_text_there_too(root: Client) -> None:
    new_deployment(model_name=HOSTILE)

    page = text_of(root.get(PAGE))

    assert "<script>alert(1)" not in page
    assert admin_site.links_out(page) == []
