"""Shared budgets."""

from tests.api_client import master, new_id
from tests.conftest import Cast

api = master


def test_a_budget_is_made_told_changed_and_deleted(cast: Cast) -> None:
    budget_id = new_id("budget")
    made = api().made(
        "/budget/new", budget_id=budget_id, max_budget=5, soft_budget=4, budget_duration="weekly"
    )

    changed = api().made("/budget/update", budget_id=budget_id, max_budget=6, soft_budget=None)
    told = api().post("/budget/info", {"budgets": [budget_id]}).content
    deleted = api().made("/budget/delete", id=budget_id)

    assert (made["max_budget"], made["soft_budget"], made["budget_duration"]) == (5, 4, "1w")
    assert made["organization_id"] == "default"
    assert (changed["max_budget"], changed["soft_budget"]) == (6, None)
    assert changed["budget_duration"] == "1w"
    assert told == [changed]
    assert deleted["budget_id"] == budget_id
    assert api().post("/budget/info", {"budgets": [budget_id]}).status == 404


def test_an_id_is_given_where_none_is(cast: Cast) -> None:
    assert api().made("/budget/new", max_budget=1)["budget_id"]


def test_an_id_is_taken_once(cast: Cast) -> None:
    budget_id = new_id("budget")
    api().made("/budget/new", budget_id=budget_id)

    reply = api().post("/budget/new", {"budget_id": budget_id})

    assert (reply.status, reply.error["code"]) == (400, "already_exists")
    assert reply.error["param"] == "budget_id"


def test_a_change_reaches_every_key_that_is_linked(cast: Cast) -> None:
    budget_id, organization_id = new_id("budget"), cast.organization.public_id
    api().made("/budget/new", budget_id=budget_id, max_budget=5, organization_id=organization_id)
    linked = [
        api().made("/key/generate", organization_id=organization_id, budget_id=budget_id)
        for _ in range(2)
    ]

    api().made("/budget/update", budget_id=budget_id, budget_duration="daily")

    for key in linked:
        told = api().told("/key/info", key=key["token"])["info"]
        assert told["litellm_budget_table"]["budget_duration"] == "1d"
        assert told["budget_reset_at"] is not None


def test_a_budget_that_is_linked_is_not_deleted(cast: Cast) -> None:
    budget_id, organization_id = new_id("budget"), cast.organization.public_id
    api().made("/budget/new", budget_id=budget_id, organization_id=organization_id)
    api().made("/key/generate", organization_id=organization_id, budget_id=budget_id)

    reply = api().post("/budget/delete", {"id": budget_id})

    assert (reply.status, reply.error["param"]) == (400, "id")


def test_budgets_are_listed_by_organization_in_pages_and_private_ones_are_not(cast: Cast) -> None:
    organization_id = cast.organization.public_id
    api().made("/key/generate", organization_id=organization_id, max_budget=1)
    made = {
        api().made("/budget/new", organization_id=organization_id)["budget_id"] for _ in range(3)
    }

    first = api().get("/budget/list", {"organization_id": organization_id, "size": 2})
    second = api().get("/budget/list", {"organization_id": organization_id, "size": 2, "page": 2})

    told = {budget["budget_id"] for budget in first.content + second.content}
    assert told == made
    assert (first.headers["x-total-count"], first.headers["x-total-pages"]) == ("3", "2")


def test_the_organization_of_a_budget_cannot_be_changed(cast: Cast) -> None:
    budget_id = api().made("/budget/new")["budget_id"]

    reply = api().post(
        "/budget/update",
        {"budget_id": budget_id, "organization_id": cast.organization.public_id},
    )

    assert (reply.status, reply.error["param"]) == (400, "organization_id")
