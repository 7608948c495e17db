"""Organizations, teams, users and who is a member of what."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.hashers import make_password
from django.db import transaction

from budgets.changes import change, unique
from budgets.errors import InvalidInput
from budgets.fields import new_public_id
from budgets.models import (
    Account,
    AccountKind,
    ApiKey,
    Budget,
    Membership,
    Organization,
    OrganizationMembership,
    PeriodTotal,
    Team,
    TeamRole,
    User,
)
from budgets.services.accounts import (
    Terms,
    link_budgets,
    new_account,
    rename_account,
    set_private_budget,
)
from budgets.services.templates import forget_templates

DEFAULT_ORGANIZATION: Final = "default"
GLOBAL_SCOPE: Final = 0
ABBREVIATIONS: Final = frozenset({"CET", "EET", "MET", "WET"})

Values = Mapping[str, Any]
"""Fields of the model to set, checked by whoever calls."""


def create_organization(
    *, values: Values, terms: Terms, budgets: Sequence[Budget] = (), now: datetime
) -> Organization:
    """
    Make an organization with its account.

    :raises Conflict: if the id is taken
    :raises InvalidInput: naming the field that does not fit
    """
    _check_zone(values)
    with change(scope=GLOBAL_SCOPE), unique("organization_id"):
        account = new_account(
            organization=None, kind=AccountKind.ORGANIZATION, label=values["name"]
        )
        organization = Organization.objects.create(account=account, **values)
        account.organization = organization
        account.save(update_fields=["organization"])
        set_budgets(organization.account, terms, budgets, now)
    return organization


def update_organization(*, organization: Organization, values: Values) -> Organization:
    """
    Change fields of an organization.

    :raises InvalidInput: if its currency is to change after it has spent or been limited in it,
        or its time zone is a name that the database reads otherwise
    """
    _check_zone(values)
    with change(scope=organization.pk):
        _check_currency(organization, values)
        _write(organization, values)
        rename_account(account=organization.account, label=organization.name)
    return organization


def _check_zone(values: Values) -> None:
    """Refuse what is a zone to us and a fixed offset, without summer time, to Postgres."""
    if values.get("time_zone") in ABBREVIATIONS:
        raise InvalidInput("time_zone", "is an abbreviation: name a place, such as Europe/Brussels")


def _check_currency(organization: Organization, values: Values) -> None:
    kept = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if values.get("currency", kept.currency) == kept.currency:
        return
    spent = PeriodTotal.objects.filter(account=organization.account, events__gt=0)
    if spent.exists() or kept.budgets.exists():
        raise InvalidInput("currency", "is fixed: amounts are counted in it already")


def create_team(
    *,
    organization: Organization,
    values: Values,
    terms: Terms,
    budgets: Sequence[Budget] = (),
    now: datetime,
) -> Team:
    """
    Make a team with its account.

    :raises Conflict: if the id is taken
    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=organization.pk), unique("team_id"):
        account = new_account(
            organization=organization, kind=AccountKind.TEAM, label=values.get("name") or "Team"
        )
        team = Team.objects.create(organization=organization, account=account, **values)
        set_budgets(account, terms, budgets, now)
    return team


def update_team(
    *,
    team: Team,
    values: Values,
    terms: Terms | None,
    budgets: Sequence[Budget] | None = None,
    now: datetime,
) -> Team:
    """
    Change fields of a team; its own limits and its linked budgets stay where they are None.

    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=team.organization_id):
        _write(team, values)
        rename_account(account=team.account, label=team.name)
        if terms is not None:
            set_private_budget(account=team.account, terms=terms, now=now)
        if budgets is not None:
            link_budgets(account=team.account, budgets=budgets, now=now)
    return team


def delete_teams(*, teams: Iterable[Team]) -> None:
    """Delete teams with their keys and memberships, all or none; what they spent stays."""
    with transaction.atomic():
        for team in teams:
            with change(scope=team.organization_id):
                forget_templates(holder=team.account)
                team.delete()


def create_user(
    *,
    values: Values,
    organization: Organization,
    terms: Terms,
    budgets: Sequence[Budget] = (),
    now: datetime,
) -> User:
    """
    Make a user without a password, as a member of ``organization``.

    :raises Conflict: if the id or e-mail address is taken
    :raises InvalidInput: naming the field that does not fit
    """
    public_id = values.get("public_id") or new_public_id()
    with change(scope=organization.pk), unique("user_id"):
        user = User.objects.create(
            username=public_id[:150],
            password=make_password(None),
            **{**values, "public_id": public_id},
        )
        joined = join_organization(organization=organization, user=user)
        set_budgets(joined.account, terms, budgets, now)
    return user


def update_user(
    *,
    user: User,
    values: Values,
    organization: Organization,
    terms: Terms | None,
    budgets: Sequence[Budget] | None = None,
    now: datetime,
) -> User:
    """
    Change fields of a user, and of its account in ``organization`` its own limits and its linked
    budgets, where they are not None.

    :raises Conflict: if the e-mail address is taken
    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=organization.pk), unique("user_id"):
        _write(user, values)
        if terms is not None or budgets is not None:
            account = join_organization(organization=organization, user=user).account
            if terms is not None:
                set_private_budget(account=account, terms=terms, now=now)
            if budgets is not None:
                link_budgets(account=account, budgets=budgets, now=now)
    return user


def join_organization(*, organization: Organization, user: User) -> OrganizationMembership:
    """Return the user's membership of an organization, made with its account if there is none."""
    existing = OrganizationMembership.objects.filter(organization=organization, user=user).first()
    if existing is not None:
        return existing
    account = new_account(organization=organization, kind=AccountKind.USER, label=str(user))
    return OrganizationMembership.objects.create(
        organization=organization, user=user, account=account
    )


def add_member(*, team: Team, user: User, role: str, terms: Terms, now: datetime) -> Membership:
    """
    Make a user a member of a team, with an account of its own.

    :raises Conflict: if the user is a member already
    :raises InvalidInput: naming the field that does not fit
    """
    if role not in TeamRole.values:
        raise InvalidInput("role", f"must be one of {', '.join(TeamRole.values)}")
    with change(scope=team.organization_id), unique("member"):
        join_organization(organization=team.organization, user=user)
        account = new_account(
            organization=team.organization, kind=AccountKind.MEMBER, label=f"{user} in {team}"
        )
        member = Membership.objects.create(team=team, user=user, role=role, account=account)
        set_private_budget(account=account, terms=terms, now=now)
    return member


def update_member(
    *, member: Membership, role: str | None, terms: Terms | None, now: datetime
) -> Membership:
    """
    Change a member's role and its limits in the team; None leaves either as it is.

    :raises InvalidInput: naming the field that does not fit
    """
    if role is not None and role not in TeamRole.values:
        raise InvalidInput("role", f"must be one of {', '.join(TeamRole.values)}")
    with change(scope=member.team.organization_id):
        if role is not None:
            member.role = role
            member.save(update_fields=["role"])
        if terms is not None:
            set_private_budget(account=member.account, terms=terms, now=now)
    return member


def remove_member(*, member: Membership) -> None:
    """Take a user out of a team, with the keys that the user has for it."""
    with change(scope=member.team.organization_id):
        ApiKey.objects.filter(team=member.team, user=member.user).delete()
        member.delete()


def _write(row: Organization | Team | User, values: Values) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def set_budgets(account: Account, terms: Terms, budgets: Sequence[Budget], now: datetime) -> None:
    """Inline limits win over a linked budget, as with LiteLLM."""
    private = set_private_budget(account=account, terms=terms, now=now)
    if private is None:
        link_budgets(account=account, budgets=budgets, now=now)
