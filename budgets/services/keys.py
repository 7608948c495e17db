"""Virtual keys: issue, change, rotate, block, delete."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from budgets import keys
from budgets.changes import change, unique
from budgets.errors import Conflict, InvalidInput
from budgets.models import (
    AccountKind,
    ApiKey,
    Budget,
    Membership,
    Organization,
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
from budgets.services.tenancy import add_member, join_organization, set_budgets


@dataclass(frozen=True, slots=True)
class Issued:
    """A key and its secret, which exists nowhere else and cannot be had again."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class Owner:
    """For whom a key is: an organization, and in it perhaps a team and a user."""

    organization: Organization
    team: Team | None = None
    user: User | None = None


def issue_key(
    *,
    owner: Owner,
    values: Mapping[str, Any],
    terms: Terms,
    budgets: Sequence[Budget] = (),
    secret: str | None = None,
    now: datetime,
) -> Issued:
    """
    Make a key with its account; its secret is in the answer and nowhere else.

    :raises Conflict: if the name or the given secret is taken
    :raises InvalidInput: naming the field that does not fit
    """
    _check_owner(owner)
    secret = keys.new_secret() if secret is None else _custom(secret, field="key")
    with change(scope=owner.organization.pk), unique("key"):
        _make_memberships(owner, now)
        account = new_account(
            organization=owner.organization, kind=AccountKind.KEY, label=_label(values, secret)
        )
        key = ApiKey.objects.create(
            organization=owner.organization,
            team=owner.team,
            user=owner.user,
            account=account,
            digest=keys.digest(secret),
            prefix=secret[: keys.SHOWN_CHARACTERS],
            **values,
        )
        set_budgets(account, terms, budgets, now)
    return Issued(key, secret)


def update_key(
    *,
    key: ApiKey,
    values: Mapping[str, Any],
    terms: Terms | None = None,
    budgets: Sequence[Budget] | None = None,
    now: datetime,
) -> ApiKey:
    """
    Change fields of a key; its own limits and its linked budgets stay where they are None.

    :raises Conflict: if the name is taken
    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=key.organization_id), unique("key"):
        for name, value in values.items():
            setattr(key, name, value)
        _check_owner(Owner(key.organization, key.team, key.user))
        _make_memberships(Owner(key.organization, key.team, key.user), now)
        key.save()
        rename_account(account=key.account, label=key.name or f"{key.prefix}…")
        if terms is not None:
            set_private_budget(account=key.account, terms=terms, now=now)
        if budgets is not None:
            link_budgets(account=key.account, budgets=budgets, now=now)
    return key


def block_key(*, key: ApiKey, blocked: bool) -> ApiKey:
    """Refuse (or admit again) every request with this key from the next one on."""
    with change(scope=key.organization_id):
        key.blocked = blocked
        key.save(update_fields=["blocked", "updated_at"])
    return key


def rotate_key(*, key: ApiKey, secret: str | None = None) -> Issued:
    """
    Give a key a new secret; the old one ends at once, its account, limits and spend stay.

    :raises Conflict: if the given secret is taken
    :raises InvalidInput: if the given secret is none
    """
    secret = keys.new_secret() if secret is None else _custom(secret, field="new_key")
    with change(scope=key.organization_id), unique("new_key"):
        key.digest = keys.digest(secret)
        key.legacy_digest = None
        key.prefix = secret[: keys.SHOWN_CHARACTERS]
        key.save(update_fields=["digest", "legacy_digest", "prefix", "updated_at"])
    return Issued(key, secret)


def delete_keys(*, chosen: Iterable[ApiKey]) -> None:
    """Delete keys, all or none; what they spent stays on their accounts."""
    with transaction.atomic():
        for key in chosen:
            with change(scope=key.organization_id):
                key.delete()


def _check_owner(owner: Owner) -> None:
    if owner.team is not None and owner.team.organization_id != owner.organization.pk:
        raise InvalidInput("team_id", "belongs to another organization")


def _make_memberships(owner: Owner, now: datetime) -> None:
    """A key of a user has the user's account on its path, and in a team the member's."""
    if owner.user is None:
        return
    # Two first keys at once must not both make them.
    User.objects.select_for_update().get(pk=owner.user.pk)
    join_organization(organization=owner.organization, user=owner.user)
    if owner.team is None:
        return
    if not Membership.objects.filter(team=owner.team, user=owner.user).exists():
        add_member(team=owner.team, user=owner.user, role=TeamRole.USER, terms=Terms(), now=now)


def _custom(secret: str, *, field: str) -> str:
    # The master key acts for everybody: it must never be a key that calls models.
    if secret == settings.MASTER_KEY:
        raise Conflict(field, "is taken")
    if not keys.is_well_formed(secret):
        raise InvalidInput(
            field,
            f"must start with sk- and have {keys.CUSTOM_LENGTH_MIN} to {keys.LENGTH_MAX} letters",
        )
    return secret


def _label(values: Mapping[str, Any], secret: str) -> str:
    return str(values.get("name") or f"{secret[: keys.SHOWN_CHARACTERS]}…")
