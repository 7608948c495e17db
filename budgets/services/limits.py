"""All that an account may be limited by, changed at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from budgets import totals
from budgets.changes import change
from budgets.models import PLATFORM, Account, AccountKind, Budget
from budgets.services.accounts import (
    Terms,
    link_budgets,
    set_model_budgets,
    set_private_budget,
    set_template,
    set_windows,
)
from budgets.services.templates import MEMBER, set_member_template


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account is to be limited by; what is None, or not named, stays as it is."""

    terms: Terms | None = None
    budgets: Sequence[Budget] | None = None
    windows: Sequence[Terms] | None = None
    models: Mapping[str, Terms] | None = None
    templates: Mapping[str, Sequence[Budget]] = field(default_factory=dict)
    """What keys, members or end users under the account are to have, by their kind."""
    members: Terms | None = None
    """What a team states for its members; it wins over their template."""

    @property
    def says_nothing(self) -> bool:
        """Whether nothing is limited by it, nor said of anything beside the main budget."""
        beside = (self.windows, self.models, self.members)
        is_plain = self.terms is None or self.terms.says_nothing
        return is_plain and not self.budgets and not self.templates and beside == (None,) * 3


NO_LIMITS = Limits(terms=Terms(), budgets=(), windows=(), models={})


def set_limits(*, account: Account, limits: Limits, now: datetime) -> None:
    """
    Limit an account; what it spent since the periods began counts in them.

    :raises InvalidInput: naming the field that does not fit
    """
    with change(scope=account.organization_id or PLATFORM):
        if not limits.says_nothing:
            # Before any row of a budget: whoever changes one takes the locks in this order.
            totals.lock_partition()
        if limits.terms is not None:
            set_private_budget(account=account, terms=limits.terms, now=now)
        if limits.budgets is not None:
            link_budgets(account=account, budgets=limits.budgets, now=now)
        if limits.windows is not None:
            set_windows(account=account, windows=limits.windows, now=now)
        if limits.models is not None:
            set_model_budgets(holder=account, terms=limits.models, now=now)
        _set_templates(account, limits, now)


def _set_templates(account: Account, limits: Limits, now: datetime) -> None:
    given = dict(limits.templates)
    if account.kind == AccountKind.TEAM and (MEMBER in given or limits.members is not None):
        linked = given.pop(MEMBER, None)
        set_member_template(team=account, terms=limits.members, linked=linked, now=now)
    for applies_to, budgets in given.items():
        set_template(holder=account, applies_to=applies_to, budgets=budgets, now=now)
