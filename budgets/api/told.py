"""Puts rows and their figures together, for many at once."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import prefetch_related_objects

from budgets.api.answers import KeyView, MemberView, OrganizationView, TeamView, UserView
from budgets.figures import figures_of
from budgets.models import ApiKey, Membership, Organization, Team, User
from budgets.queries import membership_for


def key_views(keys: Iterable[ApiKey], *, at: datetime) -> list[KeyView]:
    keys = list(keys)
    figures = figures_of([key.account_id for key in keys], at=at)
    return [KeyView(key, figures[key.account_id]) for key in keys]


def key_view(key: ApiKey, *, at: datetime, secret: str = "") -> KeyView:
    return KeyView(key, figures_of([key.account_id], at=at)[key.account_id], secret)


def team_views(teams: Iterable[Team], *, at: datetime) -> list[TeamView]:
    teams = list(teams)
    prefetch_related_objects(teams, "memberships__user")
    figures = figures_of([team.account_id for team in teams], at=at)
    return [TeamView(team, figures[team.account_id]) for team in teams]


def team_view(team: Team, *, at: datetime) -> TeamView:
    return team_views([team], at=at)[0]


def member_views(members: Iterable[Membership], *, at: datetime) -> list[MemberView]:
    members = list(members)
    figures = figures_of([member.account_id for member in members], at=at)
    return [MemberView(member, figures[member.account_id]) for member in members]


def user_views(
    users: Sequence[User], *, organization: Organization | None, at: datetime
) -> list[UserView]:
    """Show users as members of ``organization``, or each as a member of its first."""
    prefetch_related_objects(users, "organizations__organization", "teams__team")
    joined = {user.pk: membership_for(user, organization) for user in users}
    figures = figures_of([each.account_id for each in joined.values() if each], at=at)
    return [
        UserView(user, membership, figures.get(membership.account_id) if membership else None)
        for user in users
        for membership in [joined[user.pk]]
    ]


def user_view(user: User, *, organization: Organization | None, at: datetime) -> UserView:
    return user_views([user], organization=organization, at=at)[0]


def organization_views(
    organizations: Iterable[Organization], *, at: datetime
) -> list[OrganizationView]:
    organizations = list(organizations)
    figures = figures_of([each.account_id for each in organizations], at=at)
    return [OrganizationView(each, figures[each.account_id]) for each in organizations]
