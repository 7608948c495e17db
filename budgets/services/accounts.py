"""Accounts, and the budgets in force on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Final

from budgets import durations, in_force, money, periods, totals
from budgets.durations import MONTHS_A_YEAR
from budgets.errors import InvalidInput
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import (
    PLATFORM,
    PLATFORM_KINDS,
    RATE_LIMIT_MAX,
    Account,
    AccountBudget,
    AccountKind,
    Budget,
    BudgetTemplate,
    Enforcement,
    Organization,
    derived_account_id,
    holder_model_account_id,
)

RATE_FIELDS: Final = ("rpm_limit", "tpm_limit", "max_parallel_requests")
_ANCHORS: Final = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
TEMPLATE_HOLDERS: Final = (AccountKind.ORGANIZATION, AccountKind.TEAM)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a budget says; None and ``""`` mean: no such limit, the account's whole life."""

    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    duration: str = ""
    time_zone: str = "UTC"
    anchor: datetime | None = None
    reset_time: time = time()
    week_start: int = 0
    year_start: int = 1
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    enforcement: str = Enforcement.ADAPTIVE
    rollover_max: Decimal | None = None

    def checked(self) -> "Terms":
        """
        Return the terms in canonical form.

        :raises InvalidInput: naming the field that does not fit
        """
        for name in ("max_budget", "soft_budget", "rollover_max"):
            _check_limit(name, getattr(self, name))
        if self.rollover_max is not None and not (self.max_budget is not None and self.duration):
            raise InvalidInput("rollover_max", "needs a max_budget and a budget_duration")
        if None not in {self.max_budget, self.soft_budget} and self.soft_budget > self.max_budget:  # type: ignore[operator]  # neither is None
            raise InvalidInput("soft_budget", "must not be above max_budget")
        if self.enforcement not in Enforcement.values:
            raise InvalidInput("enforcement", f"must be one of {', '.join(Enforcement.values)}")
        for name in RATE_FIELDS:
            _check_rate(name, getattr(self, name))
        self._check_layout()
        return replace(
            self, duration=_duration(self.duration), time_zone=_time_zone(self.time_zone)
        )

    def _check_layout(self) -> None:
        if not 0 <= self.week_start < len(periods.WEEKDAYS):
            raise InvalidInput("budget_week_start", "must be a day of the week")
        if not 1 <= self.year_start <= MONTHS_A_YEAR:
            raise InvalidInput("budget_year_start", f"must be from 1 to {MONTHS_A_YEAR}")
        if self.anchor is not None and not self.duration:
            raise InvalidInput("budget_reset_at", "needs a budget_duration that it is about")
        if self.anchor is not None and not _ANCHORS[0] <= self.anchor < _ANCHORS[1]:
            raise InvalidInput("budget_reset_at", "must be from 2000 to 2100")

    @property
    def says_nothing(self) -> bool:
        limits = (self.max_budget, self.soft_budget, *(getattr(self, n) for n in RATE_FIELDS))
        return not self.duration and all(limit is None for limit in limits)


