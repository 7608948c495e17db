"""What takes several steps, whole or not at all: teams with members, users with keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from budgets.errors import InvalidInput
from budgets.models import Budget, Membership, Organization, Team, TeamRole, User
from budgets.services.accounts import Terms
from budgets.services.keys import Issued, Owner, issue_key
from budgets.services.tenancy import add_member, create_team, create_user


@dataclass(frozen=True, slots=True)
class Invited:
    """Somebody who is to be a member of a team; made where neither id nor address is known."""

    role: str
    user_id: str | None = None
    user_email: str | None = None


@dataclass(frozen=True, slots=True)
class FirstKey:
    """What a new user's key is to be like."""

    values: Mapping[str, Any]
    team: Team | None = None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A user to be made: with limits in one organization, in teams, and perhaps with a key."""

    organization: Organization
    values: Mapping[str, Any]
    terms: Terms
    budgets: Sequence[Budget] = ()
    teams: Sequence[Team] = ()
    first_key: FirstKey | None = None


def open_team(
    *,
    organization: Organization,
    values: Mapping[str, Any],
    terms: Terms,
    budgets: Sequence[Budget],
    invited: Sequence[Invited],
    now: datetime,
) -> Team:
    """
    Make a team with its members.

    :raises Conflict: if the team's id is taken, or somebody is invited twice
    :raises InvalidInput: naming the field that does not fit
    """
    with transaction.atomic():
        team = create_team(
            organization=organization, values=values, terms=terms, budgets=budgets, now=now
        )
        add_members(team=team, invited=invited, terms=Terms(), now=now)
    return team


def add_members(
    *, team: Team, invited: Sequence[Invited], terms: Terms, now: datetime
) -> list[Membership]:
    """
    Make everybody a member of a team, each with these limits; who is unknown becomes a user.

    :raises Conflict: if somebody is a member already, or the address is somebody else's
    :raises InvalidInput: naming the field that does not fit
    """
    with transaction.atomic():
        return [
            add_member(
                team=team,
                user=_known(each) or _made(each, team.organization, now),
                role=each.role,
                terms=terms,
                now=now,
            )
            for each in invited
        ]


def register_user(*, newcomer: Newcomer, now: datetime) -> tuple[User, Issued | None]:
    """
    Make a user, and the key that is wanted for it.

    :raises Conflict: if the user's id or address is taken, or the key's alias
    :raises InvalidInput: naming the field that does not fit
    """
    organization = newcomer.organization
    if any(team.organization_id != organization.pk for team in newcomer.teams):
        raise InvalidInput("teams", f"must be of the organization {organization.public_id}")
    with transaction.atomic():
        user = create_user(
            values=newcomer.values,
            organization=organization,
            terms=newcomer.terms,
            budgets=newcomer.budgets,
            now=now,
        )
        for team in newcomer.teams:
            add_member(team=team, user=user, role=TeamRole.USER, terms=Terms(), now=now)
        return user, _first_key(newcomer, user, now)


def _first_key(newcomer: Newcomer, user: User, now: datetime) -> Issued | None:
    wanted = newcomer.first_key
    if wanted is None:
        return None
    owner = Owner(organization=newcomer.organization, team=wanted.team, user=user)
    return issue_key(owner=owner, values=wanted.values, terms=Terms(), now=now)


def _known(invited: Invited) -> User | None:
    if invited.user_id:
        return User.objects.filter(public_id=invited.user_id).first()
    return User.objects.filter(email__iexact=invited.user_email).first()


def _made(invited: Invited, organization: Organization, now: datetime) -> User:
    values = {"public_id": invited.user_id, "email": invited.user_email}
    return create_user(
        values={name: value for name, value in values.items() if value},
        organization=organization,
        terms=Terms(),
        now=now,
    )
