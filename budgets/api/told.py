"""Puts rows and their figures together, for many at once."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import prefetch_related_objects

from budgets import display, money
from budgets.api.answers import (
    KeyView,
    MemberView,
    OrganizationView,
    TeamView,
    Templates,
    UserView,
    WarnedOrganizationView,
    WarnedTeamView,
)
from budgets.api.label_answers import CustomerView, TagView
from budgets.figures import figures_of
from budgets.models import Account, ApiKey, EndUser, Membership, Organization, Tag, Team, User
from budgets.overcommitment import Overcommitment, overcommitments
from budgets.queries import membership_for, templates_of
from budgets.services.templates import MEMBER, members_budget_id


def key_views(keys: Iterable[ApiKey], *, at: datetime) -> list[KeyView]:
    keys = list(keys)
    figures = figures_of([key.account_id for key in keys], at=at)
    return [KeyView(key, figures[key.account_id]) for key in keys]


def key_view(key: ApiKey, *, at: datetime, secret: str = "") -> KeyView:
    return KeyView(key, figures_of([key.account_id], at=at)[key.account_id], secret)


def team_views(teams: Iterable[Team], *, at: datetime) -> list[TeamView]:
    teams = list(teams)
    prefetch_related_objects(teams, "memberships__user")
    ids = [team.account_id for team in teams]
    figures, templates = figures_of(ids, at=at), templates_of(ids)
    return [
        TeamView(team, figures[team.account_id], _stated(team, templates.get(team.account_id, {})))
        for team in teams
    ]


def warned_team_view(team: Team, *, at: datetime) -> WarnedTeamView:
    view = team_view(team, at=at)
    warnings = warnings_of(team.account, view.figures.currency)
    return WarnedTeamView(team, view.figures, view.templates, warnings)


def warnings_of(holder: Account, currency: str) -> list[str]:
    """Say where those under a holder may together spend more than it may itself."""
    return [_warning(each, currency) for each in overcommitments([holder]).get(holder.pk, [])]


def _warning(found: Overcommitment, currency: str) -> str:
    whose = found.kind if found.accounts == 1 else f"{found.kind}s"
    allotted, limit = money.plain(found.allotted), money.plain(found.limit)
    return (
        f"Its {found.accounts} {whose} with limits may spend {allotted} {currency}"
        f" {display.per_period(found.duration)}; its own budget is {limit} {currency}."
    )


def _stated(team: Team, templates: Templates) -> Templates:
    """Tell apart what the team itself states for its members, and what it links for them."""
    of_members = templates.get(MEMBER)
    if of_members is None or of_members.public_id != members_budget_id(team.account_id):
        return templates
    others = {kind: budget for kind, budget in templates.items() if kind != MEMBER}
    return {**others, "stated": of_members}


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
    ids = [each.account_id for each in organizations]
    figures, templates = figures_of(ids, at=at), templates_of(ids)
    return [
        OrganizationView(each, figures[each.account_id], templates.get(each.account_id, {}))
        for each in organizations
    ]


def warned_organization_view(organization: Organization, *, at: datetime) -> WarnedOrganizationView:
    (view,) = organization_views([organization], at=at)
    warnings = warnings_of(organization.account, organization.currency)
    return WarnedOrganizationView(organization, view.figures, view.templates, warnings)


def customer_views(end_users: Iterable[EndUser], *, at: datetime) -> list[CustomerView]:
    end_users = list(end_users)
    figures = figures_of([each.account_id for each in end_users], at=at)
    return [CustomerView(each, each.organization, figures[each.account_id]) for each in end_users]


def tag_views(tags: Iterable[Tag], *, at: datetime) -> list[TagView]:
    tags = list(tags)
    figures = figures_of([each.account_id for each in tags], at=at)
    return [TagView(each, each.organization, figures[each.account_id]) for each in tags]
