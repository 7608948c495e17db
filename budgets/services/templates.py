"""
What whoever is under a team or organization gets without having been given it.

The limits that a team itself states for its members are a shared budget with an id made of the
team's account, so that it is found again, told, and changed like any other.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

from budgets.models import Account, AccountBudget, Budget, BudgetTemplate
from budgets.services.accounts import Terms, set_template
from budgets.services.budgets import create_budget, update_budget

MEMBER = BudgetTemplate.AppliesTo.MEMBER


def members_budget_id(team_account_id: UUID) -> str:
    """Return the id of the budget that a team states for its members."""
    return str(uuid5(team_account_id, "members"))


def members_budget(team: Account) -> Budget | None:
    """Return the budget that a team states for its members, if it does."""
    return Budget.objects.filter(
        public_id=members_budget_id(team.id), organization=team.organization_id
    ).first()


def set_member_template(
    *, team: Account, terms: Terms | None, linked: Sequence[Budget] | None, now: datetime
) -> None:
    """
    Give a team's members these limits, else these shared budgets; None leaves either as it is, and
    terms that say nothing end them.

    Within the caller's transaction.

    :raises InvalidInput: naming the field that does not fit
    """
    stated = members_budget(team)
    wanted = stated
    if terms is not None:
        wanted = None if terms.says_nothing else _written(team, stated, terms, now)
    if linked is None:
        others = BudgetTemplate.objects.filter(holder=team, applies_to=MEMBER)
        linked = [each.budget for each in others.select_related("budget").order_by("pk")]
    budgets = [wanted] if wanted else [each for each in linked if each != stated]
    set_template(holder=team, applies_to=MEMBER, budgets=budgets, now=now)
    if stated is not None and wanted is None:
        _delete_unused(stated)


def forget_templates(*, holder: Account) -> None:
    """Take away what a team gave, since it goes; within the caller's transaction."""
    BudgetTemplate.objects.filter(holder=holder).delete()
    if stated := members_budget(holder):
        _delete_unused(stated)


def _written(team: Account, stated: Budget | None, terms: Terms, now: datetime) -> Budget:
    if stated is not None:
        return update_budget(budget=stated, terms=terms, now=now)
    return create_budget(
        organization=team.organization,
        terms=terms,
        public_id=members_budget_id(team.id),
        name=f"Members of {team.label}"[:255],
    )


def _delete_unused(budget: Budget) -> None:
    """It is a shared budget: somebody may have linked it elsewhere too."""
    linked = AccountBudget.objects.filter(budget=budget).exists()
    if not linked and not BudgetTemplate.objects.filter(budget=budget).exists():
        budget.delete()
