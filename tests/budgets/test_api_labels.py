"""End users and tags: made before they spend, or known because they did."""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import pytest

from budgets import snapshots
from budgets.models import (
    AccountBudget,
    AccountKind,
    Budget,
    EndUser,
    Organization,
    Tag,
    derived_account_id,
)
from tests.api_client import Api, Reply, master, new_id, spend
from tests.budgets.test_api_parallel import AT_ONCE, at_once
from tests.conftest import Cast

api = master
LIMITS: Final = {
    "max_budget": 5,
    "budget_duration": "1mo",
    "rpm_limit": 7,
    "tpm_limit": 70,
    "max_parallel_requests": 2,
}


def only(told: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: told[name] for name in names}


def timeless(told: dict[str, Any]) -> dict[str, Any]:
    """Return what was told without when it was."""
    return {name: value for name, value in told.items() if name != "spend_as_of"}


def shared(organization: Organization) -> str:
    made = api().made("/budget/new", organization_id=organization.public_id, max_budget=3)
    return str(made["budget_id"])


def account_id(organization: Organization, kind: AccountKind, text: str) -> UUID:
    return derived_account_id(organization_id=organization.pk, kind=kind, text=text)


def label(organization: Organization, kind: AccountKind, text: str) -> snapshots.Label:
    """Return what the gateway reads of it."""
    return snapshots.read_label(organization_id=organization.pk, kind=kind, text=text)


def new_customer(cast: Cast, **fields: Any) -> dict[str, Any]:
    given = {"user_id": new_id("customer"), "organization_id": cast.organization.public_id}
    return api().made("/customer/new", **given | fields)


def spent_by(cast: Cast, text: str, amount: str = "0.25") -> None:
    account = account_id(cast.organization, AccountKind.END_USER, text)
    spend(cast.organization, [account], amount, end_user=text)


def test_an_end_user_is_made_told_changed_and_deleted(cast: Cast) -> None:
    made = new_customer(cast, alias="Ann", models=["m"], **LIMITS)
    id = only(made, ("user_id", "organization_id"))

    changed = api().made("/customer/update", **id, max_budget=6, alias=None)
    told = api().told(
        "/customer/info", end_user_id=id["user_id"], organization_id=id["organization_id"]
    )
    deleted = api().made(
        "/customer/delete", user_ids=[id["user_id"]], organization_id=id["organization_id"]
    )

    assert only(made, LIMITS) == LIMITS
    assert (made["alias"], made["models"], made["blocked"], made["spend"]) == ("Ann", ["m"], 0, 0)
    assert made["litellm_budget_table"]["budget_id"] == made["budget_id"]
    assert only(changed, LIMITS) == {**LIMITS, "max_budget": 6}
    assert changed["alias"] is None
    assert timeless(told) == timeless(changed)
    assert deleted["deleted_customers"] == 1
    gone = api().get("/customer/info", {"end_user_id": id["user_id"]})
    assert (gone.status, gone.error["param"]) == (404, "end_user_id")


def test_the_gateway_reads_what_was_said_of_an_end_user(cast: Cast) -> None:
    made = new_customer(
        cast,
        models=["m"],
        blocked=True,
        model_max_budget={"m": {"max_budget": 1}},
        budget_limits=[{"budget_duration": "1d", "max_budget": 2}],
        **LIMITS,
    )

    read = label(cast.organization, AccountKind.END_USER, made["user_id"])

    assert (read.blocked, read.allowed_models) == (True, frozenset({"m"}))
    assert {each.max_budget for each in read.terms} == {5, 2}
    assert [each.max_budget for each in read.model_terms["m"]] == [1]


def test_either_name_of_the_paths_means_the_same(cast: Cast) -> None:
    made = api().made("/end_user/new", user_id=new_id("customer"))

    told = api().told("/customer/info", end_user_id=made["user_id"])

    assert timeless(told) == timeless(made)
    assert told["organization_id"] == "default"


def test_an_end_user_that_is_made_twice_is_refused_with_400(cast: Cast) -> None:
    made = new_customer(cast)

    reply = api().post("/customer/new", only(made, ("user_id", "organization_id")))

    assert (reply.status, reply.error["code"]) == (400, "already_exists")
    assert reply.error["param"] == "user_id"


def test_one_that_only_its_spending_made_known_is_taken_over_with_what_it_spent(
    cast: Cast,
) -> None:
    user_id = new_id("customer")
    spent_by(cast, user_id)

    made = new_customer(cast, user_id=user_id, max_budget=5)
    again = api().post(
        "/customer/new", {"user_id": user_id, "organization_id": cast.organization.public_id}
    )

    assert float(made["spend"]) == float(made["total_spend"]) == 0.25
    assert again.status == 400
    assert EndUser.objects.filter(external_id=user_id).count() == 1


