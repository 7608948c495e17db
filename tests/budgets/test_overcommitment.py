"""Where budgets under an organization or team add up to more than its own."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from budgets.models import Account, Budget, Organization, Team
from budgets.overcommitment import Overcommitment, overcommitments
from budgets.services import accounts, tenancy
from budgets.services import budgets as budget_services
from budgets.services.accounts import Terms
from budgets.services.keys import Owner, issue_key
from tests import admin_site
from tests.admin_site import Pages, login, text_of
from tests.conftest import Cast


def limit(account: Account, amount: str, duration: str = "1mo") -> None:
    with transaction.atomic():
        accounts.set_private_budget(
            account=account, terms=Terms(Decimal(amount), duration=duration), now=datetime.now(UTC)
        )


def key_of_team(cast: Cast, amount: str | None, duration: str = "1mo") -> Account:
    terms = Terms() if amount is None else Terms(Decimal(amount), duration=duration)
    owner = Owner(cast.organization, cast.team)
    return issue_key(owner=owner, values={}, terms=terms, now=datetime.now(UTC)).key.account


def template(holder: Account, kind: str, *budgets: Budget) -> None:
    with transaction.atomic():
        accounts.set_template(
            holder=holder, applies_to=kind, budgets=budgets, now=datetime.now(UTC)
        )


def shared(cast: Cast, amount: str) -> Budget:
    return budget_services.create_budget(
        organization=cast.organization, terms=Terms(Decimal(amount), duration="1mo"), name=amount
    )


def found(holder: Account) -> Sequence[Overcommitment]:
    return overcommitments([holder]).get(holder.pk, [])


def test_keys_that_may_together_spend_more_than_their_team_are_told(cast: Cast) -> None:
    limit(cast.team.account, "10")
    key_of_team(cast, "6")
    key_of_team(cast, "7")

    assert found(cast.team.account) == [Overcommitment("key", "1mo", 2, Decimal(13), Decimal(10))]
    assert found(cast.team.account)[0].excess == Decimal(3)


def test_what_adds_up_exactly_is_not_told(cast: Cast) -> None:
    limit(cast.team.account, "13")
    key_of_team(cast, "6")
    key_of_team(cast, "7")

    assert found(cast.team.account) == []


def test_budgets_of_another_duration_and_kinds_apart_do_not_add_up(cast: Cast) -> None:
    limit(cast.team.account, "10")
    key_of_team(cast, "6")
    key_of_team(cast, "600", "1d")
    member = tenancy.add_member(
        team=cast.team, user=cast.user, role="user", terms=Terms(Decimal(6), duration="1mo"),
        now=datetime.now(UTC),
    )  # fmt: skip

    assert found(cast.team.account) == []
    limit(member.account, "11")
    assert [each.kind for each in found(cast.team.account)] == ["member"]


def test_teams_users_and_keys_without_a_team_add_up_under_their_organization(cast: Cast) -> None:
    limit(cast.organization.account, "1")
    limit(cast.team.account, "2")
    limit(cast.user.organizations.get().account, "3")
    cast.key("4")
    key_of_team(cast, "50")  # its team is in between
    limit(cast.outsider.account, "1")

    told = [(each.kind, each.allotted) for each in found(cast.organization.account)]
    assert told == [("key", Decimal(4)), ("team", Decimal(2)), ("user", Decimal(3))]
    assert found(cast.outsider.account) == []


def test_a_template_counts_for_each_that_has_none_of_its_own_and_the_nearest_wins(
    cast: Cast,
) -> None:
    limit(cast.team.account, "10")
    for amount in (None, None, "1"):
        key_of_team(cast, amount)
    template(cast.organization.account, "key", shared(cast, "6"))

    assert [each.allotted for each in found(cast.team.account)] == [Decimal(13)]
    template(cast.team.account, "key", shared(cast, "2"))
    assert found(cast.team.account) == []


def test_the_tightest_of_an_accounts_budgets_counts(cast: Cast) -> None:
    limit(cast.team.account, "10")
    account = key_of_team(cast, "20")
    with transaction.atomic():
        accounts.link_budgets(account=account, budgets=[shared(cast, "9")], now=datetime.now(UTC))

    assert found(cast.team.account) == []


@pytest.mark.parametrize("model", [Organization, Team])
def test_the_page_says_calmly_by_how_much_and_asks_as_often_as_before(
    model: Any, cast: Cast
) -> None:
    root = login(admin_site.superuser())
    holder: Any = cast.organization if model is Organization else cast.team
    url, counted = Pages(model).url("change", holder.pk), []
    limit(holder.account, "10")
    assert "More is allotted" not in text_of(root.get(url))

    for amount in ("12", "8"):
        if model is Organization:
            cast.key(amount)
        else:
            key_of_team(cast, amount)
        counted.append(admin_site.queries_of(lambda: root.get(url)))

    page = text_of(root.get(url))
    assert "More is allotted than there is" in page
    assert "2 keys with limits of their own may together spend" in page
    assert "USD 20.00" in page
    assert "USD 10.00</span> more than USD 10.00 a month here" in page
    assert counted[0] == counted[1]


def test_a_page_of_another_organization_says_nothing(cast: Cast, client: Client) -> None:
    limit(cast.organization.account, "1")
    cast.key("4")
    limit(cast.outsider.account, "1")

    page = login(admin_site.superuser()).get(Pages(Organization).url("change", cast.outsider.pk))

    assert "More is allotted" not in text_of(page)
