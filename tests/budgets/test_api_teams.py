"""Teams and their members."""

import pytest

from budgets.models import ApiKey, Membership, User
from tests.api_client import master, new_id
from tests.conftest import Cast

api = master


def test_a_team_is_made_with_limits_and_members(cast: Cast) -> None:
    team_id, unknown = new_id("team"), new_id("user")

    made = api().made(
        "/team/new",
        team_id=team_id,
        team_alias="Search",
        organization_id=cast.organization.public_id,
        max_budget=10,
        budget_duration="monthly",
        members_with_roles=[
            {"user_id": unknown, "role": "admin"},
            {"user_email": cast.user.email, "role": "user"},
        ],
    )

    assert made["team_id"] == team_id
    assert made["team_alias"] == "Search"
    assert (made["max_budget"], made["budget_duration"]) == (10, "1mo")
    assert made["members_with_roles"] == [
        {"user_id": unknown, "user_email": None, "role": "admin"},
        {"user_id": cast.user.public_id, "user_email": cast.user.email, "role": "user"},
    ]


def test_a_team_that_fails_leaves_nothing_behind(cast: Cast) -> None:
    team_id, stranger = new_id("team"), new_id("user")

    reply = api().post(
        "/team/new",
        {"team_id": team_id, "members_with_roles": [{"user_id": stranger}, {"user_id": stranger}]},
    )

    assert (reply.status, reply.error["code"]) == (400, "already_exists")
    assert api().get("/team/info", {"team_id": team_id}).status == 404
    assert not User.objects.filter(public_id=stranger).exists()


def test_a_team_id_is_taken_once(cast: Cast) -> None:
    reply = api().post("/team/new", {"team_id": cast.team.public_id})

    assert (reply.status, reply.error["code"]) == (400, "already_exists")
    assert reply.error["param"] == "team_id"


def test_an_update_changes_what_is_named_and_nothing_else(cast: Cast) -> None:
    team_id = cast.team.public_id
    api().made("/team/update", team_id=team_id, max_budget=4, budget_duration="1d", models=["a"])

    changed = api().made("/team/update", team_id=team_id, max_budget=5, blocked=True)

    data = changed["data"]
    assert changed["team_id"] == data["team_id"] == team_id
    assert (data["max_budget"], data["budget_duration"], data["models"]) == (5, "1d", ["a"])
    assert data["blocked"] is True


def test_a_team_links_a_budget_and_unlinks_it(cast: Cast) -> None:
    budget_id, team_id = new_id("budget"), cast.team.public_id
    api().made(
        "/budget/new",
        budget_id=budget_id,
        max_budget=9,
        organization_id=cast.organization.public_id,
    )

    linked = api().made("/team/update", team_id=team_id, budget_id=budget_id)["data"]
    unlinked = api().made("/team/update", team_id=team_id, budget_id=None)["data"]

    assert linked["litellm_budget_table"]["max_budget"] == 9
    assert unlinked["budget_id"] is unlinked["litellm_budget_table"] is None


def test_a_team_is_told_with_its_keys_and_members(cast: Cast) -> None:
    team_id = cast.team.public_id
    key = api().made("/key/generate", team_id=team_id, user_id=cast.user.public_id)
    api().made("/key/generate", team_id=team_id)

    told = api().told("/team/info", team_id=team_id)
    short = api().told("/team/info", team_id=team_id, key_limit=1)

    assert told["team_id"] == told["team_info"]["team_id"] == team_id
    assert told["keys"][-1]["token"] == key["token"]
    assert (told["key_count"], len(told["keys"])) == (2, 2)
    assert (short["key_count"], len(short["keys"])) == (2, 1)
    (membership,) = told["team_memberships"]
    assert membership["user_id"] == cast.user.public_id


def test_teams_are_listed_by_user_and_by_organization(cast: Cast) -> None:
    team_id = cast.team.public_id
    api().made("/team/member_add", team_id=team_id, member={"user_id": cast.user.public_id})

    of_user = api().get("/team/list", {"user_id": cast.user.public_id})
    of_outsider = api().told("/team/list", organization_id=cast.outsider.public_id)

    assert [team["team_id"] for team in of_user.content] == [team_id]
    assert of_user.headers["x-total-count"] == of_user.headers["x-total-pages"] == "1"
    assert of_outsider == []


