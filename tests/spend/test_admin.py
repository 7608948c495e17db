"""The admin of the price book, and of the ledger, which nobody can change."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from budgets import money
from budgets.models import Account, BudgetTemplate, Organization
from budgets.services.accounts import Terms, set_template
from budgets.services.budgets import create_budget
from spend import events
from spend.models import (
    Model,
    PriceAdjustment,
    PriceRate,
    PriceVersion,
    Provider,
    SetAside,
    SpendEvent,
)
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, login, text_of
from tests.api_client import spend
from tests.conftest import Cast

MODELS = (Model, PriceAdjustment, PriceVersion, Provider, SetAside, SpendEvent)


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def version() -> PriceVersion:
    provider = Provider.objects.create(slug=f"p-{uuid.uuid4().hex}", name="Provider")
    model = Model.objects.create(provider=provider, name="m", prefixes=["m-"])
    made = PriceVersion.objects.create(
        model=model, effective_from=datetime.now(UTC) - timedelta(days=1), source="test"
    )
    PriceRate.objects.create(version=made, component="input", rate=Decimal("0.00000125"))
    PriceRate.objects.create(version=made, component="output", rate=Decimal("0.00001"))
    return made


@pytest.fixture
def event(cast: Cast) -> SpendEvent:
    return SpendEvent.objects.get(id=admin_site.spend_on(cast.key(name="spender").key))


def one_of(model: Any, version: PriceVersion, event: SpendEvent) -> Any:
    made = {
        Model: lambda: version.model,
        PriceAdjustment: lambda: PriceAdjustment.objects.create(
            provider=version.model.provider, effective_from=datetime.now(UTC), reason=HOSTILE
        ),
        PriceVersion: lambda: version,
        Provider: lambda: version.model.provider,
        SetAside: lambda: SetAside.objects.get_or_create(
            position="1-1", defaults={"fields": {}, "problem": HOSTILE}
        )[0],
        SpendEvent: lambda: event,
    }
    return made[model]()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_page_opens_for_a_superuser_and_for_nobody_else(
    model: Any, version: PriceVersion, event: SpendEvent, root: Client
) -> None:
    nobody = login(admin_site.staff())

    for page in Pages(model).all_of(one_of(model, version, event)):
        answer = root.get(page)
        assert answer.status_code == 200, page
        assert admin_site.links_out(text_of(answer)) == []
        assert "<script>alert(1)" not in text_of(answer)
        assert nobody.get(page).status_code == 403, page


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_who_may_only_view_sees_the_pages_and_no_way_to_save(
    model: Any, version: PriceVersion, event: SpendEvent
) -> None:
    options = model._meta
    reader = login(admin_site.staff(f"{options.app_label}.view_{options.model_name}"))

    page = reader.get(Pages(model).url("change", one_of(model, version, event).pk))

    assert page.status_code == 200
    assert 'name="_save"' not in text_of(page)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_lists_ask_the_database_a_few_times_however_long_they_are(
    model: Any, version: PriceVersion, cast: Cast, root: Client
) -> None:
    key = cast.key().key
    for days in range(2, 8):
        admin_site.spend_on(key, team=cast.team.public_id, user=cast.user.public_id)
        earlier = PriceVersion.objects.create(
            model=version.model, source="test",
            effective_from=datetime.now(UTC) - timedelta(days=days),
        )  # fmt: skip
        PriceRate.objects.create(version=earlier, component="input", rate=Decimal(1))

    with admin_site.few_queries():
        assert root.get(Pages(model).url("changelist")).status_code == 200


# --- The ledger --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [SpendEvent, SetAside], ids=lambda model: model.__name__)
def test_nobody_adds_changes_or_deletes_what_the_recorder_writes(
    model: Any, version: PriceVersion, event: SpendEvent, root: Client
) -> None:
    obj, pages = one_of(model, version, event), Pages(model)

    assert root.get(pages.url("add")).status_code == 403
    assert root.post(pages.url("change", obj.pk), {"amount_units": "0"}).status_code == 403
    assert root.post(pages.url("delete", obj.pk), {"post": "yes"}).status_code == 403
    assert "delete_selected" not in text_of(root.get(pages.url("changelist")))


def test_the_ledger_is_listed_without_being_counted(event: SpendEvent, root: Client) -> None:
    with CaptureQueriesContext(connection) as captured:
        root.get(Pages(SpendEvent).url("changelist"))

    counting = [query["sql"] for query in captured if "COUNT(" in query["sql"].upper()]
    assert not [sql for sql in counting if SpendEvent._meta.db_table in sql]


def test_a_row_shows_the_sums_that_lead_to_its_amount(event: SpendEvent, root: Client) -> None:
    page = text_of(root.get(Pages(SpendEvent).url("change", event.pk)))

    assert "USD 0.01490375" in page  # the rate
    assert "USD 0.04471125" in page  # the amount
    assert "USD 0.95528875 given back" in page
    assert "The upstream told no usage: tokens were counted from bytes." in page
    for account in Account.objects.filter(id__in=event.accounts):
        assert f"/admin/budgets/account/{account.pk}/change/" in page


def test_a_converted_amount_shows_its_rate(cast: Cast, root: Client) -> None:
    id = admin_site.spend_on(cast.key().key, cost_currency="EUR")

    page = text_of(root.get(Pages(SpendEvent).url("change", id)))

    assert "exchange rate 1" in page
    assert "EUR 0.04471125" in page


def test_the_row_names_the_price_that_applied(
    cast: Cast, version: PriceVersion, root: Client
) -> None:
    id = admin_site.spend_on(cast.key().key, price_reference=f"price:{version.pk}")

    page = text_of(root.get(Pages(SpendEvent).url("change", id)))

    assert Pages(PriceVersion).url("change", version.pk) in page


def test_a_request_is_found_by_its_exact_id_only(event: SpendEvent, root: Client) -> None:
    url = Pages(SpendEvent).url("changelist")

    assert str(event.request_id) in text_of(root.get(url, {"q": f" {event.request_id} "}))
    assert "Nothing matches" in text_of(root.get(url, {"q": str(uuid.uuid4())}))
    assert "Nothing matches" in text_of(root.get(url, {"q": "' OR 1=1 --"}))


def test_an_account_page_leads_to_its_requests(cast: Cast, root: Client) -> None:
    mine, theirs = cast.key(name="mine").key, cast.key(name="theirs").key
    own, other = admin_site.spend_on(mine), admin_site.spend_on(theirs)
    link = f"{Pages(SpendEvent).url('changelist')}?account={mine.account_id}"
    assert link in text_of(root.get(Pages(Account).url("change", mine.account_id)))

    page = text_of(root.get(link))

    assert str(own) in page
    assert str(other) not in page


def test_an_unknown_account_shows_nothing_rather_than_everything(
    event: SpendEvent, root: Client
) -> None:
    url = Pages(SpendEvent).url("changelist")

    for account in (str(uuid.uuid4()), "nonsense"):
        assert "Nothing matches" in text_of(root.get(url, {"account": account}))


@pytest.mark.parametrize(
    ("filters", "is_found"),
    [
        ({"flag": "estimated"}, True),
        ({"flag": "orphaned"}, False),
        ({"kind": "usage"}, True),
        ({"kind": "orphan"}, False),
        ({"within": "1h"}, True),
        ({"model": "model"}, True),
        ({"model": "another"}, False),
    ],
)
def test_the_ledger_is_filtered(
    filters: dict[str, str], is_found: bool, event: SpendEvent, root: Client
) -> None:
    asked = filters | {"account": str(event.accounts[0])}

    page = text_of(root.get(Pages(SpendEvent).url("changelist"), asked))

    assert (str(event.request_id) in page) == is_found


# --- Providers ---------------------------------------------------------------------------------


def test_a_provider_that_has_models_is_not_deleted(version: PriceVersion, root: Client) -> None:
    provider = version.model.provider

    page = root.post(Pages(Provider).url("delete", provider.pk), {"post": "yes"})

    assert page.status_code == 200
    assert Provider.objects.filter(pk=provider.pk).exists()


# --- The first page ----------------------------------------------------------------------------


def give_keys_a_limit(organization: Organization, limit: str) -> None:
    """A limit that no account has of its own is looked up in more places."""
    now, terms = datetime.now(UTC), Terms(max_budget=Decimal(limit))
    with transaction.atomic():
        budget = create_budget(organization=organization, terms=terms, public_id=uuid.uuid4().hex)
        set_template(
            holder=organization.account, applies_to=BudgetTemplate.AppliesTo.KEY,
            budgets=[budget], now=now,
        )  # fmt: skip


def test_the_first_page_shows_what_each_currency_has_spent(root: Client) -> None:
    organization = admin_site.organization_named("Yen", currency="JPY", time_zone="Asia/Tokyo")
    admin_site.spend_on(admin_site.key_of(organization).key, "1234567")
    give_keys_a_limit(organization, "1234568")

    with admin_site.few_queries(20):
        page = text_of(root.get("/admin/"))

    assert "JPY 1,234,567" in page
    assert "Live store" in page
    assert admin_site.links_out(page) == []


def test_the_first_page_and_the_row_show_what_the_response_cache_has_saved(root: Client) -> None:
    organization = admin_site.organization_named("Krona", currency="SEK")
    saved = money.to_units(Decimal("76543.25"), currency="SEK")
    id = spend(
        organization, [organization.account_id], "0", flags=[events.CACHE_HIT], saved_units=saved
    )

    first = text_of(root.get("/admin/"))
    row = text_of(root.get(reverse("admin:spend_spendevent_change", args=[id])))

    assert re.search(r"Saved by the response cache this month:.{0,200}76,543", first, re.DOTALL)
    assert re.search(r"Saved by the response cache: .{0,20}76,?543\.25", row)
    assert "no provider was asked" in row


def test_the_first_page_shows_staff_only_what_they_may_see(cast: Cast) -> None:
    admin_site.spend_on(cast.key("1").key, "0.9")

    page = text_of(login(admin_site.staff()).get("/admin/"))

    assert "Spent today" not in page
    assert "Fullest accounts" not in page
