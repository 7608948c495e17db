"""Budgets of models, providers and deployments: what all organizations together may spend there."""

from collections.abc import Mapping
from datetime import datetime

from budgets import totals
from budgets.changes import change
from budgets.models import PLATFORM, AccountKind
from budgets.services.accounts import Terms, platform_account, set_private_budget


def set_platform_budgets(
    *,
    kind: AccountKind,
    terms: Mapping[str, Terms],
    labels: Mapping[str, str] | None = None,
    now: datetime,
) -> None:
    """
    Limit models, providers or deployments, all or none; terms that say nothing end a budget.

    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=PLATFORM):
        totals.lock_partition()  # the recorder makes such accounts too
        for text, each in terms.items():
            account = platform_account(kind=kind, text=text, label=(labels or {}).get(text, ""))
            set_private_budget(account=account, terms=each, now=now)
