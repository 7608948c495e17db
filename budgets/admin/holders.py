"""From an account to what it is of: the thing that an operator knows and changes."""

from collections.abc import Callable
from typing import Any, Final

from django.db.models import Model

from budgets.models import (
    Account,
    AccountKind,
    ApiKey,
    EndUser,
    Membership,
    Organization,
    OrganizationMembership,
    Tag,
    Team,
)

Finder = Callable[[Account], Model | None]


def holder_of(account: Account) -> Model | None:
    """Return what holds an account, if it is still there."""
    find = _FINDERS.get(AccountKind(account.kind))
    return find(account) if find else None


def found_by(kind: AccountKind, find: Finder) -> None:
    """Be told by an app above how to find the holders of that kind."""
    _FINDERS[kind] = find


def _by_account(model: Any, through: str | None = None) -> Finder:
    def find(account: Account) -> Any:
        row = model.objects.filter(account=account).first()
        return getattr(row, through) if row and through else row

    return find


_FINDERS: Final[dict[AccountKind, Finder]] = {
    AccountKind.ORGANIZATION: _by_account(Organization),
    AccountKind.TEAM: _by_account(Team),
    AccountKind.KEY: _by_account(ApiKey),
    AccountKind.MEMBER: _by_account(Membership, "team"),
    AccountKind.USER: _by_account(OrganizationMembership, "user"),
    AccountKind.END_USER: _by_account(EndUser),
    AccountKind.TAG: _by_account(Tag),
    AccountKind.HOLDER_MODEL: lambda account: account.holder,
}
