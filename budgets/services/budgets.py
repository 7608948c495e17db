"""Shared budgets: made once, linked to many accounts."""

from datetime import datetime
from uuid import UUID

from budgets import in_force, totals
from budgets.changes import change, unique
from budgets.errors import InvalidInput
from budgets.models import PLATFORM, AccountBudget, Budget, BudgetTemplate, Organization
from budgets.services.accounts import Terms, write_terms


def create_budget(
    *, organization: Organization | None, terms: Terms, public_id: str | None = None, name: str = ""
) -> Budget:
    """
    Make a budget that accounts can be linked to; without an organization it is for models,
    providers and deployments.

    :raises InvalidInput: naming the field that does not fit
    :raises Conflict: if the id is taken
    """
    budget = Budget(organization=organization, name=name)
    if public_id is not None:
        budget.public_id = public_id
    checked = terms.checked()
    with change(scope=organization.pk if organization else PLATFORM), unique("budget_id"):
        write_terms(budget, checked)
    return budget


def update_budget(
    *, budget: Budget, terms: Terms, now: datetime, name: str | None = None
) -> Budget:
    """
    Change a budget for every account that has it, from the next request on; what was spent since
    its (new) period began counts.

    :raises InvalidInput: naming the field that does not fit
    """
    checked = terms.checked()
    if name is not None:
        budget.name = name
    with change(scope=budget.organization_id or PLATFORM):
        totals.lock_partition()  # before the holders are read: nobody becomes one meanwhile
        write_terms(budget, checked)
        totals.begin(account_ids=_holders(budget), at=now)
    return budget


def delete_budget(*, budget: Budget) -> None:
    """
    Delete a budget that no account has.

    :raises InvalidInput: if one has it
    """
    with change(scope=budget.organization_id or PLATFORM):
        linked = AccountBudget.objects.filter(budget=budget).count()
        if linked:
            raise InvalidInput("id", f"is linked to {linked} accounts; unlink it first")
        if BudgetTemplate.objects.filter(budget=budget).exists():
            raise InvalidInput("id", "is a template; take that away first")
        budget.delete()


def _holders(budget: Budget) -> list[UUID]:
    """Return the accounts that have a budget, and those that a template may give it to."""
    holders = set(AccountBudget.objects.filter(budget=budget).values_list("account_id", flat=True))
    for template in BudgetTemplate.objects.filter(budget=budget).select_related("holder"):
        holders |= in_force.accounts_under(holder=template.holder, applies_to=template.applies_to)
    return list(holders)
