"""Resets through the API, in LiteLLM's shape and in ours, and on the admin's page."""

import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse

from budgets.models import Account, Change, Reset
from budgets.services import resets
from tests.admin_site import login, staff, superuser
from tests.api_client import Api, master, new_id, spend
from tests.conftest import Cast

api = master


@pytest.fixture
def key(cast: Cast) -> dict[str, Any]:
    """A key of a team's member that has spent 5 of the month's 10."""
    made = api().made(
        "/key/generate", team_id=cast.team.public_id, max_budget=10, budget_duration="1mo"
    )
    account = account_of(made)
    spend(cast.organization, [account.pk], "5")
    return made


def account_of(key: dict[str, Any]) -> Account:
    return Account.objects.get(key__digest=key["token"])


def test_key_is_reset_in_litellms_shape(key: dict[str, Any]) -> None:
    told = api().made(f"/key/{key['key']}/reset_spend", reset_to=1.5)

    info = api().told("/key/info", key=key["token"])["info"]
    assert told["key_hash"] == key["token"]
    assert (told["spend"], told["previous_spend"]) == (Decimal("1.5"), Decimal(5))
    assert (told["total_spend"], told["max_budget"]) == (Decimal(5), Decimal(10))
    assert told["budget_reset_at"] == info["budget_reset_at"] is not None
    assert (info["spend"], info["total_spend"]) == (Decimal("1.5"), Decimal(5))


def test_member_is_reset_in_litellms_shape(cast: Cast) -> None:
    member = api().made(
        "/team/member_add", team_id=cast.team.public_id, max_budget_in_team=3,
        member={"user_id": cast.user.public_id, "role": "user"},
    )  # fmt: skip
    account = Account.objects.get(kind="member", organization=cast.organization)
    spend(cast.organization, [account.pk], "2")

    path = f"/team/{cast.team.public_id}/member/{cast.user.public_id}/reset_spend"
    told = api().made(path, reset_to=0, reason="by mistake")

    assert member["team_id"] == told["team_id"] == cast.team.public_id
    assert told["user_id"] == cast.user.public_id
    assert (told["spend"], told["previous_spend"]) == (Decimal(0), Decimal(2))
    assert Reset.objects.get(account_id=account.pk).reason == "by mistake"


def test_account_is_reset_with_text_for_money_and_tells_each_period(
    key: dict[str, Any], cast: Cast
) -> None:
    account = account_of(key)

    told = api().made(reset_path(account), reset_to="2.5", reason="why", idempotency_key="a")

    (period,) = told.pop("periods")
    row = Reset.objects.get(account_id=account.pk)
    assert (period["spent_before"], period["taken_off"]) == ("5", "2.5")
    assert told["reset_id"] == str(row.reset_id)
    assert (told["requested_by"], told["reason"]) == ("master key", "why")
    assert (told["kind"], told["reset_to"], told["currency"]) == ("key", "2.5", "USD")
    assert told["organization_id"] == cast.organization.public_id
    assert api().made(reset_path(account), reset_to="2.5", reason="x", idempotency_key="a")[
        "reset_id"
    ] == str(row.reset_id)


def reset_path(account: Account) -> str:
    return f"/api/v1/accounts/{account.pk}/reset"


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"reset_to": 5.1}, "reset_to"),
        ({"reset_to": -1}, "reset_to"),
        ({"reset_to": "0"}, "reset_to"),
        ({"reset_to": 0, "reason": "\x00"}, "reason"),
        ({"reset_to": 0, "by": "me"}, "by"),
        ({}, "reset_to"),
    ],
)
def test_what_does_not_fit_is_refused_and_resets_nothing(
    sent: dict[str, Any], param: str, key: dict[str, Any]
) -> None:
    reply = api().post(f"/key/{key['token']}/reset_spend", sent)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert not Reset.objects.filter(account_id=account_of(key).pk).exists()


