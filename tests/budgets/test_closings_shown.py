"""Closed periods in the admin and by the API: what was spent, in whose currency, and for whom."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from budgets.models import Account, Budget, Closing
from budgets.services import tenancy
from budgets.services.accounts import Terms
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, login, text_of
from tests.api_client import master
from tests.conftest import Cast

LIST = Pages(Closing).url("changelist")
PATH = "/api/v1/closings"
FIRST = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


def closed(account: Account, units: int = 1_500_000_000, *, day: int = 0, **fields: Any) -> Closing:
    """Write a closing as the worker does."""
    start = FIRST + timedelta(days=day)
    row = {
        "budget_name": "Daily", "time_zone": "UTC", "period_start": start,
        "period_end": start + timedelta(days=1), "limit": Decimal(10), "spent_units": units,
        "events": 3, "closed_at": start + timedelta(days=1, seconds=7),
    }  # fmt: skip
    return Closing.objects.create(account=account, **(row | fields))


def told(account: Account, **asked: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = master().told(PATH, account=str(account.pk), **asked)
    return rows


# --- API -----------------------------------------------------------------------------------


def test_a_closed_period_is_told_with_what_came_late(cast: Cast) -> None:
    account = cast.team.account
    budget = shared_budget(cast)
    closed(account, budget=budget, late_units=250_000_000, late_events=1)

    (row,) = told(account)

    assert row == {
        "account_id": str(account.pk), "account": account.label, "budget_id": budget.public_id,
        "budget": "Daily", "period_start": "2026-03-01T00:00:00Z",
        "period_end": "2026-03-02T00:00:00Z", "budget_time_zone": "UTC", "currency": "USD",
        "limit": "10", "spent": "1.5", "events": 3, "late": "0.25", "late_events": 1,
        "total": "1.75", "closed_at": "2026-03-02T00:00:07Z",
    }  # fmt: skip


def test_amounts_are_in_the_organizations_currency(cast: Cast) -> None:
    name = uuid.uuid4().hex
    yen = tenancy.create_organization(
        values={"public_id": name, "name": name, "currency": "JPY"}, terms=Terms(),
        now=datetime.now(UTC),
    )  # fmt: skip
    closed(yen.account, 12_345_678_901, limit=None)

    (row,) = told(yen.account)

    assert (row["currency"], row["spent"], row["limit"]) == ("JPY", "1234.5678901", None)


def test_pages_go_from_the_newest_to_the_oldest(cast: Cast) -> None:
    account = cast.team.account
    for day in range(5):
        closed(account, day, day=day)

    reply = master().get(PATH, {"account": str(account.pk), "page": "2", "size": "2"})

    assert [row["period_start"][:10] for row in reply.content] == ["2026-03-03", "2026-03-02"]
    assert (reply.headers["x-total-count"], reply.headers["x-total-pages"]) == ("5", "3")


def test_one_budget_can_be_asked_for_and_no_other_account_is_told_of(cast: Cast) -> None:
    budget, account = shared_budget(cast), cast.team.account
    closed(account, budget=budget)
    closed(account, day=1)
    closed(cast.outsider.account)

    assert len(told(account)) == 2
    assert [row["budget_id"] for row in told(account, budget_id=budget.public_id)] == [
        budget.public_id
    ]
    assert told(account, budget_id="another") == []


def test_an_account_must_be_named_and_known() -> None:
    missing = master().get(PATH)
    malformed = master().get(PATH, {"account": "7"})
    unknown = master().get(PATH, {"account": str(uuid.uuid4())})

    assert [each.status for each in (missing, malformed, unknown)] == [400, 400, 404]
    assert {each.error["param"] for each in (missing, malformed, unknown)} == {"account"}


# --- Admin ---------------------------------------------------------------------------------


def test_the_period_is_told_in_the_zone_of_the_budget(cast: Cast, root: Client) -> None:
    start = datetime(2026, 3, 28, 23, tzinfo=UTC)
    row = closed(
        cast.team.account, time_zone="Europe/Paris", period_start=start,
        period_end=start + timedelta(hours=23), late_units=250_000_000, late_events=1,
    )  # fmt: skip

    page = text_of(root.get(Pages(Closing).url("change", row.pk)))

    assert "2026-03-29 00:00 to 2026-03-30 00:00 Europe/Paris" in page
    assert "USD 1.50" in page
    assert "USD 0.25" in page


def test_closed_periods_are_narrowed_by_organization_kind_and_account(
    cast: Cast, root: Client
) -> None:
    closed(cast.team.account, 1_110_000_000)
    closed(cast.organization.account, 2_220_000_000)
    closed(cast.outsider.account, 3_330_000_000)

    def shown(**asked: Any) -> list[str]:
        page = text_of(root.get(LIST, asked))
        return [text for text in ("USD 1.11", "USD 2.22", "USD 3.33") if text in page]

    organization = {"account__organization__id__exact": cast.organization.pk}
    assert shown(**organization) == ["USD 1.11", "USD 2.22"]
    assert shown(kind="team", **organization) == ["USD 1.11"]
    assert shown(account_id=cast.outsider.account_id) == ["USD 3.33"]


def test_the_page_of_an_account_has_its_last_closed_periods(cast: Cast, root: Client) -> None:
    closed(cast.team.account, 1_110_000_000)
    closed(cast.outsider.account, 3_330_000_000)

    page = text_of(root.get(Pages(Account).url("change", cast.team.account_id)))

    assert "USD 1.11" in page
    assert "USD 3.33" not in page
    assert f"{LIST}?account_id={cast.team.account_id}" in page


def test_a_budget_that_is_gone_is_named(cast: Cast, root: Client) -> None:
    closed(cast.team.account, budget_name=HOSTILE)

    page = text_of(root.get(LIST, {"account_id": str(cast.team.account_id)}))

    assert "(deleted)" in page
    assert "<script>alert(1)" not in page


def test_the_list_asks_a_few_times_however_long_it_is(cast: Cast, root: Client) -> None:
    counted = []
    for start in (0, 20):
        for day in range(start, start + 20):
            closed(cast.team.account, day=day, budget=shared_budget(cast))
        counted.append(
            admin_site.queries_of(lambda: root.get(LIST, {"account_id": str(cast.team.account_id)}))
        )

    assert counted[0] == counted[1] <= admin_site.QUERIES_MAX


def test_nobody_changes_closed_periods_and_who_may_not_see_them_does_not(
    cast: Cast, root: Client
) -> None:
    row, pages = closed(cast.team.account), Pages(Closing)

    assert root.get(pages.url("add")).status_code == 403
    assert root.post(pages.url("change", row.pk), {"events": "1"}).status_code == 403
    assert root.post(pages.url("delete", row.pk), {"post": "yes"}).status_code == 403
    assert login(admin_site.staff()).get(LIST).status_code == 403
    assert login(admin_site.staff("budgets.view_closing")).get(LIST).status_code == 200


def shared_budget(cast: Cast) -> Budget:
    return Budget.objects.create(organization=cast.organization, name=uuid.uuid4().hex)
