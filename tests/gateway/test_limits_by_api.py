"""What is limited through the API is obeyed by the next request, through either door."""

from typing import Any

import pytest

from tests.api_client import master, new_id
from tests.conftest import Cast
from tests.gateway.support import CHAT, Answer, chat

api = master
NOTHING = {"max_budget": 0}


def new_key(cast: Cast, **fields: Any) -> str:
    made = api().made("/key/generate", **{"team_id": cast.team.public_id} | fields)
    return str(made["key"])


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.error["code"]


@pytest.mark.parametrize(
    "limits",
    [
        {"budget_limits": [{"budget_duration": "1d", "max_budget": 0}]},
        {"model_max_budget": {CHAT: {"max_budget": 0, "budget_duration": "1mo"}}},
    ],
    ids=["window", "model"],
)
def test_a_window_and_a_model_refuse_as_the_main_budget_does(
    door: str, cast: Cast, limits: dict[str, Any]
) -> None:
    secret = new_key(cast, **limits)

    refused = chat(door, secret)
    api().made("/key/update", key=secret, **dict.fromkeys(limits))
    admitted = chat(door, secret)

    assert refusal(refused) == (429, "budget_exceeded")
    assert admitted.status == 200


def test_a_model_that_is_not_limited_is_not_refused(door: str, cast: Cast) -> None:
    secret = new_key(cast, model_max_budget={"another": NOTHING})

    assert chat(door, secret).status == 200


def test_requests_a_minute_of_the_team_hold_for_its_keys(door: str, cast: Cast) -> None:
    secret = new_key(cast)
    api().made("/team/update", team_id=cast.team.public_id, rpm_limit=1)

    first, second = chat(door, secret), chat(door, secret)

    assert first.status == 200
    assert refusal(second) == (429, "rate_limit_exceeded")


def test_what_a_team_states_for_its_members_holds_for_their_keys(door: str, cast: Cast) -> None:
    secret = new_key(cast, user_id=cast.user.public_id)
    api().made("/team/update", team_id=cast.team.public_id, team_member_budget=0)

    refused = chat(door, secret)
    api().made("/team/update", team_id=cast.team.public_id, team_member_budget=None)

    assert refusal(refused) == (429, "budget_exceeded")
    assert refused.error["budget"]["account"]["kind"] == "member"
    assert chat(door, secret).status == 200


def test_an_end_user_is_blocked_and_admitted_again(door: str, cast: Cast) -> None:
    secret, user = new_key(cast), new_id("customer")
    of = {"user_ids": [user], "organization_id": cast.organization.public_id}

    first = chat(door, secret, user=user)
    api().made("/customer/block", **of)
    refused = chat(door, secret, user=user)
    other = chat(door, secret, user=new_id("customer"))
    api().made("/customer/unblock", **of)

    assert (first.status, other.status) == (200, 200)
    assert refusal(refused) == (403, "end_user_blocked")
    assert chat(door, secret, user=user).status == 200


def test_an_end_user_and_a_tag_have_budgets_of_their_own(door: str, cast: Cast) -> None:
    secret, user, tag = new_key(cast), new_id("customer"), new_id("tag")
    of = {"organization_id": cast.organization.public_id}
    api().made("/customer/new", user_id=user, **NOTHING, **of)
    api().made("/tag/new", name=tag, **NOTHING, **of)

    by_user = chat(door, secret, user=user)
    by_tag = chat(door, secret, metadata={"tags": [tag]})
    api().made("/customer/delete", user_ids=[user], **of)
    api().made("/tag/delete", name=tag, **of)

    assert refusal(by_user) == refusal(by_tag) == (429, "budget_exceeded")
    assert chat(door, secret, user=user, metadata={"tags": [tag]}).status == 200


def test_end_users_yet_to_come_have_the_organizations_template(door: str, cast: Cast) -> None:
    secret, organization_id = new_key(cast), cast.organization.public_id
    budget_id = api().made("/budget/new", organization_id=organization_id, **NOTHING)["budget_id"]
    api().made(
        "/organization/update", organization_id=organization_id, end_user_budget_id=budget_id
    )

    assert refusal(chat(door, secret, user=new_id("customer"))) == (429, "budget_exceeded")
    assert chat(door, secret).status == 200


def test_an_observed_budget_refuses_nothing(door: str, cast: Cast) -> None:
    secret = new_key(cast, enforcement="observe", **NOTHING)

    assert chat(door, secret).status == 200
