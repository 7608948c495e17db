"""Rates, several budgets at once, and budgets of single models: on whatever can have a budget."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest

from budgets import storekeeper
from budgets.models import Account, ApiKey, Budget, holder_model_account_id
from budgets.periods import FOREVER, period_at, zone_of
from tests.api_client import live_counter, master, new_id
from tests.conftest import Cast

api = master
NANO: Final = 10**9
RATES: Final = {"rpm_limit": 60, "tpm_limit": 100_000, "max_parallel_requests": 4}
NO_RATES: Final = dict.fromkeys(RATES)


def make(kind: str, cast: Cast, **limits: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Make something with limits; return where it is changed, by which id, and what was told."""
    of = {} if kind == "organization" else {"organization_id": cast.organization.public_id}
    if kind == "organization":
        limits["organization_alias"] = "Another"
    if kind == "customer":
        limits["user_id"] = new_id("customer")
    path = "/key/generate" if kind == "key" else f"/{kind}/new"
    made = api().made(path, **of, **limits)
    id = {"key": "token", "user": "user_id", "customer": "user_id"}.get(kind, f"{kind}_id")
    name = "key" if kind == "key" else id
    return f"/{kind}/update", {name: made[id]}, made


def update(path: str, id: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = api().made(path, **id, **changes)
    told: dict[str, Any] = changed.get("data", changed)
    return told


def only(told: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: told[name] for name in names}


def account_of(token: str) -> Account:
    return Account.objects.get(key__digest=token)


KINDS: Final = ("key", "team", "user", "budget")


@pytest.mark.parametrize("kind", KINDS)
def test_rates_are_told_changed_and_taken_away(cast: Cast, kind: str) -> None:
    path, id, made = make(kind, cast, **RATES)

    changed = update(path, id, rpm_limit=61)
    cleared = update(path, id, **NO_RATES)

    assert only(made, RATES) == RATES
    assert only(changed, RATES) == {**RATES, "rpm_limit": 61}
    assert only(cleared, RATES) == NO_RATES


def test_an_organization_has_rates_and_its_budget_tells_them() -> None:
    made = api().made("/organization/new", organization_alias="A", **RATES)

    assert only(made, RATES) == RATES
    assert only(made["litellm_budget_table"], RATES) == RATES


def test_a_member_has_rates_of_its_own(cast: Cast) -> None:
    member = {"team_id": cast.team.public_id, "user_id": cast.user.public_id}
    added = api().made(
        "/team/member_add",
        team_id=cast.team.public_id,
        member={"user_id": cast.user.public_id},
        max_budget_in_team=5,
        rpm_limit=3,
    )

    changed = api().made("/team/member_update", **member, tpm_limit=9)

    assert added["updated_team_memberships"][0]["litellm_budget_table"]["rpm_limit"] == 3
    assert only(changed, RATES) == {"rpm_limit": 3, "tpm_limit": 9, "max_parallel_requests": None}
    assert changed["max_budget_in_team"] == 5


def test_every_mode_of_enforcement_can_be_chosen_and_adaptive_is_the_default() -> None:
    made = api().made("/key/generate", max_budget=1)
    strict = api().made("/key/update", key=made["token"], enforcement="strict")
    back = api().made("/key/update", key=made["token"], enforcement=None)

    assert [each["enforcement"] for each in (made, strict, back)] == [
        "adaptive", "strict", "adaptive",
    ]  # fmt: skip


def test_a_mode_for_no_limit_is_refused_not_forgotten() -> None:
    reply = api().post("/key/generate", {"enforcement": "observe"})

    assert (reply.status, reply.error["param"]) == (400, "enforcement")


# --- Several budgets at once -----------------------------------------------------------
@pytest.mark.parametrize("kind", ["key", "team", "user"])
def test_a_days_and_a_months_budget_hold_beside_each_other(cast: Cast, kind: str) -> None:
    windows = [
        {"budget_duration": "1d", "max_budget": 5},
        {"budget_duration": "30d", "max_budget": 100},
    ]
    path, id, made = make(kind, cast, budget_limits=windows)

    changed = update(path, id, budget_limits=[{"budget_duration": "daily", "max_budget": 6}])
    cleared = update(path, id, budget_limits=None)

    told = [(each["budget_duration"], each["max_budget"]) for each in made["budget_limits"]]
    assert sorted(told) == [("1d", 5), ("1mo", 100)]
    assert all(each["reset_at"] and each["budget_id"] for each in made["budget_limits"])
    (window,) = changed["budget_limits"]
    assert (window["budget_duration"], window["max_budget"]) == ("1d", 6)
    assert window["budget_id"] in {each["budget_id"] for each in made["budget_limits"]}
    assert cleared["budget_limits"] == []


def test_windows_are_left_alone_by_an_update_of_something_else() -> None:
    made = api().made(
        "/key/generate", max_budget=9, budget_limits=[{"budget_duration": "1d", "max_budget": 1}]
    )

    changed = api().made("/key/update", key=made["token"], max_budget=10)

    assert changed["max_budget"] == 10
    assert changed["budget_limits"] == made["budget_limits"]


def test_a_window_tells_what_its_own_period_holds() -> None:
    made = api().made(
        "/key/generate", max_budget=9, budget_limits=[{"budget_duration": "1d", "max_budget": 1}]
    )
    today = period_at(duration="1d", zone=zone_of("UTC"), at=datetime.now(UTC))

    with live_counter(account_of(made["token"]).id, today, NANO // 4):
        told = api().told("/key/info", key=made["token"])["info"]

    assert told["budget_limits"][0]["spend"] == Decimal("0.25")
    assert told["spend"] == 0


def test_windows_count_in_the_organizations_time_zone_and_are_as_strict_as_the_key() -> None:
    organization_id = new_id("org")
    api().made(
        "/organization/new",
        organization_id=organization_id,
        organization_alias="Kolkata",
        time_zone="Asia/Kolkata",
    )

    made = api().made(
        "/key/generate",
        organization_id=organization_id,
        enforcement="strict",
        budget_limits=[
            {"budget_duration": "1d", "max_budget": 1},
            {"budget_duration": "1w", "max_budget": 1, "enforcement": "observe"},
        ],
    )

    by_duration = {each["budget_duration"]: each for each in made["budget_limits"]}
    assert by_duration["1d"]["enforcement"] == "strict"
    assert by_duration["1w"]["enforcement"] == "observe"
    reset = datetime.fromisoformat(by_duration["1d"]["reset_at"])
    assert (reset.hour, reset.minute) == (18, 30)


def test_the_same_duration_twice_is_refused_and_nothing_is_made() -> None:
    before = ApiKey.objects.count()
    windows = [{"budget_duration": text, "max_budget": 1} for text in ("1d", "daily")]

    reply = api().post("/key/generate", {"budget_limits": windows})

    assert (reply.status, reply.error["param"]) == (400, "budget_limits")
    assert ApiKey.objects.count() == before


# --- Budgets of single models ----------------------------------------------------------
@pytest.mark.parametrize("kind", ["key", "team", "user"])
def test_a_model_is_limited_on_whoever_asks_for_it(cast: Cast, kind: str) -> None:
    path, id, made = make(
        kind,
        cast,
        model_max_budget={
            "gpt-4o": {"budget_limit": 10, "time_period": "30d"},
            "o1": {"max_budget": 1, "rpm_limit": 2},
        },
    )

    changed = update(path, id, model_max_budget={"gpt-4o": {"max_budget": 11}})
    cleared = update(path, id, model_max_budget={})

    assert set(made["model_max_budget"]) == {"gpt-4o", "o1"}
    assert made["model_max_budget"]["gpt-4o"]["budget_duration"] == "1mo"
    assert made["model_max_budget"]["o1"]["rpm_limit"] == 2
    usage = made["model_max_budget_usage"]["gpt-4o"]
    assert only(usage, ("current_spend", "budget_limit", "time_period")) == {
        "current_spend": 0, "budget_limit": 10, "time_period": "1mo",
    }  # fmt: skip
    assert set(changed["model_max_budget"]) == {"gpt-4o"}
    assert changed["model_max_budget"]["gpt-4o"]["max_budget"] == 11
    assert cleared["model_max_budget"] == cleared["model_max_budget_usage"] == {}


def test_what_is_told_of_models_can_be_given_back() -> None:
    made = api().made("/key/generate", model_max_budget={"m": {"max_budget": 1, "tpm_limit": 5}})

    again = api().post(
        "/key/update",
        f'{{"key": "{made["token"]}", "model_max_budget": {{"m": {{"max_budget": 1, "budget_limit":'
        ' 1, "budget_duration": null, "rpm_limit": null, "tpm_limit": 5,'
        ' "max_parallel_requests": null, "enforcement": "adaptive"}}}',
    )

    assert again.status == 200, again.text
    assert again.content["model_max_budget"] == made["model_max_budget"]


def test_rates_by_model_are_merged_with_its_budget() -> None:
    made = api().made(
        "/key/generate",
        model_max_budget={"a": {"max_budget": 1}},
        model_rpm_limit={"a": 10, "b": 20},
    )

    changed = api().made("/key/update", key=made["token"], model_tpm_limit={"b": 7})
    cleared = api().made("/key/update", key=made["token"], model_rpm_limit=None)

    assert made["model_max_budget"]["a"]["rpm_limit"] == 10
    assert made["model_max_budget"]["b"]["rpm_limit"] == 20
    assert only(changed["model_max_budget"]["b"], RATES) == {
        "rpm_limit": 20, "tpm_limit": 7, "max_parallel_requests": None,
    }  # fmt: skip
    assert changed["model_max_budget"]["a"]["max_budget"] == 1
    assert cleared["model_max_budget"]["a"]["rpm_limit"] is None
    assert cleared["model_max_budget"]["b"]["tpm_limit"] == 7


def test_usage_of_a_model_is_the_live_counter_of_key_and_model() -> None:
    made = api().made("/key/generate", model_max_budget={"m": {"max_budget": 9}})
    account = holder_model_account_id(holder=account_of(made["token"]).id, model="m")

    with live_counter(account, FOREVER, NANO):
        told = api().told("/key/info", key=made["token"])["info"]

    assert told["model_max_budget_usage"]["m"]["current_spend"] == 1
    assert told["spend"] == 0


@pytest.mark.parametrize(
    ("entry", "param"),
    [
        ({}, "max_budget"),
        ({"budget_duration": "1d"}, "max_budget"),
        ({"max_budget": 1, "budget_limit": 2}, "budget_limit"),
        ({"max_budget": 1, "budget_duration": "1d", "time_period": "1mo"}, "time_period"),
    ],
)
def test_what_says_nothing_or_two_things_of_a_model_is_refused(
    entry: dict[str, Any], param: str
) -> None:
    reply = api().post("/key/generate", {"model_max_budget": {"gpt-4o": entry}})

    assert (reply.status, reply.error["param"]) == (400, f"model_max_budget.gpt-4o.{param}")


def test_a_shared_budget_has_no_budgets_of_models_yet() -> None:
    reply = api().post("/budget/new", {"model_max_budget": {"m": {"max_budget": 1}}})

    assert (reply.status, reply.error["code"]) == (400, "unsupported_field")


def test_a_linked_budget_of_another_organization_is_refused_even_beside_own_limits(
    cast: Cast,
) -> None:
    budget_id = new_id("budget")
    api().made("/budget/new", budget_id=budget_id, organization_id=cast.outsider.public_id)

    for path, body in (
        ("/key/generate", {"max_budget": 1}),
        ("/team/new", {}),
        ("/user/new", {"rpm_limit": 1}),
    ):
        wanted = {"organization_id": cast.organization.public_id, "budget_id": budget_id, **body}
        reply = api().post(path, wanted)

        assert (reply.status, reply.error["param"]) == (400, "budget_id"), path


def test_a_refused_limit_leaves_everything_as_it_was(cast: Cast) -> None:
    made = api().made("/key/generate", max_budget=5)

    reply = api().post(
        "/key/update",
        {
            "key": made["token"],
            "models": ["other"],
            "max_budget": 7,
            "budget_limits": [{"budget_duration": t, "max_budget": 1} for t in ("1d", "daily")],
        },
    )

    assert reply.status == 400
    told = api().told("/key/info", key=made["token"])["info"]
    assert (told["max_budget"], told["models"]) == (5, [])


def test_the_store_is_asked_once_for_a_key_with_many_budgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = api().made(
        "/key/generate",
        budget_limits=[{"budget_duration": "1d", "max_budget": 1}],
        model_max_budget={f"m{n}": {"max_budget": n} for n in range(5)},
    )
    asked: list[int] = []
    real = storekeeper.counters_of

    def counted(ids: list[UUID]) -> dict[UUID, list[storekeeper.Counter]]:
        asked.append(len(ids))
        return real(ids)

    monkeypatch.setattr(storekeeper, "counters_of", counted)

    api().told("/key/info", key=made["token"])

    assert asked == [6]


def test_budgets_that_are_taken_away_leave_nothing_behind() -> None:
    made = api().made(
        "/key/generate",
        budget_limits=[{"budget_duration": "1d", "max_budget": 1}],
        model_max_budget={"m": {"max_budget": 1}},
    )
    account = account_of(made["token"])

    api().made("/key/update", key=made["token"], budget_limits=[], model_max_budget=None)

    assert not Budget.objects.filter(window_of=account).exists()
    assert not Budget.objects.filter(private_to__holder=account).exists()
