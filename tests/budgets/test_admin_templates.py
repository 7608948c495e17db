"""Templates in the admin: what each member, key or end user under a holder has."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from budgets import in_force
from budgets.models import Account, Budget, BudgetTemplate, Organization, Team
from budgets.services import budgets as budget_services
from budgets.services import tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Owner, issue_key
from tests import admin_site
from tests.admin_site import Pages, errors_of, login, raises_version, save, text_of
from tests.conftest import Cast


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def shared(cast: Cast) -> Budget:
    return budget_services.create_budget(
        organization=cast.organization, terms=Terms(Decimal(5), duration="1d"), name="Each day"
    )


def key_of_team(cast: Cast, limit: str | None = None) -> Account:
    terms = Terms() if limit is None else Terms(Decimal(limit))
    owner = Owner(cast.organization, cast.team)
    return issue_key(owner=owner, values={}, terms=terms, now=datetime.now(UTC)).key.account


@pytest.mark.parametrize("model", [Organization, Team])
@pytest.mark.parametrize("kind", ["member", "key", "end_user"])
def test_a_template_is_put_on_a_holder_and_taken_away(
    kind: str, model: Any, cast: Cast, shared: Budget, root: Client
) -> None:
    holder: Any = cast.organization if model is Organization else cast.team
    url = Pages(model).url("change", holder.pk)

    with raises_version(cast.organization.pk):
        save(root, url, **{f"each_{kind}": [shared.pk]})
    (given,) = BudgetTemplate.objects.filter(holder=holder.account)
    with raises_version(cast.organization.pk):
        save(root, url, **{f"each_{kind}": []})

    assert (given.applies_to, given.budget) == (kind, shared)
    assert not BudgetTemplate.objects.filter(holder=holder.account).exists()


def test_a_key_has_the_templates_budget_unless_it_has_its_own(
    cast: Cast, shared: Budget, root: Client
) -> None:
    own, none = key_of_team(cast, "9"), key_of_team(cast)
    url = Pages(Team).url("change", cast.team.pk)

    save(root, url, each_key=[shared.pk])

    found = in_force.budgets_on([own.id, none.id])
    page = text_of(root.get(url))
    assert found[none.id] == [shared]
    assert shared not in found[own.id]
    assert "2 keys so far; 1 has one of its own." in page
    assert "USD 0.00 of USD 5.00 a day" in text_of(root.get(Pages(Account).url("change", none.id)))


def test_a_holder_saved_as_it_is_keeps_its_templates(
    cast: Cast, shared: Budget, root: Client
) -> None:
    url = Pages(Team).url("change", cast.team.pk)
    save(root, url, each_key=[shared.pk])
    (kept,) = BudgetTemplate.objects.filter(holder=cast.team.account)

    save(root, url, name="Renamed")

    assert BudgetTemplate.objects.get(holder=cast.team.account).pk == kept.pk


def test_a_template_of_another_organizations_budget_is_refused(cast: Cast, root: Client) -> None:
    theirs = budget_services.create_budget(organization=cast.outsider, terms=Terms(Decimal(1)))

    answer = save(root, Pages(Team).url("change", cast.team.pk), each_key=[theirs.pk])

    assert list(errors_of(answer)) == ["each_key"]
    assert not BudgetTemplate.objects.filter(holder=cast.team.account).exists()


def test_the_number_of_accounts_is_told_without_reading_them(cast: Cast, root: Client) -> None:
    url = Pages(Team).url("change", cast.team.pk)
    counted = []
    for _ in range(2):
        key_of_team(cast, "1")
        counted.append(admin_site.queries_of(lambda: root.get(url)))

    assert counted[0] == counted[1]


def test_accounts_of_others_are_not_counted(cast: Cast, root: Client) -> None:
    cast.key("1")  # the organization's, of no team
    now = datetime.now(UTC)
    other = tenancy.create_team(
        organization=cast.outsider, values={"name": "Theirs"}, terms=Terms(), now=now
    )
    issue_key(owner=Owner(cast.outsider, other), values={}, terms=Terms(), now=now)

    assert "0 keys so far" in text_of(root.get(Pages(Team).url("change", cast.team.pk)))
    assert "1 key so far; 1 has one" in text_of(
        root.get(Pages(Organization).url("change", cast.organization.pk))
    )


def test_the_history_says_which_budget_each_key_got(
    cast: Cast, shared: Budget, root: Client
) -> None:
    save(root, Pages(Team).url("change", cast.team.pk), each_key=[shared.pk])

    page = text_of(root.get(Pages(Team).url("history", cast.team.pk)))

    assert "budget Each day" in page
    assert "given to each key of Team Team" in page
