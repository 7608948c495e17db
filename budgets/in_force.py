"""
Which budgets are in force on an account: its own, else those of a template.

A key looks for a template at its team, then at its organization; so does a team's member; an end
user at its organization (a request adds the team's, which the end user itself does not have).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from django.db.models import QuerySet
from django.db.models.functions import Now

from budgets.contexts import PathAccount, Terms
from budgets.increases import Added
from budgets.models import (
    Account,
    AccountBudget,
    AccountKind,
    ApiKey,
    Budget,
    BudgetTemplate,
    Increase,
    IncreaseState,
    Membership,
)

Holders = Sequence[UUID]
"""Accounts that may have templates, nearest first."""


def budgets_on(account_ids: Iterable[UUID]) -> dict[UUID, list[Budget]]:
    """Return the budgets in force on each account that has any."""
    wanted = set(account_ids)
    budgets: dict[UUID, list[Budget]] = defaultdict(list)
    rows = AccountBudget.objects.filter(account__in=wanted).order_by("pk")
    for row in rows.select_related("budget"):
        budgets[row.account_id].append(row.budget)
    budgets |= _from_templates(wanted - budgets.keys())
    return budgets


def by_templates(account_ids: Iterable[UUID]) -> dict[UUID, list[Budget]]:
    """Return what templates give to those of the accounts that have no budget of their own."""
    wanted = set(account_ids)
    owning = AccountBudget.objects.filter(account__in=wanted)
    return _from_templates(wanted - set(owning.values_list("account_id", flat=True)))


def templates_of(
    holders: Holders, *, applies_to: str, templates: Iterable[BudgetTemplate] | None = None
) -> list[Budget]:
    """Return what the nearest of the holders gives to accounts of that kind, if one does."""
    rows = list(_templates(holders) if templates is None else templates)
    for holder in holders:
        given = [
            row.budget for row in rows if row.holder_id == holder and row.applies_to == applies_to
        ]
        if given:
            return given
    return []


def accounts_under(*, holder: Account, applies_to: str) -> set[UUID]:
    """Return the accounts that a template of ``holder`` may be about and that have a row."""
    if applies_to == AccountKind.KEY:
        keys = ApiKey.objects.filter(team__account=holder)
        if holder.kind == AccountKind.ORGANIZATION:
            keys = ApiKey.objects.filter(organization__account=holder)
        return set(keys.values_list("account_id", flat=True))
    if applies_to == AccountKind.MEMBER:
        members = Membership.objects.filter(team__account=holder)
        if holder.kind == AccountKind.ORGANIZATION:
            members = Membership.objects.filter(team__organization__account=holder)
        return set(members.values_list("account_id", flat=True))
    users = Account.objects.filter(kind=AccountKind.END_USER, organization=holder.organization_id)
    return set(users.values_list("id", flat=True))


def accounts_with(budget: Budget, *, count: int) -> list[Account]:
    """Return accounts that a budget was put on, at most so many; not those of its templates."""
    rows = Account.objects.filter(budgets=budget).select_related("organization")
    return list(rows.order_by("label", "id")[:count])


Increases = Mapping[tuple[UUID, int], tuple[Added, ...]]
"""What was approved and has not ended, by account and budget."""


def increases_on(account_ids: Iterable[UUID]) -> Increases:
    """Return what raises, or will raise, the budgets of these accounts, in one query."""
    return _added(Increase.objects.filter(account__in=set(account_ids)))


def platform_increases() -> Increases:
    """Return the same of every model, provider and deployment."""
    return _added(Increase.objects.filter(account__organization=None))


def _added(rows: QuerySet[Increase]) -> Increases:
    # By the clock of Postgres: what it takes for ended too late, the context's validity ends.
    running = rows.filter(state=IncreaseState.APPROVED, ends_at__gt=Now())
    found: dict[tuple[UUID, int], tuple[Added, ...]] = defaultdict(tuple)
    for row in running.order_by("starts_at", "id"):
        found[row.account_id, row.budget_id] += (row.added,)
    return found


def terms_of(account: PathAccount, budget: Budget, increases: Increases | None = None) -> Terms:
    """Return a budget as terms on an account, with the increases that it has there."""
    return Terms(
        account=account,
        budget_id=budget.public_id,
        enforcement=budget.enforcement,
        max_budget=budget.max_budget,
        soft_budget=budget.soft_budget,
        duration=budget.duration,
        time_zone=budget.time_zone,
        layout=budget.layout,
        rpm_limit=budget.rpm_limit,
        tpm_limit=budget.tpm_limit,
        max_parallel_requests=budget.max_parallel_requests,
        increases=(increases or {}).get((account.id, budget.pk), ()),
    )


def _templates(holders: Iterable[UUID]) -> list[BudgetTemplate]:
    rows = BudgetTemplate.objects.filter(holder__in=set(holders)).order_by("pk")
    return list(rows.select_related("budget"))


def _from_templates(accounts: set[UUID]) -> dict[UUID, list[Budget]]:
    if not accounts or not BudgetTemplate.objects.exists():
        return {}
    found: dict[UUID, list[Budget]] = {}
    by_kind = _holders(accounts)
    rows = _templates(
        id for holders in by_kind.values() for each in holders.values() for id in each
    )
    for kind, holders in by_kind.items():
        for account, nearest in holders.items():
            if given := templates_of(nearest, applies_to=kind, templates=rows):
                found[account] = given
    return found


def _holders(accounts: set[UUID]) -> Mapping[str, dict[UUID, list[UUID]]]:
    """Return for each account where templates for it may be, by the kind of the account."""
    keys = ApiKey.objects.filter(account__in=accounts).values_list(
        "account_id", "team__account_id", "organization__account_id"
    )
    members = Membership.objects.filter(account__in=accounts).values_list(
        "account_id", "team__account_id", "team__organization__account_id"
    )
    users = Account.objects.filter(id__in=accounts, kind=AccountKind.END_USER).values_list(
        "id", "organization__account_id"
    )
    return {
        kind: {account: list(filter(None, holders)) for account, *holders in rows}
        for kind, rows in (
            (AccountKind.KEY, keys), (AccountKind.MEMBER, members), (AccountKind.END_USER, users),
        )
    }  # fmt: skip
