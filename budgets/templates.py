"""Whom the templates of an organization or team are about."""

from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from budgets.models import Account, AccountBudget, AccountKind, ApiKey, Membership


@dataclass(frozen=True, slots=True)
class Reach:
    """How many accounts a template is about, and how many of them have budgets of their own."""

    accounts: int
    with_own: int


def reach_of(*, holder: Account, applies_to: str) -> Reach:
    """Return the reach that a template of ``holder`` has or would have, in one query."""
    own = AccountBudget.objects.filter(account=OuterRef("pk"))
    counted = (
        _accounts_under(holder, applies_to)
        .annotate(has_own=Exists(own))
        .aggregate(accounts=Count("pk"), with_own=Count("pk", filter=Q(has_own=True)))
    )
    return Reach(**counted)


def _accounts_under(holder: Account, applies_to: str) -> QuerySet[Account]:
    """Return the accounts of that kind; through which team end users come is not known."""
    accounts = Account.objects.order_by()
    is_team = holder.kind == AccountKind.TEAM
    if applies_to == AccountKind.KEY:
        keys = (
            ApiKey.objects.filter(team__account=holder)
            if is_team
            else ApiKey.objects.filter(organization__account=holder)
        )
        return accounts.filter(pk__in=keys.values("account"))
    if applies_to == AccountKind.MEMBER:
        members = (
            Membership.objects.filter(team__account=holder)
            if is_team
            else Membership.objects.filter(team__organization__account=holder)
        )
        return accounts.filter(pk__in=members.values("account"))
    return accounts.filter(kind=AccountKind.END_USER, organization=holder.organization_id)
