"""What members, keys and end users get from their team or organization."""

from typing import Any, Final

import pytest

from budgets import in_force
from budgets.models import Account, Budget, BudgetTemplate, Team
from tests.api_client import master, new_id
from tests.conftest import Cast

api = master
MEMBER_TERMS: Final = {
    "team_member_budget": 5,
    "team_member_budget_duration": "1mo",
    "team_member_rpm_limit": 3,
    "team_member_tpm_limit": 900,
}
TEMPLATES: Final = ("key_budget_id", "member_budget_id", "end_user_budget_id")


def shared(organization_id: str, **limits: Any) -> str:
    made = api().made("/budget/new", organization_id=organization_id, **limits)
    return str(made["budget_id"])


def new_team(cast: Cast, **fields: Any) -> dict[str, Any]:
    return api().made("/team/new", organization_id=cast.organization.public_id, **fields)


def changed(team: dict[str, Any], **fields: Any) -> dict[str, Any]:
    data: dict[str, Any] = api().made("/team/update", team_id=team["team_id"], **fields)["data"]
    return data


def only(told: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: told[name] for name in names}


def in_force_on(account: Account) -> list[Any]:
    return [each.max_budget for each in in_force.budgets_on([account.id]).get(account.id, [])]


def test_what_a_team_states_for_its_members_holds_for_each_of_them(cast: Cast) -> None:
    team = new_team(cast, members_with_roles=[{"user_id": cast.user.public_id}], **MEMBER_TERMS)

    member = Team.objects.get(public_id=team["team_id"]).memberships.get()

    assert only(team, MEMBER_TERMS) == MEMBER_TERMS
    assert in_force_on(member.account) == [5]
    listed = api().told("/budget/list", organization_id=cast.organization.public_id)
    assert team["team_member_budget_id"] in {each["budget_id"] for each in listed}


def test_an_update_changes_that_budget_and_null_takes_it_away(cast: Cast) -> None:
    team = new_team(cast, **MEMBER_TERMS)

    raised = changed(team, team_member_budget=6)
    other = changed(team, team_alias="Other")
    gone = changed(team, **dict.fromkeys(MEMBER_TERMS))

    assert only(raised, MEMBER_TERMS) == {**MEMBER_TERMS, "team_member_budget": 6}
    assert raised["team_member_budget_id"] == team["team_member_budget_id"]
    assert other["team_member_budget"] == 6
    assert only(gone, MEMBER_TERMS) == dict.fromkeys(MEMBER_TERMS)
    assert not Budget.objects.filter(public_id=team["team_member_budget_id"]).exists()


def test_a_member_with_limits_of_its_own_has_those_instead(cast: Cast) -> None:
    team = new_team(cast, **MEMBER_TERMS)
    api().made(
        "/team/member_add",
        team_id=team["team_id"],
        member={"user_id": cast.user.public_id},
        max_budget_in_team=9,
    )

    member = Team.objects.get(public_id=team["team_id"]).memberships.get()

    assert in_force_on(member.account) == [9]


@pytest.mark.parametrize("field", TEMPLATES)
@pytest.mark.parametrize("holder", ["team", "organization"])
def test_a_shared_budget_can_be_for_all_that_is_under_a_holder(
    cast: Cast, holder: str, field: str
) -> None:
    budget_id = shared(cast.organization.public_id, max_budget=3)
    id = {f"{holder}_id": getattr(cast, holder).public_id}

    def update(**fields: Any) -> dict[str, Any]:
        answer = api().made(f"/{holder}/update", **id, **fields)
        told: dict[str, Any] = answer.get("data", answer)
        return told

    given, kept, gone = update(**{field: budget_id}), update(metadata={}), update(**{field: None})

    assert only(given, TEMPLATES) == {**dict.fromkeys(TEMPLATES), field: budget_id}
    assert kept[field] == budget_id
    assert gone[field] is None
    assert Budget.objects.filter(public_id=budget_id).exists()


def test_a_key_without_limits_has_its_organizations_template(cast: Cast) -> None:
    organization_id = cast.organization.public_id
    budget_id = shared(organization_id, max_budget=3)
    api().made("/organization/update", organization_id=organization_id, key_budget_id=budget_id)

    key = api().made("/key/generate", organization_id=organization_id)

    assert key["litellm_budget_table"]["budget_id"] == budget_id
    assert key["max_budget"] is None


