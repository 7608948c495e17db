"""What people say of end users and tags, which the recorder makes when they first spend."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from budgets.changes import change
from budgets.models import EndUser, Tag
from budgets.services.accounts import Terms, set_private_budget

Values = Mapping[str, Any]
"""Fields of the model to set, checked by whoever calls."""


def update_end_user(
    *, end_user: EndUser, values: Values, terms: Terms | None, now: datetime
) -> EndUser:
    """
    Change fields of an end user; its own limits stay where ``terms`` is None.

    :raises InvalidInput: naming the field that does not fit
    """
    _update(end_user, values, terms, now)
    return end_user


def update_tag(*, tag: Tag, values: Values, terms: Terms | None, now: datetime) -> Tag:
    """
    Change fields of a tag; its own limits stay where ``terms`` is None.

    :raises InvalidInput: naming the field that does not fit
    """
    _update(tag, values, terms, now)
    return tag


def block_end_user(*, end_user: EndUser, blocked: bool) -> None:
    """Refuse an end user's requests, or admit them again, from the next one on."""
    with change(scope=end_user.organization_id):
        EndUser.objects.filter(pk=end_user.pk).update(blocked=blocked)


def _update(row: EndUser | Tag, values: Values, terms: Terms | None, now: datetime) -> None:
    with change(scope=row.organization_id):
        for name, value in values.items():
            setattr(row, name, value)
        row.save(update_fields=list(values))
        if terms is not None:
            set_private_budget(account=row.account, terms=terms, now=now)