TERMS_FIELDS: Final = tuple(field.name for field in fields(Terms))


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

    :raises InvalidInput: if the budget is another organization's
    """
    if account.organization_id != budget.organization_id:
        raise InvalidInput("budget_id", "belongs to another organization")
    totals.lock_partition()  # before the terms are read: nobody changes them meanwhile
    AccountBudget.objects.get_or_create(account=account, budget=budget)
    totals.begin(account_ids=[account.id], at=now)


def detach(*, account: Account, budget: Budget, now: datetime) -> None:
    """Take a budget off an account; its totals are kept."""
    totals.lock_partition()  # before its book goes: what closes books takes both in this order
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
        organization_id=account.organization_id, private_to=account, name=""
    )
    write_terms(budget, terms)
    attach(account=account, budget=budget, now=now)
    return budget


def set_windows(*, account: Account, windows: Sequence[Terms], now: datetime) -> list[Budget]:
    """
    Give an account these budgets beside its main one, such as a day's beside a month's, replacing
    the windows that it had; one whose duration stays keeps its id.

    Within the caller's transaction.

    :raises InvalidInput: if one sets no limit, or two have the same duration
    """
    checked = [terms.checked() for terms in windows]
    if any(terms.says_nothing for terms in checked):
        raise InvalidInput("budget_limits", "each must set a limit")
    kept = {budget.duration: budget for budget in Budget.objects.filter(window_of=account)}
    wanted = {terms.duration: terms for terms in checked}
    if len(wanted) < len(checked):
        raise InvalidInput("budget_limits", "must not have the same duration twice")
    for duration in kept.keys() - wanted.keys():
        detach(account=account, budget=kept[duration], now=now)
        kept[duration].delete()
    return [
        _written(
            kept.get(duration)
            or Budget(organization_id=account.organization_id, window_of=account),
            terms,
            account,
            now,
        )
        for duration, terms in wanted.items()
    ]


def set_model_budgets(*, holder: Account, terms: Mapping[str, Terms], now: datetime) -> None:
    """
    Limit what a holder may spend on single models, by the names that are asked for, replacing
    what was limited before.

    Within the caller's transaction.

    :raises InvalidInput: naming the field that does not fit
    """
    for gone in Account.objects.filter(holder=holder).exclude(model__in=terms):
        set_private_budget(account=gone, terms=Terms(), now=now)
    for model, each in terms.items():
        if not 0 < len(model) <= NAME_LENGTH_MAX or "\x00" in model:
            raise InvalidInput("model_max_budget", "must be by the names of models")
        account, _ = Account.objects.get_or_create(
            id=holder_model_account_id(holder=holder.id, model=model),
            defaults={
                "organization_id": holder.organization_id,
                "kind": AccountKind.HOLDER_MODEL,
                "label": f"{model} for {holder.label}"[:NAME_LENGTH_MAX],
                "holder": holder,
                "model": model,
            },
        )
        set_private_budget(account=account, terms=each, now=now)


def set_template(
    *, holder: Account, applies_to: str, budgets: Sequence[Budget], now: datetime
) -> None:
    """
    Give every key, member or end user under a team or organization these budgets, each for
    itself, as long as it has none of its own; an empty list takes the template away.

    Within the caller's transaction.

    :raises InvalidInput: if holder and kind do not go together, or a budget is another's
    """
    if applies_to not in BudgetTemplate.AppliesTo.values:
        raise InvalidInput("applies_to", f"must be one of {', '.join(BudgetTemplate.AppliesTo)}")
    if holder.kind not in TEMPLATE_HOLDERS:
        raise InvalidInput("holder", "must be a team or an organization")
    if any(budget.organization_id != holder.organization_id for budget in budgets):
        raise InvalidInput("budget_id", "belongs to another organization")
    totals.lock_partition()
    kept = BudgetTemplate.objects.filter(holder=holder, applies_to=applies_to)
    kept.exclude(budget__in=budgets).delete()
    for budget in budgets:
        BudgetTemplate.objects.get_or_create(holder=holder, applies_to=applies_to, budget=budget)
    concerned = in_force.accounts_under(holder=holder, applies_to=applies_to)
    totals.begin(account_ids=list(concerned), at=now)


def platform_account(*, kind: AccountKind, text: str, label: str = "") -> Account:
    """Return the account of a model, provider or deployment, made if it has never spent."""
    assert kind in PLATFORM_KINDS, "others belong to organizations"
    id = derived_account_id(organization_id=PLATFORM, kind=kind, text=text)
    account, _ = Account.objects.get_or_create(
        id=id, defaults={"kind": kind, "label": (label or text)[:NAME_LENGTH_MAX]}
    )
    return account


def write_terms(budget: Budget, terms: Terms) -> None:
    """Save checked terms on a budget, whoever uses it."""
    for name in TERMS_FIELDS:
        setattr(budget, name, getattr(terms, name))
    budget.save()


def _written(budget: Budget, terms: Terms, account: Account, now: datetime) -> Budget:
    write_terms(budget, terms)
    attach(account=account, budget=budget, now=now)
    return budget


def link_budgets(*, account: Account, budgets: Iterable[Budget], now: datetime) -> None:
    """Make these the shared budgets of an account; its private one is not touched."""
    wanted = list(budgets)
    kept = Budget.objects.filter(accounts=account, private_to=None, window_of=None)
    for gone in kept.exclude(pk__in=[budget.pk for budget in wanted]):
        detach(account=account, budget=gone, now=now)
    for budget in wanted:
        attach(account=account, budget=budget, now=now)


def terms_of(budget: Budget) -> Terms:
    return Terms(**{name: getattr(budget, name) for name in TERMS_FIELDS})


def _check_rate(name: str, value: int | None) -> None:
    if value is not None and not 0 <= value <= RATE_LIMIT_MAX:
        raise InvalidInput(name, f"must be from 0 to {RATE_LIMIT_MAX}")


def _check_limit(name: str, value: Decimal | None) -> None:
    if value is None:
        return
    if not value.is_finite() or not 0 <= value <= money.LIMIT_MAX:
        raise InvalidInput(name, f"must be from 0 to {money.LIMIT_MAX}")
    if not money.fits_in_decimals(value, money.LIMIT_DECIMALS):
        raise InvalidInput(name, f"must not have more than {money.LIMIT_DECIMALS} decimals")


def _duration(text: str) -> str:
    try:
        return durations.canonical(text) if text else ""
    except durations.UnknownDuration as error:
        raise InvalidInput("budget_duration", str(error)) from error


def _time_zone(name: str) -> str:
    try:
        periods.zone_of(name)
    except periods.UnknownZone as error:
        raise InvalidInput("budget_time_zone", str(error)) from error
    return name
