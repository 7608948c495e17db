"""Answers say where those under a team or organization may spend more than it has itself."""

from typing import Any

from tests.api_client import master, new_id
from tests.conftest import Cast

api = master
MONTH = "1mo"


def limit_team(cast: Cast, **limits: Any) -> list[str]:
    answer = api().made("/team/update", team_id=cast.team.public_id, **limits)
    warnings: list[str] = answer["warnings"]
    return warnings


def limit_organization(cast: Cast, **limits: Any) -> list[str]:
    id = {"organization_id": cast.organization.public_id}
    warnings: list[str] = api().made("/organization/update", **id, **limits)["warnings"]
    return warnings


def key_of_team(cast: Cast, **limits: Any) -> dict[str, Any]:
    return api().made("/key/generate", team_id=cast.team.public_id, **limits)


def test_keys_and_members_that_may_spend_more_than_their_team_are_told(cast: Cast) -> None:
    key_of_team(cast, max_budget=70, budget_duration=MONTH)
    api().made(
        "/team/member_add",
        team_id=cast.team.public_id,
        member={"user_id": cast.user.public_id},
        max_budget_in_team=50,
        budget_duration=MONTH,
    )

    enough = limit_team(cast, max_budget=70, budget_duration=MONTH)
    too_little = limit_team(cast, max_budget=49.5)
    told = api().told("/team/info", team_id=cast.team.public_id)

    assert enough == []
    assert too_little == [
        "Its 1 key with limits may spend 70 USD a month; its own budget is 49.5 USD.",
        "Its 1 member with limits may spend 50 USD a month; its own budget is 49.5 USD.",
    ]
    assert told["warnings"] == too_little


def test_only_budgets_of_the_same_duration_are_compared(cast: Cast) -> None:
    key_of_team(
        cast,
        max_budget=500,
        budget_duration=MONTH,
        budget_limits=[{"budget_duration": "1d", "max_budget": 30}],
    )

    warnings = limit_team(
        cast, max_budget=20, budget_duration="1d",
        budget_limits=[{"budget_duration": MONTH, "max_budget": 500}],
    )  # fmt: skip

    assert warnings == ["Its 1 key with limits may spend 30 USD a day; its own budget is 20 USD."]


def test_teams_and_keys_without_one_are_compared_with_their_organization(cast: Cast) -> None:
    limit_team(cast, max_budget=11)
    key_of_team(cast, max_budget=1_000)
    api().made("/key/generate", organization_id=cast.organization.public_id, max_budget=12)

    warnings = limit_organization(cast, max_budget=10)
    told = api().told("/organization/info", organization_id=cast.organization.public_id)

    assert warnings == told["warnings"] == [
        "Its 1 key with limits may spend 12 USD for its whole life; its own budget is 10 USD.",
        "Its 1 team with limits may spend 11 USD for its whole life; its own budget is 10 USD.",
    ]  # fmt: skip


def test_who_has_no_budget_counts_with_its_template(cast: Cast) -> None:
    key_of_team(cast)
    key_of_team(cast, max_budget=1)
    for _ in range(3):
        api().made(
            "/team/member_add", team_id=cast.team.public_id, member={"user_id": new_id("user")}
        )
    budget_id = api().made(
        "/budget/new", organization_id=cast.organization.public_id, max_budget=4
    )["budget_id"]
    limit_organization(cast, key_budget_id=budget_id)

    warnings = limit_team(cast, max_budget=14, team_member_budget=5)

    assert warnings == [
        "Its 3 members with limits may spend 15 USD for its whole life; its own budget is 14 USD."
    ]


def test_a_linked_budget_counts_once_for_each_that_has_it(cast: Cast) -> None:
    budget_id = api().made(
        "/budget/new", organization_id=cast.organization.public_id, max_budget=4
    )["budget_id"]
    for _ in range(2):
        key_of_team(cast, budget_id=budget_id)

    assert len(limit_team(cast, max_budget=7)) == 1
    assert limit_team(cast, max_budget=8) == []


def test_without_a_limit_of_its_own_nothing_is_too_much(cast: Cast) -> None:
    key_of_team(cast, max_budget=1_000)

    assert limit_team(cast, rpm_limit=5) == []
    assert limit_organization(cast, rpm_limit=5) == []


def test_what_others_have_does_not_count(cast: Cast) -> None:
    api().made("/key/generate", organization_id=cast.outsider.public_id, max_budget=1_000)
    api().made("/team/new", organization_id=cast.outsider.public_id, max_budget=1_000)

    assert limit_organization(cast, max_budget=1) == []
