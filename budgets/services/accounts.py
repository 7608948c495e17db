"""Accounts, and the budgets in force on them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from budgets import money, periods, totals
from budgets.errors import InvalidInput
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import (
    Account,
    AccountBudget,
    AccountKind,
    Budget,
    Enforcement,
    Organization,
)

BUDGETED_KINDS: Final = (
    AccountKind.ORGANIZATION,
    AccountKind.TEAM,
    AccountKind.MEMBER,
    AccountKind.USER,
    AccountKind.KEY,
)
"""The kinds of accounts whose budgets the gateway enforces."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a budget says; None and ``""`` mean: no such limit, the account's whole life."""

    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    duration: str = ""
    time_zone: str = "UTC"
    enforcement: str = Enforcement.STRICT

    def checked(self) -> "Terms":
        """
        Return the terms in canonical form.

        :raises InvalidInput: naming the field that does not fit
        """
        for name, value in (("max_budget", self.max_budget), ("soft_budget", self.soft_budget)):
            _check_limit(name, value)
        if None not in {self.max_budget, self.soft_budget} and self.soft_budget > self.max_budget:  # type: ignore[operator]  # neither is None
            raise InvalidInput("soft_budget", "must not be above max_budget")
        if self.enforcement not in Enforcement.values:
            raise InvalidInput("enforcement", f"must be one of {', '.join(Enforcement.values)}")
        return Terms(
            max_budget=self.max_budget,
            soft_budget=self.soft_budget,
            duration=_duration(self.duration),
            time_zone=_time_zone(self.time_zone),
            enforcement=self.enforcement,
        )

    @property
    def says_nothing(self) -> bool:
        return self.max_budget is None and self.soft_budget is None and not self.duration


def new_account(*, organization: Organization | None, kind: AccountKind, label: str) -> Account:
    return Account.objects.create(
        organization=organization, kind=kind, label=label[:NAME_LENGTH_MAX]
    )


def rename_account(*, account: Account, label: str) -> None:
    Account.objects.filter(pk=account.pk).update(label=label[:NAME_LENGTH_MAX])


def attach(*, account: Account, budget: Budget, now: datetime) -> None:
    """
    Put a budget in force on an account; what was spent since its period began counts in it.

    Within the caller's transaction.

    :raises InvalidInput: if the budget is another organization's, or the kind has no budgets yet
    """
    if account.organization_id != budget.organization_id:
        raise InvalidInput("budget_id", "belongs to another organization")
    if account.kind not in BUDGETED_KINDS:
        raise InvalidInput("budget_id", f"cannot be put on an account of kind {account.kind}")
    totals.lock_partition()  # before the terms are read: nobody changes them meanwhile
    AccountBudget.objects.get_or_create(account=account, budget=budget)
    totals.begin(account_ids=[account.id], at=now)


def detach(*, account: Account, budget: Budget, now: datetime) -> None:
    """Take a budget off an account; its totals are kept."""
    AccountBudget.objects.filter(account=account, budget=budget).delete()
    totals.begin(account_ids=[account.id], at=now)


def set_private_budget(*, account: Account, terms: Terms, now: datetime) -> Budget | None:
    """
    Give an account limits of its own, replacing those it had; terms that say nothing end them.

    Within the caller's transaction.

    :raises InvalidInput: naming the field that does not fit
    """
    terms = terms.checked()
    existing = Budget.objects.filter(private_to=account).first()
    if terms.says_nothing:
        if existing is not None:
            detach(account=account, budget=existing, now=now)
            existing.delete()
        return None
    budget = existing or Budget(
        organization_id=_organization_id(account), private_to=account, name=""
    )
    write_terms(budget, terms)
    attach(account=account, budget=budget, now=now)
    return budget


def write_terms(budget: Budget, terms: Terms) -> None:
    """Save checked terms on a budget, whoever uses it."""
    budget.max_budget = terms.max_budget
    budget.soft_budget = terms.soft_budget
    budget.duration = terms.duration
    budget.time_zone = terms.time_zone
    budget.enforcement = terms.enforcement
    budget.save()


def link_budgets(*, account: Account, budgets: Iterable[Budget], now: datetime) -> None:
    """Make these the shared budgets of an account; its private one is not touched."""
    wanted = list(budgets)
    kept = Budget.objects.filter(accounts=account, private_to=None)
    for gone in kept.exclude(pk__in=[budget.pk for budget in wanted]):
        detach(account=account, budget=gone, now=now)
    for budget in wanted:
        attach(account=account, budget=budget, now=now)


def terms_of(budget: Budget) -> Terms:
    return Terms(
        max_budget=budget.max_budget,
        soft_budget=budget.soft_budget,
        duration=budget.duration,
        time_zone=budget.time_zone,
        enforcement=budget.enforcement,
    )


def _organization_id(account: Account) -> int:
    assert account.organization_id is not None, "accounts with budgets belong to organizations"
    return account.organization_id


def _check_limit(name: str, value: Decimal | None) -> None:
    if value is None:
        return
    if not value.is_finite() or not 0 <= value <= money.LIMIT_MAX:
        raise InvalidInput(name, f"must be from 0 to {money.LIMIT_MAX}")
    if not money.fits_in_decimals(value, money.LIMIT_DECIMALS):
        raise InvalidInput(name, f"must not have more than {money.LIMIT_DECIMALS} decimals")


def _duration(text: str) -> str:
    try:
        return periods.canonical_duration(text) if text else ""
    except periods.UnknownDuration as error:
        raise InvalidInput("budget_duration", str(error)) from error


def _time_zone(name: str) -> str:
    try:
        periods.zone_of(name)
    except periods.UnknownZone as error:
        raise InvalidInput("budget_time_zone", str(error)) from error
    return name
