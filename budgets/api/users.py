"""``/user/*``: people, who have limits and spend in each organization that they are in."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from budgets import lifetimes, queries
from budgets.api import answers, inputs
from budgets.api.answers import UserDetailView, UserPageView, UserView, UserWithKeyView
from budgets.api.endpoints import Asked, ManagementView, endpoint
from budgets.api.limits import (
    new_limits,
    wanted_changes,
    wanted_organization,
    wanted_values,
)
from budgets.api.told import key_view, key_views, team_views, user_view, user_views
from budgets.errors import InvalidInput
from budgets.models import Organization, Team, User, UserRole
from budgets.queries import PAGE_SIZE_MAX
from budgets.services.accounts import Terms
from budgets.services.limits import set_limits
from budgets.services.onboarding import FirstKey, Newcomer, register_user
from budgets.services.tenancy import DEFAULT_ORGANIZATION, join_organization, update_user

FIELDS: Final[Mapping[str, tuple[str, Any]]] = {
    "user_alias": ("alias", ""),
    "user_email": ("email", ""),
    "user_role": ("role", UserRole.INTERNAL_USER.value),
    "models": ("allowed_models", []),
    "metadata": ("metadata", {}),
}


class UserNew(ManagementView):
    @endpoint(takes=inputs.NewUser, answers=answers.UserWithKey)
    def post(self, asked: Asked) -> UserWithKeyView:
        """Make a user, and unless told otherwise a key for it; limits are the user's."""
        now = timezone.now()
        newcomer = _newcomer(asked, now)
        limits = new_limits(asked, organization=newcomer.organization)
        with transaction.atomic():
            user, issued = register_user(newcomer=newcomer, now=now)
            joined = join_organization(organization=newcomer.organization, user=user)
            set_limits(account=joined.account, limits=limits, now=now)
        shown = user_view(user, organization=newcomer.organization, at=now)
        return UserWithKeyView(
            user=user,
            membership=shown.membership,
            figures=shown.figures,
            issued=key_view(issued.key, at=now, secret=issued.secret) if issued else None,
        )


class UserUpdate(ManagementView):
    @endpoint(takes=inputs.UpdateUser, answers=answers.ChangedUser)
    def post(self, asked: Asked) -> UserView:
        """Change a user; limits are those in the organization that is named, else in its first."""
        now = timezone.now()
        with transaction.atomic():
            user = _user(asked)
            organization = _organization_of(user, asked)
            account = join_organization(organization=organization, user=user).account
            limits = wanted_changes(asked, account=account, organization=organization)
            update_user(
                user=user, values=_values(asked), organization=organization, terms=None, now=now
            )
            set_limits(account=account, limits=limits, now=now)
        return user_view(user, organization=organization, at=now)


class UserInfo(ManagementView):
    @endpoint(takes=inputs.UserQuery, answers=answers.UserDetail)
    def get(self, asked: Asked) -> UserDetailView:
        """Tell all about a user; of its keys and teams the first hundred."""
        now = timezone.now()
        user = queries.find_user(asked["user_id"])
        organization = (
            queries.find_organization(asked["organization_id"])
            if asked.get("organization_id")
            else None
        )
        keys = queries.all_keys().filter(user=user)
        teams = queries.all_teams().filter(memberships__user=user)
        return UserDetailView(
            view=user_view(user, organization=organization, at=now),
            keys=key_views(keys[:PAGE_SIZE_MAX], at=now),
            teams=team_views(teams[:PAGE_SIZE_MAX], at=now),
        )


class UserList(ManagementView):
    @endpoint(takes=inputs.ListUsers, answers=answers.UserPage)
    def get(self, asked: Asked) -> UserPageView:
        """List users, the newest first."""
        organizations = asked.get("organization_ids") or []
        organization = (
            queries.find_organization(organizations[0], field="organization_ids")
            if organizations
            else None
        )
        users = _filtered(asked, organization)
        page = queries.page_of(users, number=asked["page"], size=asked["page_size"])
        views = user_views(page.rows, organization=organization, at=timezone.now())
        return UserPageView(page, views)


def _newcomer(asked: Asked, now: datetime) -> Newcomer:
    teams = queries.find_teams(asked.get("teams") or [], field="teams")
    team = queries.find_team(asked["team_id"]) if asked.get("team_id") else None
    if team is not None and team not in teams:
        teams.append(team)
    organization = _wanted_organization(asked, teams)
    values = _values(asked)
    if public_id := asked.get("user_id"):
        values["public_id"] = public_id
    return Newcomer(
        organization=organization,
        values=values,
        terms=Terms(),
        teams=teams,
        first_key=FirstKey(_key_values(asked, now), team) if asked["auto_create_key"] else None,
    )


def _wanted_organization(asked: Asked, teams: list[Team]) -> Organization:
    """Return the organization that is named in one way or the other, else the teams'."""
    named = {*(asked.get("organizations") or []), asked.get("organization_id")} - {None}
    if len(named) > 1:
        raise InvalidInput("organizations", "is another than organization_id")
    default = teams[0].organization.public_id if teams else DEFAULT_ORGANIZATION
    return wanted_organization({"organization_id": next(iter(named), None)}, default=default)


def _values(asked: Asked) -> dict[str, Any]:
    values = wanted_values(asked, FIELDS)
    if "blocked" in asked:
        values["is_active"] = not asked["blocked"]
    return values


def _key_values(asked: Asked, now: datetime) -> dict[str, Any]:
    lifetime = asked.get("duration")
    return {
        "name": asked.get("key_alias") or "",
        "expires_at": lifetimes.end_of(lifetime, start=now) if lifetime else None,
    }


def _user(asked: Asked) -> User:
    """Return the user to change; an address beside an id is a new one."""
    if asked.get("user_id"):
        return queries.find_user(asked["user_id"], lock=True)
    return queries.find_user_by_email(asked["user_email"], lock=True)


def _organization_of(user: User, asked: Asked) -> Organization:
    first = queries.membership_for(user, None)
    default = first.organization.public_id if first else DEFAULT_ORGANIZATION
    return wanted_organization(asked, default=default)


def _filtered(asked: Asked, organization: Organization | None) -> QuerySet[User]:
    users = queries.users_with_key_counts()
    if organization is not None:
        users = users.filter(organizations__organization=organization)
    if address := asked.get("user_email"):
        users = users.filter(email__icontains=address)
    for name, path in _FILTERS.items():
        if value := asked.get(name):
            users = users.filter(**{path: value})
    return users


_FILTERS: Final = {
    "role": "role",
    "user_ids": "public_id__in",
    "team": "teams__team__public_id",
}