def test_one_member_or_several_are_added_with_limits_of_their_own(cast: Cast) -> None:
    address = f"{new_id('a')}@example.com"

    one = api().made(
        "/team/member_add",
        team_id=cast.team.public_id,
        member={"user_id": cast.user.public_id, "role": "admin"},
        max_budget_in_team=2.5,
        budget_duration="1w",
    )
    several = api().made(
        "/team/member_add",
        team_id=cast.team.public_id,
        member=[{"user_email": address.upper()}, {"user_id": new_id("user")}],
    )

    (membership,) = one["updated_team_memberships"]
    assert membership["litellm_budget_table"]["max_budget"] == membership_limit(cast)
    assert membership["litellm_budget_table"]["budget_duration"] == "1w"
    assert several["updated_users"][0]["user_email"] == address
    assert len(several["members_with_roles"]) == 3


def membership_limit(cast: Cast) -> object:
    told = api().told("/team/info", team_id=cast.team.public_id)
    return told["team_memberships"][0]["litellm_budget_table"]["max_budget"]


def test_nobody_is_added_twice_and_then_none_is(cast: Cast) -> None:
    newcomer = new_id("user")
    add = {"team_id": cast.team.public_id, "member": [{"user_id": cast.user.public_id}]}
    api().made("/team/member_add", **add)

    reply = api().post(
        "/team/member_add", {**add, "member": [{"user_id": newcomer}, *add["member"]]}
    )

    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        400, "already_exists", "member",
    )  # fmt: skip
    assert not User.objects.filter(public_id=newcomer).exists()


def test_the_members_fields_are_named_by_their_place(cast: Cast) -> None:
    team_id = cast.team.public_id

    one = api().post("/team/member_add", {"team_id": team_id, "member": {"role": "user"}})
    several = api().post(
        "/team/member_add",
        {"team_id": team_id, "member": [{"user_id": "a"}, {"user_id": "b", "role": "owner"}]},
    )

    assert one.error["param"] == "member.user_id"
    assert several.error["param"] == "member[1].role"


def test_a_member_is_changed(cast: Cast) -> None:
    team_id, user_id = cast.team.public_id, cast.user.public_id
    api().made(
        "/team/member_add", team_id=team_id, member={"user_id": user_id}, max_budget_in_team=2
    )

    changed = api().made(
        "/team/member_update",
        team_id=team_id,
        user_email=cast.user.email,
        role="admin",
        budget_duration="1d",
    )
    cleared = api().made(
        "/team/member_update",
        team_id=team_id,
        user_id=user_id,
        max_budget_in_team=None,
        budget_duration=None,
    )

    assert (changed["max_budget_in_team"], changed["budget_duration"]) == (2, "1d")
    assert (changed["role"], cleared["role"]) == ("admin", "admin")
    assert cleared["max_budget_in_team"] is None


def test_a_member_leaves_with_the_keys_of_that_team(cast: Cast) -> None:
    team_id, user_id = cast.team.public_id, cast.user.public_id
    of_team = api().made("/key/generate", team_id=team_id, user_id=user_id)
    of_user = api().made(
        "/key/generate", user_id=user_id, organization_id=cast.organization.public_id
    )

    told = api().made("/team/member_delete", team_id=team_id, user_id=user_id)

    assert told["members_with_roles"] == []
    assert not ApiKey.objects.filter(digest=of_team["token"]).exists()
    assert ApiKey.objects.filter(digest=of_user["token"]).exists()


def test_who_is_no_member_cannot_be_changed(cast: Cast) -> None:
    reply = api().post(
        "/team/member_update",
        {"team_id": cast.team.public_id, "user_id": cast.user.public_id, "role": "admin"},
    )

    assert (reply.status, reply.error["param"]) == (404, "user_id")


def test_teams_are_deleted_with_their_keys_and_members(cast: Cast) -> None:
    team_id = cast.team.public_id
    key = api().made("/key/generate", team_id=team_id, user_id=cast.user.public_id)

    deleted = api().made("/team/delete", team_ids=[team_id])

    assert deleted == {"deleted_teams": [team_id]}
    assert not ApiKey.objects.filter(digest=key["token"]).exists()
    assert not Membership.objects.filter(user=cast.user).exists()


def test_one_unknown_team_among_several_deletes_none(cast: Cast) -> None:
    reply = api().post("/team/delete", {"team_ids": [cast.team.public_id, new_id("team")]})

    assert (reply.status, reply.error["param"]) == (404, "team_ids[1]")
    assert api().get("/team/info", {"team_id": cast.team.public_id}).status == 200


@pytest.mark.parametrize("path", ["/team/update", "/team/member_delete", "/team/member_update"])
def test_an_unknown_team_is_told(path: str, cast: Cast) -> None:
    body = {"team_id": new_id("team")} | (
        {} if path == "/team/update" else {"user_id": cast.user.public_id}
    )

    reply = api().post(path, body)

    assert (reply.status, reply.error["param"]) == (404, "team_id")
