"""Shared budgets: made once, linked to many accounts."""

from datetime import datetime

from budgets import totals
from budgets.changes import change, unique
from budgets.errors import InvalidInput
from budgets.models import AccountBudget, Budget, Organization
from budgets.services.accounts import Terms, write_terms


def create_budget(
    *, organization: Organization, terms: Terms, public_id: str | None = None, name: str = ""
) -> Budget:
    """
    Make a budget that accounts can be linked to.

    :raises InvalidInput: naming the field that does not fit
    :raises Conflict: if the id is taken
    """
    budget = Budget(organization=organization, name=name)
    if public_id is not None:
        budget.public_id = public_id
    checked = terms.checked()
    with change(scope=organization.pk), unique("budget_id"):
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
    with change(scope=budget.organization_id):
        totals.lock_partition()  # before the holders are read: nobody becomes one meanwhile
        write_terms(budget, checked)
        holders = AccountBudget.objects.filter(budget=budget)
        totals.begin(account_ids=list(holders.values_list("account_id", flat=True)), at=now)
    return budget


def delete_budget(*, budget: Budget) -> None:
    """
    Delete a budget that no account has.

    :raises InvalidInput: if one has it
    """
    with change(scope=budget.organization_id):
        linked = AccountBudget.objects.filter(budget=budget).count()
        if linked:
            raise InvalidInput("id", f"is linked to {linked} accounts; unlink it first")
        budget.delete()
