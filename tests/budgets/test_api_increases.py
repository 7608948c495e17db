"""``/api/v1/increases``, and LiteLLM's pair of fields on keys."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budgets.models import Account, Increase, Membership, User
from budgets.services import tenancy
from budgets.services.accounts import Terms
from tests.api_client import Api, master
from tests.conftest import Cast

PATH = "/api/v1/increases"
SOON, PAST = "2900-01-01T00:00Z", "2020-01-01T00:00Z"


def api() -> Any:
    return master()


def later(**distance: Any) -> str:
    return (datetime.now(UTC) + timedelta(**distance)).isoformat()


@pytest.fixture
def key(cast: Cast) -> dict[str, Any]:
    return new_key(cast)


def new_key(cast: Cast, **fields: Any) -> dict[str, Any]:
    limits = {"max_budget": 10, "budget_duration": "1mo"} | fields
    made: dict[str, Any] = api().made(
        "/key/generate", organization_id=cast.organization.public_id, **limits
    )
    return made


def asked(key: dict[str, Any], **fields: Any) -> dict[str, Any]:
    body = {"account_id": key["account_id"], "amount": "5", "why": "a launch"} | fields
    made: dict[str, Any] = api().made(PATH, **body)
    return made


def admin() -> str:
    name = f"admin-{uuid.uuid4().hex[:8]}"
    User.objects.create(username=name, public_id=name, is_superuser=True)
    return name


def info(key: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = api().told("/key/info", key=key["token"])["info"]
    return told


def test_an_increase_is_asked_for_approved_shortened_and_cancelled(
    cast: Cast, key: dict[str, Any]
) -> None:
    made, who = asked(key, user_id=cast.user.public_id), admin()
    before = info(key)

    approved = api().made(f"{PATH}/{made['id']}/approve", user_id=who, note="go", amount="7.5")
    within = info(key)
    end = later(minutes=5)
    shortened = api().made(f"{PATH}/{made['id']}/shorten", ends_at=end)
    cancelled = api().made(f"{PATH}/{made['id']}/cancel", note="enough")
    after = info(key)

    assert (made["state"], made["asked_by"], made["counts_now"]) == (
        "pending", cast.user.username, False,
    )  # fmt: skip
    assert [each["limit"] for each in (before, within, after)] == [10, 17.5, 10]
    assert {each["max_budget"] for each in (before, within, after)} == {10}
    assert (approved["amount"], approved["decided_by"], approved["counts_now"]) == (
        "7.5", who, True,
    )  # fmt: skip
    assert datetime.fromisoformat(within["limit_increased_until"]) > datetime.now(UTC)
    assert datetime.fromisoformat(shortened["ends_at"]) == datetime.fromisoformat(end)
    assert (cancelled["state"], cancelled["cancelled_by"], cancelled["note"]) == (
        "cancelled", "master key", "enough",
    )  # fmt: skip


def test_the_master_key_does_not_approve_what_it_asked_for_itself(key: dict[str, Any]) -> None:
    made = asked(key)

    refused = api().post(f"{PATH}/{made['id']}/approve", {})
    approved = api().made(f"{PATH}/{made['id']}/approve", user_id=admin())

    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert approved["state"] == "approved"


def test_what_is_decided_is_a_conflict_that_names_who(cast: Cast, key: dict[str, Any]) -> None:
    made = asked(key, user_id=cast.user.public_id)
    api().made(f"{PATH}/{made['id']}/deny", note="not this month")

    again = api().post(f"{PATH}/{made['id']}/approve", {"user_id": admin()})

    assert (again.status, again.error["code"]) == (409, "already_decided")
    assert "denied by master key at 20" in again.error["message"]


def test_an_organization_may_want_two_approvers(cast: Cast, key: dict[str, Any]) -> None:
    organization_id = cast.organization.public_id
    told = api().made(
        "/organization/update", organization_id=organization_id, second_approver_above=4
    )
    made = asked(key, user_id=cast.user.public_id)

    first = api().made(f"{PATH}/{made['id']}/approve")
    second = api().made(f"{PATH}/{made['id']}/approve", user_id=admin())

    assert told["second_approver_above"] == 4
    assert (first["state"], first["decided_by"], info(key)["limit"]) == (
        "pending",
        "master key",
        15,
    )
    assert second["state"] == "approved"


def test_what_stands_above_is_told_with_what_it_has_left(cast: Cast) -> None:
    team_id, organization_id = cast.team.public_id, cast.organization.public_id
    api().made("/organization/update", organization_id=organization_id, max_budget=100)
    api().made("/team/update", team_id=team_id, max_budget=3)
    key = new_key(cast, team_id=team_id)

    made = asked(key)

    assert [
        (each["account"]["kind"], each["remaining"], each["would_exceed"]) for each in made["above"]
    ] == [("team", "3", True), ("organization", "100", False)]
    assert (made["limit"], made["spent"], made["remaining"]) == ("10", "0", "10")


def test_the_list_is_filtered_and_one_query_serves_many(cast: Cast, key: dict[str, Any]) -> None:
    other = new_key(cast)
    first = asked(key, user_id=cast.user.public_id)
    api().made(f"{PATH}/{first['id']}/deny", note="no")
    asked(other)

    def ids(**filters: Any) -> list[str]:
        told = api().told(PATH, organization_id=cast.organization.public_id, **filters)
        return [each["id"] for each in told]

    assert len(ids()) == 2
    assert ids(state="denied") == ids(account_id=key["account_id"]) == [first["id"]]
    assert ids(asked_by=cast.user.username) == [first["id"]]
    assert api().told(PATH, organization_id=cast.outsider.public_id) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"amount": 5}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "1e3"}, "amount"),
        ({"why": ""}, "why"),
        ({"why": None}, "why"),
        ({"account_id": "key"}, "account_id"),
        ({"account_id": "98765432-1000-4000-8000-000000000001"}, "account_id"),
        ({"budget_id": "nobody's"}, "budget_id"),
        ({"ends_at": "2026-11-30"}, "ends_at"),
        ({"ends_at": "2026-11-30T18:00"}, "ends_at"),
        ({"ends_at": "2020-11-30T18:00Z"}, "ends_at"),
        ({"ends_at": "2026-02-30T18:00Z"}, "ends_at"),
        ({"ends_at": "9999-12-31T23:59-23:00"}, "ends_at"),
        ({"user_id": "nobody"}, "user_id"),
        ({"state": "approved"}, "state"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(
    fields: dict[str, Any], param: str, key: dict[str, Any]
) -> None:
    body = {"account_id": key["account_id"], "amount": "5", "why": "a launch"}

    reply = api().post(PATH, body | fields)

    assert reply.status in {400, 404}
    assert reply.error["param"] == param
    assert not Increase.objects.filter(account=key["account_id"]).exists()


def test_who_belongs_to_another_organization_neither_asks_nor_decides(
    cast: Cast, key: dict[str, Any]
) -> None:
    outsider = f"outsider-{uuid.uuid4().hex[:8]}"
    tenancy.create_user(
        organization=cast.outsider, values={"public_id": outsider}, terms=Terms(),
        now=datetime.now(UTC),
    )  # fmt: skip
    body = {"account_id": key["account_id"], "amount": "5", "why": "a launch"}
    made = asked(key)

    for path, sent in (
        (PATH, body),
        (f"{PATH}/{made['id']}/approve", {}),
        (f"{PATH}/{made['id']}/deny", {"note": "no"}),
        (f"{PATH}/{made['id']}/cancel", {}),
        (f"{PATH}/{made['id']}/shorten", {"ends_at": later(minutes=1)}),
    ):
        assert api().post(path, {"user_id": outsider} | sent).status == 403

    assert api().told(f"{PATH}/{made['id']}")["state"] == "pending"


def test_without_the_master_key_there_is_nothing_to_see(key: dict[str, Any]) -> None:
    made = asked(key)

    for path in (PATH, f"{PATH}/{made['id']}"):
        assert Api("").get(path, {}).status == 401
        assert Api(key["key"]).get(path, {}).status == 403
    assert api().get(f"{PATH}/{uuid.uuid4()}", {}).status == 404


# --- LiteLLM's pair -------------------------------------------------------------------
def test_the_pair_gives_an_increase_at_once_and_replaces_the_one_before(
    key: dict[str, Any],
) -> None:
    first = api().made(
        "/key/update", key=key["token"], temp_budget_increase=5, temp_budget_expiry=later(hours=1)
    )
    second = api().made(
        "/key/update", key=key["token"], temp_budget_increase=2.5, temp_budget_expiry=later(hours=2)
    )
    ended = api().made(
        "/key/update", key=key["token"], temp_budget_increase=None, temp_budget_expiry=None
    )

    assert [each["limit"] for each in (first, second, ended)] == [15, 12.5, 10]
    assert {each["max_budget"] for each in (first, second, ended)} == {10}
    states = Increase.objects.filter(account=key["account_id"]).values_list("state", flat=True)
    assert list(states) == ["cancelled", "cancelled"]


def test_the_pair_works_where_a_key_is_made_and_a_time_without_a_zone_is_utc(cast: Cast) -> None:
    expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)

    made = new_key(cast, temp_budget_increase=5, temp_budget_expiry=expiry.isoformat())

    assert made["limit"] == 15
    assert datetime.fromisoformat(made["limit_increased_until"]) == expiry.replace(tzinfo=UTC)


def test_what_is_left_out_keeps_the_increase(key: dict[str, Any]) -> None:
    api().made(
        "/key/update", key=key["token"], temp_budget_increase=5, temp_budget_expiry=later(hours=1)
    )

    changed = api().made("/key/update", key=key["token"], max_budget=20)

    assert (changed["max_budget"], changed["limit"]) == (20, 25)


@pytest.mark.parametrize(
    ("pair", "param"),
    [
        ({"temp_budget_increase": 5}, "temp_budget_expiry"),
        ({"temp_budget_expiry": SOON}, "temp_budget_increase"),
        ({"temp_budget_increase": None, "temp_budget_expiry": SOON}, "temp_budget_increase"),
        ({"temp_budget_increase": 0, "temp_budget_expiry": SOON}, "temp_budget_increase"),
        ({"temp_budget_increase": "5", "temp_budget_expiry": SOON}, "temp_budget_increase"),
        ({"temp_budget_increase": 5, "temp_budget_expiry": PAST}, "temp_budget_expiry"),
        ({"temp_budget_increase": 5, "temp_budget_expiry": "soon"}, "temp_budget_expiry"),
    ],
    ids=str,
)  # fmt: skip
def test_half_a_pair_or_one_that_does_not_fit_changes_nothing(
    pair: dict[str, Any], param: str, key: dict[str, Any]
) -> None:
    reply = api().post("/key/update", {"key": key["token"], "max_budget": 99} | pair)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert (info(key)["max_budget"], info(key)["limit"]) == (10, 10)


def test_a_key_without_a_limit_cannot_be_increased(cast: Cast) -> None:
    key = new_key(cast, max_budget=None, budget_duration=None)
    pair = {"temp_budget_increase": 5, "temp_budget_expiry": later(hours=1)}

    reply = api().post("/key/update", {"key": key["token"]} | pair)

    assert (reply.status, reply.error["param"]) == (400, "temp_budget_increase")


def test_every_account_is_told_with_its_id(cast: Cast, key: dict[str, Any]) -> None:
    user_id, team_id = cast.user.public_id, cast.team.public_id
    api().made("/team/member_add", team_id=team_id, member={"user_id": user_id, "role": "user"})
    told = {
        "organization": api().told(
            "/organization/info", organization_id=cast.organization.public_id
        ),
        "team": api().told("/team/info", team_id=team_id)["team_info"],
        "user": api().told("/user/info", user_id=user_id)["user_info"],
        "member": api().told("/team/info", team_id=team_id)["team_memberships"][0],
        "key": info(key),
    }

    kinds = {name: Account.objects.get(pk=each["account_id"]).kind for name, each in told.items()}

    assert kinds == {name: name for name in told}
    assert Membership.objects.filter(account=told["member"]["account_id"]).exists()
