"""
End users and tags: what callers put on requests.

The recorder makes a row when one first spends; people make, limit or block one before that, under
the same derived account. Deleting ends what people said of it: what was spent stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from budgets import totals
from budgets.changes import change
from budgets.errors import AlreadyMade, NotFound
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import (
    Account,
    AccountBudget,
    AccountKind,
    EndUser,
    Organization,
    PeriodTotal,
    Tag,
    derived_account_id,
)
from budgets.periods import FOREVER
from budgets.services.limits import NO_LIMITS, Limits, set_limits

Values = Mapping[str, Any]

_SAID_OF: Final[Mapping[type, Values]] = {
    EndUser: {"alias": "", "blocked": False, "allowed_models": []},
    Tag: {"description": ""},
}
"""What a row says that nobody but the recorder has touched."""


def create_end_user(
    *, organization: Organization, external_id: str, values: Values, limits: Limits, now: datetime
) -> EndUser:
    """
    Make an end user before it spends, or take over one of which only its spending was known.

    :raises AlreadyMade: if somebody made or limited it before
    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=organization.pk):
        totals.lock_partition()  # the recorder makes such rows too
        existing = _end_user(organization, external_id)
        if existing is not None and not _is_only_spending(existing):
            raise AlreadyMade("user_id", "is taken")
        end_user = existing or _new_end_user(organization, external_id)
        _write(end_user, values, limits, now)
    return end_user


def update_end_user(*, end_user: EndUser, values: Values, limits: Limits, now: datetime) -> EndUser:
    """
    Change fields and limits of an end user.

    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=end_user.organization_id):
        _write(end_user, values, limits, now)
    return end_user


def block_end_users(
    *, organization: Organization, external_ids: Sequence[str], now: datetime
) -> list[EndUser]:
    """Refuse every request of these end users from the next one on; who is unknown is made."""
    with change(scope=organization.pk):
        totals.lock_partition()
        found = [
            _end_user(organization, each) or _new_end_user(organization, each)
            for each in external_ids
        ]
        for end_user in found:
            _write(end_user, {"blocked": True}, Limits(), now)
    return found


def unblock_end_users(*, organization: Organization, external_ids: Sequence[str]) -> None:
    """
    Admit requests of these end users again, all or none.

    :raises NotFound: naming the first that there is not
    """
    with change(scope=organization.pk):
        totals.lock_partition()  # in the order in which blocking takes its locks
        rows = EndUser.objects.filter(organization=organization, external_id__in=external_ids)
        known = set(rows.values_list("external_id", flat=True))
        for n, each in enumerate(external_ids):
            if each not in known:
                raise NotFound(f"user_ids[{n}]", each)
        rows.update(blocked=False)


def create_tag(
    *, organization: Organization, name: str, values: Values, limits: Limits, now: datetime
) -> Tag:
    """
    Make a tag before it spends, or take over one of which only its spending was known.

    :raises AlreadyMade: if somebody made or limited it before
    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=organization.pk):
        totals.lock_partition()  # the recorder makes such rows too
        existing = Tag.objects.filter(organization=organization, name=name).first()
        if existing is not None and not _is_only_spending(existing):
            raise AlreadyMade("name", "is taken")
        tag = existing or _new_tag(organization, name)
        _write(tag, values, limits, now)
    return tag


def update_tag(*, tag: Tag, values: Values, limits: Limits, now: datetime) -> Tag:
    """
    Change fields and limits of a tag.

    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=tag.organization_id):
        _write(tag, values, limits, now)
    return tag


def delete_labels(*, labels: Iterable[EndUser | Tag], now: datetime) -> None:
    """Delete end users or tags with their limits, all or none; what they spent stays."""
    with transaction.atomic():
        for label in labels:
            with change(scope=label.organization_id):
                set_limits(account=label.account, limits=NO_LIMITS, now=now)
                label.delete()


def _end_user(organization: Organization, external_id: str) -> EndUser | None:
    rows = EndUser.objects.select_related("account", "organization")
    return rows.filter(organization=organization, external_id=external_id).first()


def _new_end_user(organization: Organization, external_id: str) -> EndUser:
    account = _account(organization, AccountKind.END_USER, external_id)
    return EndUser(organization=organization, external_id=external_id, account=account)


def _new_tag(organization: Organization, name: str) -> Tag:
    account = _account(organization, AccountKind.TAG, name)
    return Tag(organization=organization, name=name, account=account)


def _account(organization: Organization, kind: str, text: str) -> Account:
    """Return the account that requests with this text debit, made if it has never spent."""
    id = derived_account_id(organization_id=organization.pk, kind=kind, text=text)
    defaults = {"organization": organization, "kind": kind, "label": text[:NAME_LENGTH_MAX]}
    return Account.objects.get_or_create(id=id, defaults=defaults)[0]


def _is_only_spending(label: EndUser | Tag) -> bool:
    """Return whether a row is as the recorder makes it, and nobody has said anything of it."""
    said = any(getattr(label, name) != usual for name, usual in _SAID_OF[type(label)].items())
    limited = AccountBudget.objects.filter(account=label.account)
    on_models = AccountBudget.objects.filter(account__holder=label.account)
    spent = PeriodTotal.objects.filter(
        account=label.account, period_start=FOREVER.start, period_end=FOREVER.end, events__gt=0
    )
    return not said and not limited.exists() and not on_models.exists() and spent.exists()


def _write(label: EndUser | Tag, values: Values, limits: Limits, now: datetime) -> None:
    for name, value in values.items():
        setattr(label, name, value)
    label.save()
    set_limits(account=label.account, limits=limits, now=now)