@pytest.mark.parametrize("holder", ["team", "organization"])
@pytest.mark.parametrize("field", TEMPLATES)
def test_a_template_of_another_organization_is_refused(cast: Cast, holder: str, field: str) -> None:
    foreign = shared(cast.outsider.public_id, max_budget=3)
    id = {f"{holder}_id": getattr(cast, holder).public_id}

    reply = api().post(f"/{holder}/update", {**id, field: foreign})

    assert (reply.status, reply.error["param"]) == (400, field)
    assert not BudgetTemplate.objects.filter(budget__public_id=foreign).exists()


def test_a_template_that_there_is_not_is_not_found(cast: Cast) -> None:
    reply = api().post(
        "/team/update", {"team_id": cast.team.public_id, "key_budget_id": new_id("budget")}
    )

    assert (reply.status, reply.error["param"]) == (404, "key_budget_id")


def test_members_have_what_the_team_states_or_what_it_links_never_both(cast: Cast) -> None:
    team = new_team(cast, **MEMBER_TERMS)
    budget_id = shared(cast.organization.public_id, max_budget=3)

    beside = api().post("/team/update", {"team_id": team["team_id"], "member_budget_id": budget_id})
    instead = changed(team, member_budget_id=budget_id, **dict.fromkeys(MEMBER_TERMS))
    nulls_again = changed(team, **dict.fromkeys(MEMBER_TERMS))
    stated = changed(team, team_member_budget=2)

    assert (beside.status, beside.error["param"]) == (400, "member_budget_id")
    assert (instead["member_budget_id"], instead["team_member_budget"]) == (budget_id, None)
    assert nulls_again["member_budget_id"] == budget_id
    assert (stated["member_budget_id"], stated["team_member_budget"]) == (None, 2)


def test_a_team_that_is_deleted_gives_nothing_any_more(cast: Cast) -> None:
    budget_id = shared(cast.organization.public_id, max_budget=3)
    team = new_team(cast, key_budget_id=budget_id, team_member_budget=1)

    api().made("/team/delete", team_ids=[team["team_id"]])

    assert api().made("/budget/delete", id=budget_id)["budget_id"] == budget_id
    assert not Budget.objects.filter(public_id=team["team_member_budget_id"]).exists()


def test_a_budget_that_is_a_template_is_not_deleted(cast: Cast) -> None:
    budget_id = shared(cast.organization.public_id, max_budget=3)
    new_team(cast, end_user_budget_id=budget_id)

    reply = api().post("/budget/delete", {"id": budget_id})

    assert (reply.status, reply.error["param"]) == (400, "id")


# --- /organization/update --------------------------------------------------------------
def test_an_organization_is_changed_by_either_method(cast: Cast) -> None:
    organization_id = cast.organization.public_id

    api().made(
        "/organization/update",
        organization_id=organization_id,
        organization_alias="New",
        max_budget=9,
        budget_limits=[{"budget_duration": "1d", "max_budget": 1}],
    )
    reply = api().patch(
        "/organization/update",
        {"organization_id": organization_id, "rpm_limit": 5, "blocked": True},
    )

    assert reply.status == 200, reply.text
    told = api().told("/organization/info", organization_id=organization_id)
    assert (told["organization_alias"], told["max_budget"], told["rpm_limit"]) == ("New", 9, 5)
    assert told["blocked"] is True
    assert len(told["budget_limits"]) == 1


def test_an_organization_can_be_linked_to_a_shared_budget_of_its_own_only(cast: Cast) -> None:
    own, foreign = (shared(each.public_id) for each in (cast.organization, cast.outsider))
    id = {"organization_id": cast.organization.public_id}

    linked = api().made("/organization/update", **id, budget_id=own)
    refused = api().post("/organization/update", {**id, "budget_id": foreign})

    assert linked["budget_id"] == own
    assert (refused.status, refused.error["param"]) == (400, "budget_id")


def test_an_organization_keeps_the_currency_it_is_limited_in(cast: Cast) -> None:
    id = {"organization_id": cast.organization.public_id}
    api().made("/organization/update", **id, max_budget=9)

    reply = api().post("/organization/update", {**id, "currency": "EUR", "max_budget": 8})

    assert (reply.status, reply.error["param"]) == (400, "currency")
    assert api().told("/organization/info", **id)["max_budget"] == 9
