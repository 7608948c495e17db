"""The admin's page of increases: asking, deciding, and what is shown to decide by."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from budgets.models import Account, Change, Increase, User
from budgets.services import increases, tenancy
from budgets.services.accounts import Terms
from budgets.services.increases import Person, Wanted
from budgets.services.keys import Owner, issue_key
from budgets.services.limits import Limits, set_limits
from tests import admin_site
from tests.conftest import Cast

LIST = "/admin/budgets/increase/"


def now() -> datetime:
    return datetime.now(UTC)


def staff(cast: Cast | None = None, *, permissions: tuple[str, ...] = ()) -> tuple[Client, User]:
    """Log somebody in: a superuser, or with some permissions a member of the organization."""
    name = f"s-{uuid.uuid4().hex[:8]}"
    user = User.objects.create(
        username=name, public_id=name, is_staff=True, is_superuser=cast is None
    )
    if cast is not None:
        tenancy.join_organization(organization=cast.organization, user=user)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client, user


@dataclass
class Desk:
    """A key with a limit of 10 in a team with one of 3, and somebody who may ask."""

    cast: Cast
    account: Account
    asker: User
    client: Client

    def asked(self, amount: str = "5") -> Increase:
        return increases.ask(
            account=self.account,
            budget=None,
            wanted=Wanted(Decimal(amount), "a launch", ends_at=now() + timedelta(hours=1)),
            by=Person(self.asker),
            now=now(),
        )


@pytest.fixture
def desk(cast: Cast) -> Desk:
    ten, three = (Terms(max_budget=Decimal(n), duration="1mo") for n in (10, 3))
    set_limits(account=cast.team.account, limits=Limits(terms=three), now=now())
    key = issue_key(
        owner=Owner(cast.organization, cast.team), values={"name": "bot"}, terms=ten, now=now()
    ).key
    asking = ("view_account", "add_increase", "view_increase")
    client, user = staff(cast, permissions=asking)
    return Desk(cast, key.account, user, client)


def page_of(row: Increase) -> str:
    return reverse("admin:budgets_increase_change", args=[row.pk])


def decide(client: Client, row: Increase, verb: str, **sent: str) -> Any:
    return client.post(reverse(f"admin:budgets_increase_{verb}", args=[row.pk]), sent)


def test_one_asks_on_the_page_of_the_account(desk: Desk) -> None:
    account_page = desk.client.get(
        reverse("admin:budgets_account_change", args=[desk.account.pk])
    ).content.decode()
    ask = reverse("admin:ask_for_increase", args=[desk.account.pk])
    form = desk.client.get(ask)
    budget = form.context["form"]["budget_id"].initial.pk

    desk.client.post(ask, {"budget_id": budget, "amount": "2.5", "why": "a launch"})

    made = Increase.objects.get(account=desk.account)
    assert ask in account_page
    assert (made.asked_by, made.amount, made.state) == (
        desk.asker.username, Decimal("2.5"), "pending",
    )  # fmt: skip
    assert made.ends_at == made.budget.period_at(now()).end


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"amount": "0"}, "amount"), ({"amount": "１"}, "amount"), ({"why": ""}, "why"),
     ({"ends_at": "2020-01-01 10:00"}, "ends_at"), ({"budget_id": "0"}, "budget_id")],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_stands_at_its_field(
    wrong: dict[str, str], field: str, desk: Desk
) -> None:
    ask = reverse("admin:ask_for_increase", args=[desk.account.pk])
    budget = str(desk.client.get(ask).context["form"]["budget_id"].initial.pk)

    answer = desk.client.post(ask, {"budget_id": budget, "amount": "5", "why": "x"} | wrong)

    assert list(answer.context["form"].errors) == [field]
    assert not Increase.objects.filter(account=desk.account).exists()


def test_the_page_tells_what_helps_to_decide(desk: Desk) -> None:
    earlier, row = desk.asked("1"), desk.asked()
    client, _ = staff()
    decide(client, earlier, "deny", note="not now")

    text = client.get(page_of(row)).content.decode()

    assert "has less left: it refuses first" in text
    assert "With it the limit would be <b>USD 15.00 a month</b>" in text
    assert "a launch" in text
    assert "denied by" in text
    assert desk.asker.username in text


def test_an_approver_may_change_amount_and_end_and_is_kept_by_name(desk: Desk) -> None:
    row, (client, user) = desk.asked(), staff()
    until = (now() + timedelta(minutes=30)).strftime("%Y-%m-%d %H:%M")

    answer = decide(client, row, "approve", amount="4", ends_at=until, note="go")

    row.refresh_from_db()
    kept = Change.objects.filter(table_name="budgets_increase", object_id=str(row.pk)).last()
    assert answer.status_code == 302
    assert (row.state, row.amount, row.decided_by) == ("approved", Decimal(4), user.username)
    assert row.ends_at.strftime("%Y-%m-%d %H:%M") == until
    assert kept is not None
    assert (kept.actor, kept.reason) == (f"admin:{user.username}", "go")


def test_what_is_not_changed_is_approved_to_the_microsecond(desk: Desk) -> None:
    row, (client, _) = desk.asked(), staff()
    page = client.get(reverse("admin:budgets_increase_approve", args=[row.pk]))
    shown = {field.name: field.value() for field in page.context["form"]}

    decide(client, row, "approve", amount=str(shown["amount"]), note="",
           ends_at=shown["ends_at"].strftime("%Y-%m-%d %H:%M:%S"))  # fmt: skip

    ended = row.ends_at
    row.refresh_from_db()
    assert (row.state, row.ends_at) == ("approved", ended)


def test_shortening_and_cancelling_are_on_the_page_too(desk: Desk) -> None:
    row, (client, user) = desk.asked(), staff()
    decide(client, row, "approve", amount="5", ends_at=f"{row.ends_at:%Y-%m-%d %H:%M:%S}", note="")
    until = (now() + timedelta(minutes=10)).strftime("%Y-%m-%d %H:%M")

    decide(client, row, "shorten", ends_at=until, note="")
    decide(client, row, "cancel", note="over")

    row.refresh_from_db()
    assert (row.state, row.cancelled_by) == ("cancelled", user.username)
    assert row.ends_at.strftime("%Y-%m-%d %H:%M") == until


def test_whoever_asked_finds_no_button_and_cannot_decide_by_the_address(desk: Desk) -> None:
    row = desk.asked()

    text = desk.client.get(page_of(row)).content.decode()
    answer = decide(desk.client, row, "approve", amount="5", note="")

    row.refresh_from_db()
    assert reverse("admin:budgets_increase_approve", args=[row.pk]) not in text
    assert reverse("admin:budgets_increase_cancel", args=[row.pk]) in text
    assert (answer.status_code, row.state) == (403, "pending")


def test_the_second_who_decides_is_told_who_was_first(desk: Desk) -> None:
    row, (client, user) = desk.asked(), staff()
    late, _ = staff()
    decide(client, row, "deny", note="no")

    answer = decide(late, row, "approve", amount="5", note="")

    row.refresh_from_db()
    assert (answer.status_code, row.state) == (403, "denied")
    assert f"denied by {user.username}" in late.get(page_of(row)).content.decode()


def test_the_list_has_what_waits_first_by_deadline(desk: Desk) -> None:
    rows = [desk.asked(str(n)) for n in (1, 2, 3)]
    client, _ = staff()
    decide(client, rows[0], "deny", note="no")
    Increase.objects.filter(pk=rows[2].pk).update(ends_at=now() + timedelta(minutes=1))

    found = client.get(LIST, {"q": desk.asker.username}).context["cl"].result_list

    assert [row.pk for row in found] == [rows[2].pk, rows[1].pk, rows[0].pk]


def test_many_rows_take_no_more_queries(desk: Desk) -> None:
    client, _ = staff()
    for _ in range(6):
        desk.asked()

    with admin_site.few_queries():
        client.get(LIST, {"q": desk.asker.username})


def test_who_is_in_another_organization_sees_nothing_of_it(desk: Desk) -> None:
    row = desk.asked()
    client, user = staff(desk.cast, permissions=("view_increase",))
    user.organizations.update(organization=desk.cast.outsider)

    answer = client.get(page_of(row))

    assert list(client.get(LIST).context["cl"].result_list) == []
    assert answer.status_code == 302
    assert decide(client, row, "cancel", note="").status_code in {403, 404}


def test_bars_show_the_limit_in_force_and_until_when(desk: Desk) -> None:
    row, (client, _) = desk.asked(), staff()
    increases.approve(increase_id=row.pk, by=Person(), now=now())

    text = client.get(reverse("admin:budgets_account_change", args=[desk.account.pk])).content

    assert "USD 15.00 a month, increased until" in text.decode()


def test_an_organizations_page_sets_when_two_must_approve(desk: Desk) -> None:
    client, _ = staff()
    url = reverse("admin:budgets_organization_change", args=[desk.cast.organization.pk])

    admin_site.save(client, url, second_approver_above="4")
    row = desk.asked()
    decide(client, row, "approve", amount="5", note="",
           ends_at=f"{row.ends_at:%Y-%m-%d %H:%M:%S}")  # fmt: skip

    row.refresh_from_db()
    assert (row.state, bool(row.decided_by)) == ("pending", True)
    assert "Needs a second" in client.get(LIST, {"q": desk.asker.username}).content.decode()
