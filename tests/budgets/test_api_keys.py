"""Virtual keys: made, changed, rotated, blocked, deleted, told."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from budgets import keys
from budgets.lifetimes import end_of
from budgets.models import Account, ApiKey, Budget
from tests.api_client import master, new_id
from tests.conftest import Cast

api = master


def seconds_from_now(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()


def test_a_new_key_tells_its_secret_once_and_is_known_by_its_token(cast: Cast) -> None:
    made = api().made("/key/generate", key_alias=new_id("alias"), models=["m"], metadata={"a": 1})

    told = api().told("/key/info", key=made["token"])

    assert keys.is_well_formed(made["key"])
    assert made["token"] == made["token_id"] == keys.digest(made["key"]) == told["key"]
    assert made["key"].startswith(made["key_name"].removesuffix("..."))
    assert made["key"] not in str(told)
    assert told["info"]["models"] == ["m"]
    assert told["info"]["metadata"] == {"a": 1}


def test_a_key_is_found_by_secret_and_by_token(cast: Cast) -> None:
    made = api().made("/key/generate")

    by_secret = api().told("/key/info", key=made["key"])

    assert by_secret["info"]["token"] == api().told("/key/info", key=made["token"])["key"]


def test_limits_are_exact_both_ways(cast: Cast) -> None:
    reply = api().post("/key/generate", '{"max_budget": 123456789.123456789, "soft_budget": 1e-9}')

    assert '"max_budget":123456789.123456789' in reply.text
    assert reply.content["soft_budget"] == Decimal("0.000000001")
    assert '"soft_budget":0.000000001' in reply.text


@pytest.mark.parametrize("literal", ["-0", "-0.0", "0e5", "0.000"])
def test_every_zero_is_the_limit_zero(literal: str) -> None:
    reply = api().post("/key/generate", f'{{"max_budget": {literal}}}')

    assert reply.status == 200
    assert '"max_budget":0,' in reply.text


def test_a_key_without_anything_belongs_to_the_default_organization() -> None:
    made = api().made("/key/generate")

    assert made["organization_id"] == "default"
    assert made["max_budget"] is made["expires"] is made["user_id"] is made["team_id"] is None


def test_a_key_of_a_team_is_in_the_teams_organization(cast: Cast) -> None:
    made = api().made("/key/generate", team_id=cast.team.public_id, user_id=cast.user.public_id)

    assert made["organization_id"] == cast.organization.public_id
    assert made["user_id"] == cast.user.public_id
    members = api().told("/team/info", team_id=cast.team.public_id)["team_info"]
    assert members["members_with_roles"][0]["user_id"] == cast.user.public_id


def test_a_team_of_another_organization_is_refused(cast: Cast) -> None:
    reply = api().post(
        "/key/generate",
        {"team_id": cast.team.public_id, "organization_id": cast.outsider.public_id},
    )

    assert reply.status == 400
    assert reply.error["param"] == "organization_id"


@pytest.mark.parametrize("field", ["team_id", "user_id", "organization_id", "budget_id"])
def test_what_a_key_is_for_must_exist(field: str) -> None:
    reply = api().post("/key/generate", {field: new_id("nobody")})

    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "not_found", field)


def test_thirty_days_are_stored_as_the_month_and_the_answer_says_so() -> None:
    made = api().made("/key/generate", max_budget=1, budget_duration="30d")

    assert made["budget_duration"] == "1mo"
    reset = datetime.fromisoformat(made["budget_reset_at"])
    assert (reset.day, reset.hour, reset.minute) == (1, 0, 0)


def test_a_period_ends_in_the_time_zone_of_the_budget() -> None:
    made = api().made(
        "/key/generate", max_budget=1, budget_duration="daily", budget_time_zone="Asia/Kolkata"
    )

    reset = datetime.fromisoformat(made["budget_reset_at"])
    assert (reset.hour, reset.minute) == (18, 30)
    assert 0 < seconds_from_now(made["budget_reset_at"]) <= 86_400


def test_the_organizations_time_zone_is_the_default() -> None:
    organization_id = new_id("org")
    api().made(
        "/organization/new",
        organization_alias="Pune",
        organization_id=organization_id,
        time_zone="Asia/Kolkata",
    )

    made = api().made("/key/generate", organization_id=organization_id, max_budget=1)

    assert made["budget_time_zone"] == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("lifetime", "days"),
    [("90s", 90 / 86_400), ("15m", 1 / 96), ("24h", 1), ("30d", 30), ("1w", 7)],
)
def test_a_lifetime_is_counted_from_now(lifetime: str, days: float) -> None:
    made = api().made("/key/generate", duration=lifetime)

    assert seconds_from_now(made["expires"]) == pytest.approx(days * 86_400, abs=20)


def test_a_key_can_be_made_to_live_for_ever() -> None:
    made = api().made("/key/generate", duration="1mo")

    changed = api().made("/key/update", key=made["key"], duration="-1")

    assert made["expires"] is not None
    assert changed["expires"] is None


def test_an_update_changes_what_is_named_and_nothing_else() -> None:
    made = api().made(
        "/key/generate", max_budget=5, budget_duration="1w", models=["a"], metadata={"x": 1}
    )

    changed = api().made("/key/update", key=made["token"], max_budget=7)

    assert changed["max_budget"] == 7
    kept = ("budget_duration", "models", "metadata", "expires", "user_id", "enforcement")
    assert {name: changed[name] for name in kept} == {name: made[name] for name in kept}


def test_null_takes_away() -> None:
    made = api().made(
        "/key/generate", max_budget=5, soft_budget=4, models=["a"], key_alias=new_id("alias")
    )

    changed = api().made(
        "/key/update", key=made["key"], max_budget=None, models=None, key_alias=None
    )

    assert changed["max_budget"] is changed["key_alias"] is None
    assert changed["models"] == []
    assert changed["soft_budget"] == 4


def test_the_last_limit_taken_away_leaves_no_budget_behind() -> None:
    made = api().made("/key/generate", max_budget=5)

    api().made("/key/update", key=made["key"], max_budget=None)

    account = Account.objects.get(key__digest=made["token"])
    assert not Budget.objects.filter(private_to=account).exists()


def test_a_soft_limit_above_the_limit_that_is_there_is_refused() -> None:
    made = api().made("/key/generate", max_budget=5)

    reply = api().post("/key/update", {"key": made["key"], "soft_budget": 6})

    assert (reply.status, reply.error["param"]) == (400, "soft_budget")


def test_a_time_zone_for_no_limit_is_refused() -> None:
    reply = api().post("/key/generate", {"budget_time_zone": "Asia/Kolkata"})

    assert (reply.status, reply.error["param"]) == (400, "budget_time_zone")


def test_a_linked_budget_governs_and_is_told(cast: Cast) -> None:
    budget_id = new_id("budget")
    organization_id = cast.organization.public_id
    api().made(
        "/budget/new",
        budget_id=budget_id,
        max_budget=9,
        budget_duration="1d",
        organization_id=organization_id,
    )

    made = api().made("/key/generate", organization_id=organization_id, budget_id=budget_id)

    assert made["max_budget"] is None
    assert made["budget_id"] == made["litellm_budget_table"]["budget_id"] == budget_id
    assert made["litellm_budget_table"]["max_budget"] == 9
    assert made["budget_reset_at"] == made["litellm_budget_table"]["budget_reset_at"]


def test_limits_of_its_own_replace_a_linked_budget(cast: Cast) -> None:
    organization_id, budget_id = cast.organization.public_id, new_id("budget")
    api().made("/budget/new", budget_id=budget_id, max_budget=9, organization_id=organization_id)
    made = api().made("/key/generate", organization_id=organization_id, budget_id=budget_id)

    changed = api().made("/key/update", key=made["key"], max_budget=20)

    assert changed["max_budget"] == 20
    assert changed["budget_id"] is None


def test_limits_of_its_own_win_over_a_budget_that_is_named_beside_them(cast: Cast) -> None:
    organization_id, budget_id = cast.organization.public_id, new_id("budget")
    api().made("/budget/new", budget_id=budget_id, max_budget=9, organization_id=organization_id)

    made = api().made(
        "/key/generate", organization_id=organization_id, budget_id=budget_id, max_budget=20
    )

    assert (made["max_budget"], made["budget_id"]) == (20, None)


def test_a_budget_is_not_linked_beside_limits_of_its_own(cast: Cast) -> None:
    organization_id, budget_id = cast.organization.public_id, new_id("budget")
    api().made("/budget/new", budget_id=budget_id, max_budget=9, organization_id=organization_id)
    made = api().made("/key/generate", organization_id=organization_id, max_budget=1)

    refused = api().post("/key/update", {"key": made["key"], "budget_id": budget_id})
    linked = api().made("/key/update", key=made["key"], budget_id=budget_id, max_budget=None)

    assert (refused.status, refused.error["param"]) == (400, "budget_id")
    assert linked["budget_id"] == budget_id


def test_a_budget_of_another_organization_is_refused(cast: Cast) -> None:
    budget_id = new_id("budget")
    api().made("/budget/new", budget_id=budget_id, organization_id=cast.outsider.public_id)

    reply = api().post(
        "/key/generate",
        {"organization_id": cast.organization.public_id, "budget_id": budget_id},
    )

    assert (reply.status, reply.error["param"]) == (400, "budget_id")


def test_the_organization_of_a_key_cannot_be_changed(cast: Cast) -> None:
    made = api().made("/key/generate")

    reply = api().post(
        "/key/update", {"key": made["key"], "organization_id": cast.organization.public_id}
    )

    assert (reply.status, reply.error["param"]) == (400, "organization_id")


def test_an_alias_is_taken_once_in_an_organization(cast: Cast) -> None:
    alias = new_id("alias")
    api().made("/key/generate", key_alias=alias, organization_id=cast.organization.public_id)

    again = api().post(
        "/key/generate", {"key_alias": alias, "organization_id": cast.organization.public_id}
    )
    elsewhere = api().post(
        "/key/generate", {"key_alias": alias, "organization_id": cast.outsider.public_id}
    )

    assert (again.status, again.error["code"]) == (400, "already_exists")
    assert again.error["param"] == "key_alias"
    assert elsewhere.status == 200


def test_a_secret_of_ones_own_must_look_like_a_key_and_be_new() -> None:
    secret = new_id("sk")

    made = api().made("/key/generate", key=secret)
    again = api().post("/key/generate", {"key": secret})
    short = api().post("/key/generate", {"key": "sk-short"})

    assert made["key"] == secret
    assert (again.status, again.error["param"]) == (400, "key")
    assert (short.status, short.error["param"]) == (400, "key")


def test_rotation_keeps_all_but_the_secret() -> None:
    made = api().made("/key/generate", max_budget=5, key_alias=new_id("alias"))
    account = ApiKey.objects.get(digest=made["token"]).account_id

    rotated = api().made("/key/regenerate", key=made["key"], max_budget=6)

    assert rotated["key"] != made["key"]
    assert (rotated["max_budget"], rotated["key_alias"]) == (6, made["key_alias"])
    assert ApiKey.objects.get(digest=rotated["token"]).account_id == account
    assert api().get("/key/info", {"key": made["key"]}).status == 404


def test_the_path_may_name_the_key_to_rotate() -> None:
    made = api().made("/key/generate")
    new_key = new_id("sk")

    rotated = api().made(f"/key/{made['token']}/regenerate", new_key=new_key)
    again = api().post(f"/key/{new_key}/regenerate")

    assert rotated["key"] == new_key
    assert again.status == 200
    assert again.content["key"] != new_key


def test_a_rotation_that_fails_changes_nothing() -> None:
    made = api().made("/key/generate", max_budget=5)

    reply = api().post(
        "/key/regenerate", {"key": made["key"], "max_budget": 6, "new_key": "sk-cp-wrong-checksum"}
    )

    assert (reply.status, reply.error["param"]) == (400, "new_key")
    assert api().told("/key/info", key=made["key"])["info"]["max_budget"] == 5


def test_a_key_is_blocked_and_unblocked() -> None:
    made = api().made("/key/generate")

    blocked = api().made("/key/block", key=made["key"])
    unblocked = api().made("/key/unblock", key=made["token"])

    assert (blocked["blocked"], unblocked["blocked"]) == (True, False)


def test_keys_are_deleted_by_secret_token_and_alias(cast: Cast) -> None:
    alias = new_id("alias")
    first, second = api().made("/key/generate"), api().made("/key/generate")
    third = api().made("/key/generate", key_alias=alias)

    by_key = api().made("/key/delete", keys=[first["key"], second["token"]])
    by_alias = api().made("/key/delete", key_aliases=[alias])

    assert by_key == {"deleted_keys": [first["token"], second["token"]]}
    assert by_alias == {"deleted_keys": [third["token"]]}
    assert api().get("/key/info", {"key": first["key"]}).status == 404


def test_one_unknown_key_among_several_deletes_none() -> None:
    made = api().made("/key/generate")

    reply = api().post("/key/delete", {"keys": [made["key"], new_id("sk")]})

    assert (reply.status, reply.error["param"]) == (404, "keys[1]")
    assert api().get("/key/info", {"key": made["key"]}).status == 200


def test_an_alias_that_several_organizations_use_deletes_none(cast: Cast) -> None:
    alias = new_id("alias")
    for organization in (cast.organization, cast.outsider):
        api().made("/key/generate", key_alias=alias, organization_id=organization.public_id)

    reply = api().post("/key/delete", {"key_aliases": [alias]})

    assert (reply.status, reply.error["param"]) == (400, "key_aliases")


@pytest.mark.parametrize("body", [{}, {"keys": []}, {"keys": ["sk-a"], "key_aliases": ["b"]}])
def test_what_is_to_be_deleted_is_said_in_one_way(body: dict[str, list[str]]) -> None:
    reply = api().post("/key/delete", body)

    assert (reply.status, reply.error["param"]) == (400, "keys")


def test_lists_come_in_pages_the_newest_first(cast: Cast) -> None:
    organization_id = cast.organization.public_id
    made = [api().made("/key/generate", organization_id=organization_id) for _ in range(3)]

    first = api().told("/key/list", organization_id=organization_id, size=2)
    last = api().told("/key/list", organization_id=organization_id, size=2, page=2)
    beyond = api().told("/key/list", organization_id=organization_id, size=2, page=3)

    tokens = [key["token"] for key in reversed(made)]
    assert first == {
        "keys": tokens[:2], "total_count": 3, "current_page": 1, "total_pages": 2,
    }  # fmt: skip
    assert last["keys"] == tokens[2:]
    assert beyond["keys"] == []


def test_lists_are_filtered(cast: Cast) -> None:
    alias = new_id("alias")
    made = api().made(
        "/key/generate",
        key_alias=alias,
        team_id=cast.team.public_id,
        user_id=cast.user.public_id,
    )
    filters = {
        "team_id": cast.team.public_id,
        "user_id": cast.user.public_id,
        "key_alias": alias,
        "key_hash": made["token"],
    }

    for name, value in filters.items():
        assert api().told("/key/list", **{name: value})["keys"] == [made["token"]]
    assert api().told("/key/list", team_id=new_id("nobody"))["total_count"] == 0


def test_whole_keys_are_listed_on_request(cast: Cast) -> None:
    made = api().made("/key/generate", organization_id=cast.organization.public_id, max_budget=1)

    (told,) = api().told(
        "/key/list", organization_id=cast.organization.public_id, return_full_object="true"
    )["keys"]

    assert told["token"] == made["token"]
    assert told["max_budget"] == 1


def test_a_month_ends_on_the_last_day_of_a_shorter_one() -> None:
    start = datetime(2027, 1, 31, 12, 30, tzinfo=UTC)

    assert end_of("1mo", start=start) == datetime(2027, 2, 28, 12, 30, tzinfo=UTC)
    assert end_of("12mo", start=start) == end_of("1y", start=start)
    assert end_of("1d", start=start) == start + timedelta(days=1)


@pytest.mark.parametrize("names", [["all-team-models"], ["all-proxy-models"], []])
def test_litellms_words_for_all_models_are_the_empty_list(names: list[str]) -> None:
    assert api().made("/key/generate", models=names)["models"] == []


@pytest.mark.parametrize("name", ["openai/*", "no-default-models"])
def test_patterns_of_models_are_refused_since_they_would_not_be_obeyed(name: str) -> None:
    reply = api().post("/key/generate", {"models": [name]})

    assert (reply.status, reply.error["param"]) == (400, "models")
