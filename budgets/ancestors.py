"""
What stands above an account: whoever spends on it spends there too, and is bound by their limits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from budgets.figures import InForce, figures_of
from budgets.models import (
    Account,
    AccountKind,
    ApiKey,
    Membership,
    Organization,
    OrganizationMembership,
    Team,
    User,
)


def ancestors_of(account: Account) -> list[Account]:
    """
    Return the accounts that every request of ``account`` counts on too, nearest first.

    Of an end user, a tag or a user it is only the organization: the key is another every time.
    """
    return list(_above(account))


def teams_above(account: Account) -> set[int]:
    """Return the teams whose admins answer for an account: not the team's own, but those in it."""
    if account.holder is not None:
        return teams_above(account.holder)
    keys = ApiKey.objects.filter(account=account, team__isnull=False)
    members = Membership.objects.filter(account=account)
    return {team for rows in (keys, members) for team in rows.values_list("team_id", flat=True)}


def _above(account: Account) -> Iterator[Account]:
    if account.holder is not None:
        yield account.holder
        yield from _above(account.holder)
        return
    if account.organization_id is None or account.kind == AccountKind.ORGANIZATION:
        return
    if account.kind == AccountKind.KEY:
        yield from _above_key(ApiKey.objects.filter(account=account).first())
    if account.kind == AccountKind.MEMBER:
        yield from _above_member(Membership.objects.filter(account=account).first())
    yield Account.objects.get(pk=_organization_account(account.organization_id))


def _above_key(key: ApiKey | None) -> Iterator[Account]:
    if key is None:
        return
    if key.user is not None and key.team is not None:
        joined = Membership.objects.filter(team=key.team, user=key.user)
        yield from (each.account for each in joined.select_related("account"))
    yield from _user_and_team(key.user, key.team, key.organization_id)


def _above_member(member: Membership | None) -> Iterator[Account]:
    if member is not None:
        yield from _user_and_team(member.user, member.team, member.team.organization_id)


def _user_and_team(user: User | None, team: Team | None, organization_id: int) -> Iterator[Account]:
    if user is not None:
        joined = OrganizationMembership.objects.filter(user=user, organization=organization_id)
        yield from (each.account for each in joined.select_related("account"))
    if team is not None:
        yield team.account


def _organization_account(organization_id: int) -> UUID:
    return Organization.objects.values_list("account_id", flat=True).get(pk=organization_id)


@dataclass(frozen=True, slots=True)
class Room:
    """What a budget above an account has left, and whether an increase below goes beyond it."""

    account: Account
    standing: InForce
    would_exceed: bool


def room_above(account: Account, amount: Decimal, *, at: datetime) -> list[Room]:
    """
    Return every limit above an account, nearest first, and whether it has less left than
    ``amount``: then the increase alone does not help, which is told and not forbidden.
    """
    above = ancestors_of(account)
    figures = figures_of([each.pk for each in above], at=at)
    return [
        Room(each, standing, standing.remaining < amount)
        for each in above
        for standing in figures[each.pk].budgets
        if standing.remaining is not None
    ]
