"""Accounts on which nobody may spend, since nobody can say what was spent on them."""

from collections.abc import Collection
from uuid import UUID

from budgets.changes import change
from budgets.errors import InvalidInput
from budgets.models import PLATFORM, Account

REASON_LENGTH_MAX = 500


def close_accounts(*, ids: Collection[UUID], because: str) -> int:
    """
    Refuse every request on these accounts from the next one on; return how many were open.

    Within the caller's transaction.
    """
    opened = Account.objects.filter(id__in=ids, closed_because="")
    return opened.update(closed_because=because[:REASON_LENGTH_MAX])


def reopen_account(*, account: Account, reason: str) -> None:
    """
    Admit requests on an account again.

    :raises InvalidInput: if it is open, or no reason is given
    """
    if not account.closed_because:
        raise InvalidInput("account", "is open")
    if not reason.strip():
        raise InvalidInput("reason", "is needed: what was found, and what was done about it")
    with change(scope=account.organization_id or PLATFORM, reason=reason.strip()[:1_000]):
        account.closed_because = ""
        account.save(update_fields=["closed_because"])