def test_unknown_accounts_keys_and_members_are_not_found(cast: Cast) -> None:
    paths = (
        f"/api/v1/accounts/{uuid.uuid4()}/reset",
        f"/key/{new_id('key')}/reset_spend",
        f"/team/{cast.team.public_id}/member/{cast.user.public_id}/reset_spend",
    )

    replies = [api().post(path, {"reset_to": 0}) for path in paths[1:]]
    replies.append(api().post(paths[0], {"reset_to": "0", "reason": "why"}))

    assert [reply.status for reply in replies] == [404] * 3


def test_only_the_master_key_resets(key: dict[str, Any]) -> None:
    paths = (f"/key/{key['token']}/reset_spend", reset_path(account_of(key)))

    asked = [(who, path) for who in ("", key["key"]) for path in paths]
    statuses = {Api(who).post(path, {"reset_to": 0}).status for who, path in asked}

    assert statuses == {401, 403}
    assert not Reset.objects.filter(account_id=account_of(key).pk).exists()


def test_recorder_that_is_behind_is_told_and_nothing_is_changed(
    key: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resets, "RECORDED_SECONDS_MAX", 0.1)
    monkeypatch.setattr(resets, "_newest_unrecorded", lambda account: "99999999999999-0")

    reply = api().post(reset_path(account_of(key)), {"reset_to": "0", "reason": "why"})

    assert (reply.status, reply.error["code"]) == (503, "recorder_behind")
    assert reply.headers["Retry-After"] == "2"
    assert not Reset.objects.filter(account_id=account_of(key).pk).exists()


# --- The admin's page --------------------------------------------------------------------


def page_of(key: dict[str, Any]) -> str:
    return reverse("admin:reset_account", args=[account_of(key).pk])


def test_page_says_what_will_happen_and_resets_with_a_reason(key: dict[str, Any]) -> None:
    root = superuser()
    client, url = login(root), page_of(key)
    shown = client.get(url)

    sent = {"reset_to": "1", "reason": "loop <b>", "token": shown.context["form"]["token"].value()}
    first, again = client.post(url, sent), client.post(url, sent)

    row = Reset.objects.get(account_id=account_of(key).pk)
    assert "USD 5.00 from" in shown.content.decode()
    assert (first.status_code, again.status_code) == (302, 302)
    assert (row.requested_by, row.reason) == (f"admin:{root.username}", "loop <b>")
    assert row.amount_units == -4 * 10**9


def test_reset_stands_in_the_accounts_history_and_on_its_page(key: dict[str, Any]) -> None:
    account = account_of(key)
    api().made(reset_path(account), reset_to="1", reason="loop <b>")
    client = login(superuser())

    history = client.get(reverse("admin:budgets_account_history", args=[account.pk]))
    page = client.get(reverse("admin:budgets_account_change", args=[account.pk]))

    assert "loop &lt;b&gt;" in history.content.decode()
    assert "loop <b>" not in history.content.decode()
    assert "Taken off by resets" in page.content.decode()
    assert reverse("admin:reset_account", args=[account.pk]) in page.content.decode()


@pytest.mark.parametrize(
    "sent",
    [
        {"reset_to": "0"},
        {"reset_to": "9", "reason": "why"},
        {"reset_to": "x", "reason": "why"},
        {"reset_to": "0", "reason": " "},
    ],
)
def test_page_without_reason_or_with_another_number_resets_nothing(
    sent: dict[str, str], key: dict[str, Any]
) -> None:
    reply = login(superuser()).post(page_of(key), sent | {"token": "t"})

    assert reply.status_code == 200
    assert "cp-error" in reply.content.decode()
    assert not Reset.objects.filter(account_id=account_of(key).pk).exists()


def test_who_may_only_look_cannot_reset(key: dict[str, Any]) -> None:
    client = login(staff("budgets.view_account"))
    before = Change.objects.filter(table_name="budgets_reset").count()

    asked = client.get(page_of(key)), client.post(page_of(key), {"reset_to": "0", "reason": "x"})

    assert [reply.status_code for reply in asked] == [403, 403]
    assert Change.objects.filter(table_name="budgets_reset").count() == before
