"""The same things asked for at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections
from rest_framework.test import APIClient

from budgets.models import Membership
from tests.api_client import Api, Reply, master, new_id
from tests.conftest import Cast

AT_ONCE = 6


def at_once(calls: list[Callable[[Api], Reply]]) -> list[Reply]:
    """Make every call in a thread of its own, with a connection of its own."""

    def run(call: Callable[[Api], Reply]) -> Reply:
        try:
            return call(Api(master().key, client=APIClient(SERVER_NAME="127.0.0.1")))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(run, calls))


def test_of_many_that_want_an_alias_one_gets_it(cast: Cast) -> None:
    body = {"key_alias": new_id("alias"), "organization_id": cast.organization.public_id}

    replies = at_once([lambda api: api.post("/key/generate", body)] * AT_ONCE)

    assert sorted(reply.status for reply in replies) == [200] + [400] * (AT_ONCE - 1)


def test_the_first_keys_of_a_user_may_be_made_at_once(cast: Cast) -> None:
    body = {"user_id": cast.user.public_id, "team_id": cast.team.public_id, "max_budget": 1}

    replies = at_once([lambda api: api.post("/key/generate", body)] * AT_ONCE)

    assert [reply.status for reply in replies] == [200] * AT_ONCE
    assert Membership.objects.filter(user=cast.user, team=cast.team).count() == 1


def test_changes_of_different_fields_at_once_are_all_kept() -> None:
    key = master().made("/key/generate")
    changes: list[dict[str, Any]] = [
        {"max_budget": 9},
        {"soft_budget": 1},
        {"budget_duration": "1d"},
        {"models": ["a"]},
        {"metadata": {"a": 1}},
        {"blocked": True},
    ]

    def changing(change: dict[str, Any]) -> Callable[[Api], Reply]:
        return lambda api: api.post("/key/update", {"key": key["token"], **change})

    replies = at_once(list(map(changing, changes)))

    assert [reply.status for reply in replies] == [200] * len(changes)
    told = master().told("/key/info", key=key["token"])["info"]
    for change in changes:
        assert {name: told[name] for name in change} == change


def test_a_user_is_registered_once(cast: Cast) -> None:
    body = {"user_id": new_id("user"), "max_budget": 1}

    replies = at_once([lambda api: api.post("/user/new", body)] * AT_ONCE)

    assert sorted(reply.status for reply in replies) == [200] + [409] * (AT_ONCE - 1)


def test_changes_of_an_end_user_and_its_blocking_at_once_are_all_kept(cast: Cast) -> None:
    of = {"organization_id": cast.organization.public_id}
    user_id = master().made("/customer/new", user_id=new_id("customer"), **of)["user_id"]
    changes: list[dict[str, Any]] = [{"max_budget": 9}, {"rpm_limit": 3}, {"alias": "Ann"}]

    def changing(change: dict[str, Any]) -> Callable[[Api], Reply]:
        return lambda api: api.post("/customer/update", {"user_id": user_id, **of, **change})

    def blocking(api: Api) -> Reply:
        return api.post("/customer/block", {"user_ids": [user_id], **of})

    replies = at_once([*map(changing, changes), *[blocking] * 3])

    assert [reply.status for reply in replies] == [200] * 6
    told = master().told("/customer/info", end_user_id=user_id, **of)
    assert (told["max_budget"], told["rpm_limit"], told["alias"]) == (9, 3, "Ann")
    assert told["blocked"] is True


def test_a_key_and_its_own_budgets_may_be_changed_at_once(cast: Cast) -> None:
    windows = [{"budget_duration": "1d", "max_budget": 1}]
    key = master().made("/key/generate", max_budget=5, budget_limits=windows)
    (window,) = key["budget_limits"]

    def by_key(api: Api) -> Reply:
        limits = {"max_budget": 6, "budget_limits": windows}
        return api.post("/key/update", {"key": key["token"], **limits})

    def by_budget(api: Api) -> Reply:
        return api.post("/budget/update", {"budget_id": window["budget_id"], "rpm_limit": 2})

    replies = at_once([by_key, by_budget] * 6)

    assert [reply.status for reply in replies] == [200] * 12
