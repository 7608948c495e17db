"""End users and tags in the admin: found, blocked, limited, never deleted."""

import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from budgets.models import (
    Account,
    AccountKind,
    Budget,
    Change,
    EndUser,
    Organization,
    Tag,
    derived_account_id,
)
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, errors_of, login, raises_version, save, text_of
from tests.conftest import Cast


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


def account(organization: Organization, kind: AccountKind, text: str) -> Account:
    id = derived_account_id(organization_id=organization.pk, kind=kind, text=text)
    return Account.objects.create(id=id, organization=organization, kind=kind, label=text)


def end_user(organization: Organization, text: str = "") -> EndUser:
    """Return an end user as the recorder makes one."""
    text = text or f"customer-{uuid.uuid4().hex}"
    return EndUser.objects.create(
        organization=organization, external_id=text,
        account=account(organization, AccountKind.END_USER, text),
    )  # fmt: skip


def tag(organization: Organization, text: str = "") -> Tag:
    text = text or f"feature-{uuid.uuid4().hex}"
    return Tag.objects.create(
        organization=organization, name=text,
        account=account(organization, AccountKind.TAG, text),
    )  # fmt: skip


MAKERS: tuple[Any, ...] = (end_user, tag)


@pytest.mark.parametrize("make", MAKERS)
def test_every_page_opens_for_a_superuser_and_for_nobody_else(
    make: Any, cast: Cast, root: Client
) -> None:
    obj, nobody = make(cast.organization, HOSTILE[:250]), login(admin_site.staff())

    for page in Pages(type(obj)).all_of(obj):
        answer = root.get(page)
        assert answer.status_code == 200, page
        assert admin_site.links_out(text_of(answer)) == []
        assert "<script>alert(1)" not in text_of(answer)
        assert nobody.get(page).status_code == 403, page


@pytest.mark.parametrize("make", MAKERS)
def test_who_may_only_view_sees_no_way_to_save(make: Any, cast: Cast) -> None:
    obj = make(cast.organization)
    reader = login(admin_site.staff(f"budgets.view_{obj._meta.model_name}"))

    page = reader.get(Pages(type(obj)).url("change", obj.pk))

    assert page.status_code == 200
    assert 'name="_save"' not in text_of(page)


@pytest.mark.parametrize("make", MAKERS)
def test_they_are_limited_on_their_page_and_lead_to_their_account(
    make: Any, cast: Cast, root: Client
) -> None:
    obj = make(cast.organization)
    url = Pages(type(obj)).url("change", obj.pk)

    with raises_version(cast.organization.pk):
        save(root, url, max_budget="5", budget_duration="1d", rpm_limit="9")

    own = Budget.objects.get(private_to=obj.account)
    page, listed = text_of(root.get(url)), Pages(type(obj)).url("changelist")
    assert (own.max_budget, own.rpm_limit, own.enforcement) == (Decimal(5), 9, "adaptive")
    assert Pages(Account).url("change", obj.account_id) in page
    assert "USD 0.00 of USD 5.00 a day" in text_of(root.get(listed, {"q": str(obj)}))
    assert Pages(type(obj)).url("change", obj.pk) in text_of(
        root.get(Pages(Account).url("change", obj.account_id))
    )