def test_one_that_was_made_before_it_spends_is_not_made_again_by_spending(cast: Cast) -> None:
    made = new_customer(cast, max_budget=5)

    spent_by(cast, made["user_id"])

    told = api().told(
        "/customer/info", end_user_id=made["user_id"], organization_id=made["organization_id"]
    )
    assert float(told["spend"]) == 0.25
    assert told["max_budget"] == 5


@pytest.mark.parametrize("fields", [{}, {"max_budget": 5}, {"alias": "Ann"}], ids=str)
def test_of_many_that_make_an_end_user_one_does(cast: Cast, fields: dict[str, Any]) -> None:
    body = {
        "user_id": new_id("customer"), "organization_id": cast.organization.public_id, **fields,
    }  # fmt: skip
    call: Callable[[Api], Reply] = lambda api: api.post("/customer/new", body)  # noqa: E731

    replies = at_once([call] * AT_ONCE)

    assert sorted(reply.status for reply in replies) == [200] + [400] * (AT_ONCE - 1)


def test_a_deleted_end_user_has_no_limits_but_what_it_spent(cast: Cast) -> None:
    made = new_customer(cast, blocked=True, model_max_budget={"m": {"max_budget": 1}}, **LIMITS)
    id = only(made, ("user_id", "organization_id"))
    spent_by(cast, id["user_id"])

    api().made("/customer/delete", user_ids=[id["user_id"]], organization_id=id["organization_id"])

    read = label(cast.organization, AccountKind.END_USER, id["user_id"])
    assert (read.blocked, read.terms, read.model_terms) == (False, (), {})
    again = api().made("/customer/new", **id)
    assert float(again["total_spend"]) == 0.25


def test_blocking_makes_who_is_unknown_and_unblocking_does_not(cast: Cast) -> None:
    known, unknown = new_customer(cast)["user_id"], new_id("customer")
    of = {"organization_id": cast.organization.public_id}

    blocked = api().made("/customer/block", user_ids=[known, unknown], **of)
    left = api().made("/customer/unblock", user_ids=[known], **of)
    nobody = api().post("/customer/unblock", {"user_ids": [unknown, new_id("nobody")], **of})

    assert [each["user_id"] for each in blocked["blocked_users"]] == [known, unknown]
    assert all(each["blocked"] for each in blocked["blocked_users"])
    assert left["blocked_users"] == [unknown]
    assert (nobody.status, nobody.error["param"]) == (404, "user_ids[1]")
    assert label(cast.organization, AccountKind.END_USER, unknown).blocked


def test_an_end_user_states_limits_or_links_a_budget_not_both(cast: Cast) -> None:
    organization_id = cast.organization.public_id
    budget_id = shared(cast.organization)

    reply = api().post(
        "/customer/new",
        {
            "user_id": new_id("customer"),
            "organization_id": organization_id,
            "budget_id": budget_id,
            "max_budget": 1,
        },
    )
    linked = new_customer(cast, budget_id=budget_id)

    assert (reply.status, reply.error["param"]) == (400, "budget_id")
    assert linked["budget_id"] == budget_id
    assert linked["litellm_budget_table"]["max_budget"] == 3


def test_an_end_user_tells_the_budget_that_it_has_by_template(cast: Cast) -> None:
    organization_id = cast.organization.public_id
    budget_id = shared(cast.organization)
    api().made(
        "/organization/update", organization_id=organization_id, end_user_budget_id=budget_id
    )

    made = new_customer(cast)

    assert made["budget_id"] == budget_id
    assert made["max_budget"] is None


def test_end_users_are_listed_by_organization_in_pages(cast: Cast) -> None:
    made = sorted(new_customer(cast)["user_id"] for _ in range(3))

    reply = api().get(
        "/customer/list", {"organization_id": cast.organization.public_id, "size": 2, "page": 2}
    )
    of_outsider = api().told("/customer/list", organization_id=cast.outsider.public_id)

    assert [each["user_id"] for each in reply.content] == made[2:]
    assert (reply.headers["x-total-count"], reply.headers["x-total-pages"]) == ("3", "2")
    assert of_outsider == []


# --- Tags ------------------------------------------------------------------------------
def new_tag(cast: Cast, **fields: Any) -> dict[str, Any]:
    given = {"name": new_id("tag"), "organization_id": cast.organization.public_id}
    tag: dict[str, Any] = api().made("/tag/new", **given | fields)["tag"]
    return tag


