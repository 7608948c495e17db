"""What the groups of a report are called: by the id that programs know, and by a name."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from budgets.models import (
    PLATFORM,
    Account,
    AccountKind,
    ApiKey,
    Organization,
    Team,
    User,
    derived_account_id,
)
from spend.reporting.report_sums import HOLDERS, Group

Names = dict[str, str]


@dataclass(frozen=True, slots=True)
class Named:
    """A group by its id, and by its name where that is another; no id: it has none there."""

    id: str
    name: str


def read(
    group_by: tuple[Group, ...], found: Iterable[tuple[str, ...]]
) -> dict[Group, dict[str, Named]]:
    """Return what each value of each group is called: at most two queries for each group."""
    values = list(found)
    named = {}
    for place, group in enumerate(group_by):
        ids = {each[place] for each in values}
        names = _names(group, ids - {""})
        named[group] = {id: Named(id, names.get(id, id)) for id in ids}
    return named


def _names(group: Group, ids: Collection[str]) -> Names:
    names = _READERS[group](ids) if ids and group in _READERS else {}
    if group in HOLDERS and (gone := set(ids) - names.keys()):
        names |= _accounts(gone)
    return names


def _organizations(ids: Collection[str]) -> Names:
    return dict(Organization.objects.filter(public_id__in=ids).values_list("public_id", "name"))


def _teams(ids: Collection[str]) -> Names:
    return dict(Team.objects.filter(public_id__in=ids).values_list("public_id", "name"))


def _users(ids: Collection[str]) -> Names:
    return {user.public_id: str(user) for user in User.objects.filter(public_id__in=ids)}


def _keys(ids: Collection[str]) -> Names:
    keys = ApiKey.objects.filter(digest__in=ids)
    return {key.digest: key.name or f"{key.prefix}…" for key in keys}


def _deployments(ids: Collection[str]) -> Names:
    accounts = {
        derived_account_id(organization_id=PLATFORM, kind=AccountKind.DEPLOYMENT, text=id): id
        for id in ids
    }
    labels = Account.objects.filter(id__in=accounts).values_list("id", "label")
    return {accounts[account]: label for account, label in labels}


def _accounts(ids: Iterable[str]) -> Names:
    """Of what was deleted the account stays, and its label."""
    accounts = {uuid: id for id in ids if (uuid := _uuid(id)) is not None}
    labels = Account.objects.filter(id__in=accounts).values_list("id", "label")
    return {accounts[account]: label for account, label in labels}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


_READERS: Final[Mapping[Group, Callable[[Collection[str]], Names]]] = {
    Group.ORGANIZATION: _organizations,
    Group.TEAM: _teams,
    Group.USER: _users,
    Group.KEY: _keys,
    Group.DEPLOYMENT: _deployments,
}
