"""Refusals in the admin: by minute, on the account's page and on the first one."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from budgets import refusals
from budgets.models import Account, AccountKind, Organization, RefusalCount
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, login, text_of
from tests.conftest import Cast

LIST = Pages(RefusalCount).url("changelist")


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


def refused(
    account: Account, requests: int = 3, *, minutes_ago: int = 5, **fields: Any
) -> RefusalCount:
    """Count refusals as the gateway does."""
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    row = {
        "account_id": account.pk, "organization": account.organization, "kind": account.kind,
        "label": account.label, "reason": "budget_exceeded", "minute": minute,
        "requests": requests, "sample_ids": [uuid.uuid4()],
    }  # fmt: skip
    return RefusalCount.objects.create(**(row | fields))


def listed(client: Client, organization: Organization, **asked: str) -> str:
    return text_of(client.get(LIST, {"organization__id__exact": str(organization.pk), **asked}))


def test_a_refusal_is_told_in_words_with_the_ids_that_clients_saw(cast: Cast, root: Client) -> None:
    row = refused(cast.team.account, 12)

    page = text_of(root.get(Pages(RefusalCount).url("change", row.pk)))

    assert "Budget spent" in listed(root, cast.organization)
    assert Pages(Account).url("change", cast.team.account_id) in page
    assert str(row.sample_ids[0]) in page


def test_refusals_are_narrowed_by_reason_kind_outcome_time_and_organization(
    cast: Cast, root: Client
) -> None:
    team, key = cast.team.account, cast.key(name="the key").key.account
    refused(team, 1_111)
    refused(key, 2_222, reason="rate_limit_exceeded", minutes_ago=90)
    refused(team, 3_333, reason="money", observed=True)
    refused(cast.outsider.account, 4_444)
    numbers = ("1,111", "2,222", "3,333", "4,444")

    def shown(**asked: str) -> list[str]:
        page = listed(root, cast.organization, **asked)
        return [number for number in numbers if number in page]

    assert shown() == ["1,111", "2,222", "3,333"]
    assert shown(reason="rate_limit_exceeded") == ["2,222"]
    assert shown(kind="team") == ["1,111", "3,333"]
    assert shown(observed="1") == ["3,333"]
    assert shown(observed="0", within="1h") == ["1,111"]
    assert shown(account_id=str(key.pk)) == ["2,222"]


def test_an_account_without_a_row_is_named_and_leads_nowhere(cast: Cast, root: Client) -> None:
    nobody = Account(organization=cast.organization, kind=AccountKind.END_USER, label=HOSTILE[:200])
    refused(nobody)

    page = listed(root, cast.organization)

    assert Pages(Account).url("change", nobody.pk) not in page
    assert "<script>alert(1)" not in page
    assert "alert(1)" in page


def test_the_list_asks_a_few_times_however_long_it_is(cast: Cast, root: Client) -> None:
    counted = []
    for start in (0, 20):
        for number in range(20):
            refused(cast.team.account, minutes_ago=start + number)
        counted.append(admin_site.queries_of(lambda: listed(root, cast.organization)))

    assert counted[0] == counted[1]
    assert counted[1] <= admin_site.QUERIES_MAX


def test_nobody_changes_refusals_and_who_may_not_see_them_does_not(
    cast: Cast, root: Client
) -> None:
    row, pages = refused(cast.team.account), Pages(RefusalCount)

    assert root.get(pages.url("add")).status_code == 403
    assert root.post(pages.url("change", row.pk), {"requests": "1"}).status_code == 403
    assert root.post(pages.url("delete", row.pk), {"post": "yes"}).status_code == 403
    assert login(admin_site.staff()).get(LIST).status_code == 403
    assert login(admin_site.staff("budgets.view_refusalcount")).get(LIST).status_code == 200


def test_the_page_of_an_account_has_its_own_refusals_of_the_last_hour(
    cast: Cast, root: Client
) -> None:
    account = cast.team.account
    refused(account, 1_111)
    refused(account, 222, minutes_ago=6)
    refused(account, 5_555, minutes_ago=61)
    refused(account, 77, reason="tokens", observed=True)
    refused(cast.outsider.account, 9_999)
    now = datetime.now(UTC)

    page = text_of(root.get(Pages(Account).url("change", account.pk)))
    found = refusals.by_reason(since=now - timedelta(hours=1), account=account.pk)

    assert [(each.reason, each.observed, each.requests) for each in found] == [
        ("budget_exceeded", False, 1_333), ("tokens", True, 77),
    ]  # fmt: skip
    assert "Refused in the last hour" in page
    assert "1,333" in page
    assert "Tokens in a minute" in page
    assert "5,555" not in page
    assert "9,999" not in page


def test_the_first_page_tells_what_was_refused_and_what_was_only_observed(
    cast: Cast, root: Client
) -> None:
    refused(cast.team.account, reason="too_many_parallel_requests")
    refused(cast.team.account, reason="money", observed=True)

    page = text_of(root.get("/admin/"))
    without = text_of(login(admin_site.staff("budgets.view_team")).get("/admin/"))

    assert "Refused in the last 24 hours" in page
    assert "Too many at once" in page
    assert "passed, only observed" in page
    assert "Refused in the last 24 hours" not in without


def test_every_reason_that_the_gateway_counts_has_words() -> None:
    from budgets import errors
    from budgets.contexts import LimitKind

    codes = {each.code for each in errors.LimitReached.__subclasses__()}
    observed = {kind.value for kind in LimitKind} - {LimitKind.SOFT.value}

    assert codes | observed == refusals.REASONS.keys()