@pytest.mark.parametrize("make", MAKERS)
def test_what_the_ledger_names_is_not_deleted_here(make: Any, cast: Cast, root: Client) -> None:
    obj = make(cast.organization)
    pages = Pages(type(obj))

    assert root.post(pages.url("delete", obj.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("make", MAKERS)
def test_lists_ask_a_few_times_however_long_they_are(make: Any, cast: Cast, root: Client) -> None:
    obj, counted = make(cast.organization), []
    url = Pages(type(obj)).url("changelist")
    narrowed = {"organization__id__exact": str(cast.organization.pk)}
    for _ in range(2):
        for _ in range(10):
            make(cast.organization)
        counted.append(admin_site.queries_of(lambda: root.get(url, narrowed)))

    assert counted[0] == counted[1]
    assert counted[1] <= admin_site.QUERIES_MAX


@pytest.mark.parametrize(("model", "field"), [(EndUser, "external_id"), (Tag, "name")])
def test_one_is_made_and_limited_before_it_spends_and_only_once(
    model: Any, field: str, cast: Cast, root: Client
) -> None:
    url, text = Pages(model).url("add"), f"early-{uuid.uuid4().hex}"
    sent = {"organization": cast.organization.pk, field: text, "max_budget": "3"}

    with raises_version(cast.organization.pk):
        made = save(root, url, **sent)
    again = save(root, url, **sent)
    elsewhere = save(root, url, **(sent | {"organization": cast.outsider.pk}))

    row = model.objects.get(**{"organization": cast.organization, field: text})
    kind = AccountKind.END_USER if model is EndUser else AccountKind.TAG
    assert (made.status_code, elsewhere.status_code) == (302, 302)
    assert row.account_id == derived_account_id(
        organization_id=cast.organization.pk, kind=kind, text=text
    )
    assert Budget.objects.get(private_to=row.account).max_budget == Decimal(3)
    assert errors_of(again) == {field: ["Is taken."]}


@pytest.mark.parametrize(("model", "field"), [(EndUser, "external_id"), (Tag, "name")])
def test_a_text_that_no_request_could_send_is_refused(
    model: Any, field: str, cast: Cast, root: Client
) -> None:
    sent = {"organization": cast.organization.pk, field: "é" * 129}

    answer = save(root, Pages(model).url("add"), **sent)

    assert errors_of(answer) == {field: ["At most 256 bytes."]}


def test_the_organization_filter_keeps_the_others_end_users_out(cast: Cast, root: Client) -> None:
    ours, theirs = end_user(cast.organization), end_user(cast.outsider)

    page = text_of(
        root.get(
            Pages(EndUser).url("changelist"),
            {"organization__id__exact": str(cast.organization.pk)},
        )
    )

    assert ours.external_id in page
    assert theirs.external_id not in page


def test_an_end_user_is_blocked_named_and_bound_to_models(cast: Cast, root: Client) -> None:
    who = end_user(cast.organization)
    url = Pages(EndUser).url("change", who.pk)

    with raises_version(cast.organization.pk):
        save(root, url, blocked="on", alias="Acme Ltd", allowed_models="a\nb")

    who.refresh_from_db()
    assert (who.blocked, who.alias, who.allowed_models) == (True, "Acme Ltd", ["a", "b"])
    assert Change.objects.filter(table_name="budgets_enduser", object_id=str(who.pk)).exists()
    assert who.external_id in text_of(root.get(Pages(EndUser).url("history", who.pk)))


def test_end_users_are_blocked_and_admitted_together(cast: Cast, root: Client) -> None:
    chosen = [end_user(cast.organization).pk for _ in range(2)]
    url = Pages(EndUser).url("changelist")

    for action, blocked in (("block", True), ("admit", False)):
        with raises_version(cast.organization.pk):
            root.post(url, {"action": action, "_selected_action": chosen})

        states = EndUser.objects.filter(pk__in=chosen).values_list("blocked", flat=True)
        assert set(states) == {blocked}


def test_end_users_are_found_by_id_and_alias_and_by_being_blocked(cast: Cast, root: Client) -> None:
    who, other = end_user(cast.organization), end_user(cast.organization)
    EndUser.objects.filter(pk=who.pk).update(alias=f"Alias {who.pk}", blocked=True)
    url = Pages(EndUser).url("changelist")

    for asked in ({"q": who.external_id}, {"q": f"Alias {who.pk}"}, {"blocked__exact": "1"}):
        page = text_of(root.get(url, asked))
        assert who.external_id in page, asked
        assert other.external_id not in page, asked


def test_a_tag_is_described(cast: Cast, root: Client) -> None:
    word = tag(cast.organization)

    save(root, Pages(Tag).url("change", word.pk), description="The search of the shop")

    word.refresh_from_db()
    assert word.description == "The search of the shop"
    assert "The search of the shop" in text_of(root.get(Pages(Tag).url("history", word.pk)))
