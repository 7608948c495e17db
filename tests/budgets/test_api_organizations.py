"""Tenants."""

from tests.api_client import master, new_id
from tests.conftest import Cast

api = master


def test_an_organization_has_a_currency_a_time_zone_and_limits() -> None:
    organization_id = new_id("org")

    made = api().made(
        "/organization/new",
        organization_id=organization_id,
        organization_alias="Kyoto",
        currency="JPY",
        time_zone="Asia/Tokyo",
        max_budget=150000,
        budget_duration="30d",
    )

    assert made["organization_id"] == organization_id
    assert (made["currency"], made["time_zone"]) == ("JPY", "Asia/Tokyo")
    assert (made["max_budget"], made["budget_duration"]) == (150000, "1mo")
    assert made["budget_time_zone"] == "Asia/Tokyo"
    assert made["budget_id"] == made["litellm_budget_table"]["budget_id"]


def test_its_own_budget_can_be_changed_by_its_id() -> None:
    made = api().made("/organization/new", organization_alias="A", max_budget=1)

    api().made("/budget/update", budget_id=made["budget_id"], max_budget=2)

    told = api().told("/organization/info", organization_id=made["organization_id"])
    assert told["max_budget"] == 2


def test_an_organization_is_told_with_members_and_teams(cast: Cast) -> None:
    told = api().told("/organization/info", organization_id=cast.organization.public_id)

    assert [member["user_id"] for member in told["members"]] == [cast.user.public_id]
    assert [team["team_id"] for team in told["teams"]] == [cast.team.public_id]
    assert (told["member_count"], told["team_count"]) == (1, 1)


def test_several_organizations_are_told_in_the_order_asked_for(cast: Cast) -> None:
    wanted = [cast.outsider.public_id, cast.organization.public_id]

    reply = api().post("/organization/info", {"organizations": wanted})

    assert [each["organization_id"] for each in reply.content] == wanted


def test_an_unknown_organization_is_told(cast: Cast) -> None:
    unknown = new_id("org")

    one = api().get("/organization/info", {"organization_id": unknown})
    several = api().post(
        "/organization/info", {"organizations": [cast.organization.public_id, unknown]}
    )

    assert (one.status, one.error["param"]) == (404, "organization_id")
    assert (several.status, several.error["param"]) == (404, "organizations[1]")


def test_an_organization_id_is_taken_once(cast: Cast) -> None:
    reply = api().post(
        "/organization/new",
        {"organization_alias": "Again", "organization_id": cast.organization.public_id},
    )

    assert (reply.status, reply.error["code"]) == (400, "already_exists")


def test_an_organization_cannot_be_made_with_a_budget_of_another() -> None:
    reply = api().post("/organization/new", {"organization_alias": "A", "budget_id": "b"})

    assert (reply.status, reply.error["code"]) == (400, "unsupported_field")
