"""What a key is told of itself."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from budgets.models import ApiKey, holder_model_account_id
from budgets.periods import FOREVER, period_at, zone_of
from tests.api_client import Api, live_counter, master, new_id
from tests.conftest import Cast
from tests.gateway.support import chat, get

NANO: Final = 10**9
PATH: Final = "/v1/key"


def told(secret: str) -> dict[str, Any]:
    content: dict[str, Any] = Api(secret).told(PATH)
    return content


def new_key(cast: Cast, **fields: Any) -> dict[str, Any]:
    return master().made(
        "/key/generate", **{"organization_id": cast.organization.public_id} | fields
    )


def account_of(key: dict[str, Any]) -> UUID:
    return ApiKey.objects.get(digest=key["token"]).account_id


def only(limit: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: limit[name] for name in names}


def test_a_key_is_told_its_limits_with_what_is_spent_and_left(cast: Cast) -> None:
    key = new_key(
        cast, key_alias=new_id("alias"), max_budget=5, budget_duration="1mo", rpm_limit=60
    )
    month = period_at(duration="1mo", zone=zone_of("UTC"), at=datetime.now(UTC))

    with live_counter(account_of(key), month, NANO // 4):
        content = told(key["key"])
        info = master().told("/key/info", key=key["token"])["info"]

    (limit,) = content["limits"]
    assert only(limit, "level", "model", "limit", "spent", "reserved", "remaining") == {
        "level": "key", "model": None, "limit": "5", "spent": "0.25", "reserved": "0",
        "remaining": "4.75",
    }  # fmt: skip
    assert only(limit, "enforcement", "rpm_limit", "tpm_limit", "currency") == {
        "enforcement": "adaptive", "rpm_limit": 60, "tpm_limit": None, "currency": "USD",
    }  # fmt: skip
    assert limit["resets_at"] == month.end.isoformat()
    assert limit["spent"] == str(info["spend"])
    assert content["key_alias"] == key["key_alias"]
    assert key["key"] not in str(content)


def test_every_level_is_named_and_those_above_tell_only_what_they_leave(cast: Cast) -> None:
    team_id, user_id = cast.team.public_id, cast.user.public_id
    organization_id = cast.organization.public_id
    master().made("/organization/update", organization_id=organization_id, max_budget=100)
    master().made("/team/update", team_id=team_id, max_budget=50, rpm_limit=7)
    master().made("/user/update", user_id=user_id, max_budget=20)
    key = new_key(cast, team_id=team_id, user_id=user_id, max_budget=5)
    master().made("/team/member_update", team_id=team_id, user_id=user_id, max_budget_in_team=10)

    limits = {each["level"]: each for each in told(key["key"])["limits"]}

    assert {level: each["limit"] for level, each in limits.items()} == {
        "key": "5", "member": "10", "user": "20", "team": "50", "organization": "100",
    }  # fmt: skip
    assert {"spent", "reserved"} <= limits["member"].keys() & limits["user"].keys()
    for level in ("team", "organization"):
        assert set(limits[level]) == {
            "level", "model", "limit", "remaining", "currency", "budget_duration", "resets_at",
            "as_of", "increased_until",
        }  # fmt: skip


def test_windows_and_models_are_limits_of_their_own(cast: Cast) -> None:
    key = new_key(
        cast,
        max_budget=5,
        budget_limits=[{"budget_duration": "1d", "max_budget": 1}],
        model_max_budget={"m": {"max_budget": 2}},
    )
    of_model = holder_model_account_id(holder=account_of(key), model="m")

    with live_counter(of_model, FOREVER, NANO):
        limits = told(key["key"])["limits"]

    assert [(each["model"], each["limit"], each["remaining"]) for each in limits] == [
        (None, "5", "5"), (None, "1", "1"), ("m", "2", "1"),
    ]  # fmt: skip


def test_a_template_is_told_as_the_keys_own(cast: Cast) -> None:
    organization_id = cast.organization.public_id
    budget_id = master().made("/budget/new", organization_id=organization_id, max_budget=3)[
        "budget_id"
    ]
    master().made("/organization/update", organization_id=organization_id, key_budget_id=budget_id)

    (limit,) = told(new_key(cast)["key"])["limits"]

    assert only(limit, "level", "limit", "budget_id") == {
        "level": "key", "limit": "3", "budget_id": budget_id,
    }  # fmt: skip


def test_budgets_of_the_platform_are_never_told(cast: Cast) -> None:
    model = new_id("model")
    master().made("/api/v1/model-budgets", model=model, max_budget="7")
    master().made("/provider/budgets", **{new_id("p")[:60]: {"max_budget": 7}})

    limits = told(new_key(cast, models=[model])["key"])["limits"]

    assert [only(each, "level", "limit") for each in limits] == [{"level": "key", "limit": None}]


def test_the_models_told_are_those_that_every_list_has(cast: Cast) -> None:
    master().made("/team/update", team_id=cast.team.public_id, models=["a", "b"])
    both = new_key(cast, team_id=cast.team.public_id, models=["b", "c"])
    none = new_key(cast)

    assert told(both["key"])["allowed_models"] == ["b"]
    assert told(none["key"])["allowed_models"] is None


def test_more_spent_than_the_limit_leaves_nothing_not_less(cast: Cast) -> None:
    key = new_key(cast, max_budget=1)

    with live_counter(account_of(key), FOREVER, 3 * NANO):
        (limit,) = told(key["key"])["limits"]

    assert only(limit, "spent", "remaining") == {"spent": "3", "remaining": "0"}


def test_who_may_call_nothing_is_told_nothing(cast: Cast) -> None:
    blocked = new_key(cast, blocked=True)
    expired = new_key(cast)
    ApiKey.objects.filter(digest=expired["token"]).update(
        expires_at=datetime.now(UTC) - timedelta(days=1)
    )

    replies = [Api(key).get(PATH) for key in (blocked["key"], expired["key"], "sk-" + "x" * 40, "")]

    assert [reply.status for reply in replies] == [403, 401, 401, 401]
    assert [reply.content["error"]["code"] for reply in replies][:2] == [
        "key_blocked", "key_expired",
    ]  # fmt: skip


def test_the_master_key_is_no_virtual_key() -> None:
    assert master().get(PATH).status == 401


def test_a_key_sees_only_what_is_its_own(cast: Cast) -> None:
    new_key(cast, max_budget=5)
    other = new_key(cast, organization_id=cast.outsider.public_id, max_budget=6)

    content = told(other["key"])

    assert content["organization_id"] == cast.outsider.public_id
    assert [each["limit"] for each in content["limits"]] == ["6"]


def test_an_exhausted_key_is_told_so_through_either_door(door: str, cast: Cast) -> None:
    key = cast.key("0.000000001")

    refused = chat(door, key.secret)
    answer = get(door, key.secret, PATH)

    assert refused.error["code"] == "budget_exceeded"
    (limit,) = answer.json["limits"]
    assert only(limit, "level", "limit", "spent") == {
        "level": "key", "limit": "0.000000001", "spent": "0",
    }  # fmt: skip


def test_what_a_request_cost_is_told_at_once(door: str, cast: Cast) -> None:
    key = cast.key("1")

    answer = chat(door, key.secret)
    (limit,) = get(door, key.secret, PATH).json["limits"]

    assert Decimal(limit["spent"]) == Decimal(answer.headers["x-costplatform-cost"]) > 0
    assert limit["remaining"] == answer.headers["x-costplatform-remaining"]
