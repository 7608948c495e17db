"""Users, with limits and spend in the organizations that they are in."""

from budgets import keys
from budgets.models import ApiKey, User
from tests.api_client import master, new_id
from tests.conftest import Cast

api = master


def test_a_user_is_made_with_a_key(cast: Cast) -> None:
    user_id, address = new_id("user"), f"{new_id('A')}@Example.com"

    made = api().made(
        "/user/new",
        user_id=user_id,
        user_email=address,
        user_alias="Ada",
        user_role="internal_user_viewer",
        max_budget=3,
        organizations=[cast.organization.public_id],
        teams=[cast.team.public_id],
        key_alias=new_id("alias"),
        duration="30d",
    )

    assert keys.is_well_formed(made["key"])
    assert made["token"] == keys.digest(made["key"])
    assert made["user_email"] == address.lower()
    assert (made["user_alias"], made["user_role"]) == ("Ada", "internal_user_viewer")
    assert made["teams"] == [cast.team.public_id]
    assert made["organization_id"] == cast.organization.public_id
    assert made["max_budget"] == 3
    key = api().told("/key/info", key=made["key"])["info"]
    assert (key["user_id"], key["max_budget"]) == (user_id, None)
    assert key["expires"] == made["expires"] is not None


def test_a_user_is_made_without_a_key_on_request() -> None:
    made = api().made("/user/new", auto_create_key=False)

    assert (made["key"], made["token"]) == ("", None)
    assert not ApiKey.objects.filter(user__public_id=made["user_id"]).exists()


def test_the_first_key_may_be_of_a_team(cast: Cast) -> None:
    made = api().made("/user/new", team_id=cast.team.public_id)

    key = api().told("/key/info", key=made["key"])["info"]
    assert key["team_id"] == cast.team.public_id
    assert made["teams"] == [cast.team.public_id]
    assert made["organization_id"] == cast.organization.public_id


def test_an_id_or_address_that_exists_is_a_conflict(cast: Cast) -> None:
    by_id = api().post("/user/new", {"user_id": cast.user.public_id})
    by_address = api().post("/user/new", {"user_email": cast.user.email.upper()})

    assert (by_id.status, by_id.error["param"]) == (409, "user_id")
    assert (by_address.status, by_address.error["param"]) == (409, "user_email")
    assert by_id.error["code"] == by_address.error["code"] == "already_exists"


def test_a_user_whose_key_cannot_be_made_is_not_made_either(cast: Cast) -> None:
    user_id, alias = new_id("user"), new_id("alias")
    api().made("/key/generate", key_alias=alias)

    reply = api().post("/user/new", {"user_id": user_id, "key_alias": alias})

    assert (reply.status, reply.error["param"]) == (400, "key_alias")
    assert not User.objects.filter(public_id=user_id).exists()


def test_teams_of_another_organization_are_refused(cast: Cast) -> None:
    reply = api().post(
        "/user/new",
        {"teams": [cast.team.public_id], "organization_id": cast.outsider.public_id},
    )

    assert (reply.status, reply.error["param"]) == (400, "teams")


def test_organizations_and_organization_id_must_agree(cast: Cast) -> None:
    reply = api().post(
        "/user/new",
        {
            "organizations": [cast.organization.public_id],
            "organization_id": cast.outsider.public_id,
        },
    )

    assert (reply.status, reply.error["param"]) == (400, "organizations")


def test_a_user_is_changed_by_id_or_by_address(cast: Cast) -> None:
    new_address = f"{new_id('b')}@example.com"

    by_id = api().made(
        "/user/update", user_id=cast.user.public_id, user_email=new_address, max_budget=2
    )
    by_address = api().made("/user/update", user_email=new_address, user_alias="Bob", blocked=True)

    assert by_id["user_id"] == by_address["user_id"] == cast.user.public_id
    assert by_id["data"]["user_email"] == new_address
    assert by_address["data"]["max_budget"] == 2
    assert by_address["data"]["blocked"] is True


def test_limits_are_those_of_one_organization(cast: Cast) -> None:
    user_id = cast.user.public_id
    outsider = cast.outsider.public_id

    api().made("/user/update", user_id=user_id, max_budget=2)
    elsewhere = api().made("/user/update", user_id=user_id, organization_id=outsider, max_budget=5)

    here = api().told("/user/info", user_id=user_id)["user_info"]
    there = api().told("/user/info", user_id=user_id, organization_id=outsider)["user_info"]
    assert (here["max_budget"], there["max_budget"]) == (2, 5)
    assert here["organization_id"] == cast.organization.public_id
    assert there["organization_id"] == elsewhere["data"]["organization_id"] == outsider


def test_a_user_is_told_with_keys_and_teams(cast: Cast) -> None:
    key = api().made("/key/generate", team_id=cast.team.public_id, user_id=cast.user.public_id)

    told = api().told("/user/info", user_id=cast.user.public_id)

    assert told["user_id"] == told["user_info"]["user_id"] == cast.user.public_id
    assert [each["token"] for each in told["keys"]] == [key["token"]]
    assert [each["team_id"] for each in told["teams"]] == [cast.team.public_id]


def test_users_are_listed_in_pages_of_25_with_their_keys_counted(cast: Cast) -> None:
    organization_id = cast.organization.public_id
    made = api().made("/user/new", organization_id=organization_id)

    told = api().told("/user/list", organization_ids=organization_id)

    assert [user["user_id"] for user in told["users"]] == [made["user_id"], cast.user.public_id]
    assert [user["key_count"] for user in told["users"]] == [1, 0]
    assert {name: told[name] for name in ("total", "page", "page_size", "total_pages")} == {
        "total": 2, "page": 1, "page_size": 25, "total_pages": 1,
    }  # fmt: skip


def test_users_are_filtered(cast: Cast) -> None:
    user_id = cast.user.public_id
    api().made("/team/member_add", team_id=cast.team.public_id, member={"user_id": user_id})
    filters = {
        "user_ids": f"{user_id},{new_id('nobody')}",
        "user_email": cast.user.email[:-4],
        "team": cast.team.public_id,
    }

    for name, value in filters.items():
        told = api().told("/user/list", **{name: value})
        assert [user["user_id"] for user in told["users"]] == [user_id]
    assert api().told("/user/list", role="proxy_admin", user_ids=user_id)["users"] == []


def test_a_percent_sign_in_a_search_is_only_a_percent_sign(cast: Cast) -> None:
    assert api().told("/user/list", user_email="%")["users"] == []