def test_a_tag_is_made_told_changed_and_deleted(cast: Cast) -> None:
    made = new_tag(cast, description="Nightly", **LIMITS)
    id = only(made, ("name", "organization_id"))

    changed = api().made("/tag/update", **id, rpm_limit=None, description=None)["tag"]
    told = api().made("/tag/info", names=[id["name"]], organization_id=id["organization_id"])
    listed = api().told("/tag/list", organization_id=id["organization_id"])
    deleted = api().made("/tag/delete", **id)

    assert only(made, LIMITS) == LIMITS
    assert made["description"] == "Nightly"
    assert only(changed, LIMITS) == {**LIMITS, "rpm_limit": None}
    assert changed["description"] is None
    assert timeless(told[id["name"]]) == timeless(changed)
    assert [timeless(each) for each in listed] == [timeless(changed)]
    assert id["name"] in deleted["message"]
    assert label(cast.organization, AccountKind.TAG, id["name"]).terms == ()


def test_a_tag_that_is_made_twice_is_refused_and_a_spending_one_is_taken_over(cast: Cast) -> None:
    name = new_id("tag")
    account = account_id(cast.organization, AccountKind.TAG, name)
    spend(cast.organization, [account], "0.25", tags=(name,))

    made = new_tag(cast, name=name, max_budget=1)
    again = api().post("/tag/new", {"name": name, "organization_id": cast.organization.public_id})

    assert float(made["spend"]) == 0.25
    assert (again.status, again.error["param"]) == (400, "name")
    assert Tag.objects.filter(name=name).count() == 1


def test_a_tag_that_there_is_not_is_not_found(cast: Cast) -> None:
    for path in ("/tag/update", "/tag/delete"):
        reply = api().post(path, {"name": new_id("tag")})
        assert (reply.status, reply.error["param"]) == (404, "name")

    reply = api().post("/tag/info", {"names": [new_id("tag")]})
    assert (reply.status, reply.error["param"]) == (404, "names[0]")


# --- Tenants are walls -----------------------------------------------------------------
def test_an_end_user_of_one_organization_is_unknown_in_another(cast: Cast) -> None:
    user_id = new_customer(cast, **LIMITS)["user_id"]
    outside = {"organization_id": cast.outsider.public_id}

    replies = [
        api().get("/customer/info", {"end_user_id": user_id, **outside}),
        api().post("/customer/update", {"user_id": user_id, "max_budget": None, **outside}),
        api().post("/customer/delete", {"user_ids": [user_id], **outside}),
        api().post("/customer/unblock", {"user_ids": [user_id], **outside}),
    ]
    same_text = new_customer(cast, user_id=user_id, **outside)

    assert [reply.status for reply in replies] == [404] * 4
    assert same_text["organization_id"] == cast.outsider.public_id
    assert same_text["max_budget"] is None
    assert label(cast.organization, AccountKind.END_USER, user_id).terms != ()


def test_a_tag_of_one_organization_is_unknown_in_another(cast: Cast) -> None:
    name = new_tag(cast, **LIMITS)["name"]
    outside = {"organization_id": cast.outsider.public_id}

    replies = [
        api().post("/tag/update", {"name": name, "max_budget": None, **outside}),
        api().post("/tag/delete", {"name": name, **outside}),
        api().post("/tag/info", {"names": [name], **outside}),
    ]

    assert [reply.status for reply in replies] == [404] * 3
    assert api().told("/tag/list", **outside) == []
    assert label(cast.organization, AccountKind.TAG, name).terms != ()


@pytest.mark.parametrize(
    ("path", "id"), [("/customer/new", "user_id"), ("/tag/new", "name")], ids=str
)
def test_a_budget_of_another_organization_is_refused_and_nothing_is_made(
    cast: Cast, path: str, id: str
) -> None:
    foreign = api().made("/budget/new", organization_id=cast.outsider.public_id)["budget_id"]
    text = new_id("label")

    reply = api().post(
        path, {id: text, "organization_id": cast.organization.public_id, "budget_id": foreign}
    )

    assert (reply.status, reply.error["param"]) == (400, "budget_id")
    assert not EndUser.objects.filter(external_id=text).exists()
    assert not Tag.objects.filter(name=text).exists()
    assert not AccountBudget.objects.filter(budget=Budget.objects.get(public_id=foreign)).exists()


@pytest.mark.parametrize("path", ["/customer/list", "/tag/list"])
def test_a_virtual_key_may_not_ask(cast: Cast, path: str) -> None:
    assert Api(cast.key().secret).get(path).status == 403
