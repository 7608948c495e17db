"""
Temporary increases: asked for, decided by somebody else, and ended by the clock.

Whoever writes one holds its account's row, so that of two who decide at once the first wins and
the other is told who did.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db import transaction

from budgets import ancestors, in_force, increases, money
from budgets.changes import change
from budgets.errors import AlreadyDecided, InvalidInput, NotAllowed, NotFound
from budgets.increases import Added
from budgets.models import (
    PLATFORM,
    Account,
    Budget,
    Increase,
    IncreaseState,
    Membership,
    TeamRole,
    User,
    UserRole,
)
from budgets.periods import FOREVER

LENGTH_MAX: Final = timedelta(days=366)
AHEAD_MAX: Final = timedelta(days=366)
TEXT_LENGTH_MAX: Final = 1_000
PENDING_MAX: Final = 100
"""So many may wait on one account."""
RUNNING_MAX: Final = 100
"""So many may count, or be going to, on one account: every request's context holds them."""
MASTER_KEY: Final = "master key"


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks or decides; without a user it is the master key, which may do everything."""

    user: User | None = None

    @property
    def name(self) -> str:
        return self.user.get_username() if self.user else MASTER_KEY

    @property
    def is_administrator(self) -> bool:
        user = self.user
        if user is None:
            return True
        return user.is_active and (user.is_superuser or user.role == UserRole.PROXY_ADMIN)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; without a start from now on, without an end to that of the period."""

    amount: Decimal
    why: str
    starts_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Amended:
    """What an approver changes of what was asked for; None: nothing."""

    amount: Decimal | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None


UNCHANGED: Final = Amended()


def ask(
    *, account: Account, budget: Budget | None, wanted: Wanted, by: Person, now: datetime
) -> Increase:
    """
    Ask for an increase; it counts when somebody else has approved it.

    Without a ``budget`` it is about the only one of the account that has a limit.

    :raises InvalidInput: naming the field that does not fit
    :raises NotAllowed: if whoever asks has nothing to do with the account
    """
    _check_may_ask(by, account)
    with _changing(account, reason=wanted.why):
        waiting = Increase.objects.filter(account=account, state=IncreaseState.PENDING)
        if waiting.count() >= PENDING_MAX:
            raise InvalidInput("account_id", f"has {PENDING_MAX} that wait to be decided")
        increase = _made(account, budget, wanted, by, now)
        increase.save(force_insert=True)
    return increase


def grant(
    *, account: Account, budget: Budget | None, wanted: Wanted, by: Person, now: datetime
) -> Increase:
    """
    Give an account an increase at once, instead of the one given to it before in this way.

    :raises InvalidInput: naming the field that does not fit, or if it needs a second approver
    :raises NotAllowed: if it is no administrator who gives it
    """
    if not by.is_administrator:
        raise NotAllowed("account_id", "may be given an increase by an administrator only")
    with _changing(account, reason=wanted.why):
        _withdraw_grants(account, by, now)
        increase = _made(account, budget, wanted, by, now)
        increase.is_grant = True
        if _needs_second(increase):
            problem = "is above what one person may approve: ask for it at /api/v1/increases"
            raise InvalidInput("amount", problem)
        _decide(increase, IncreaseState.APPROVED, by, now)
        increase.save(force_insert=True)
    return increase


def withdraw_grants(*, account: Account, by: Person, now: datetime) -> None:
    """End what was given at once to an account and has not ended, from the next request on."""
    with _changing(account, reason="withdrawn"):
        _withdraw_grants(account, by, now)


def _withdraw_grants(account: Account, by: Person, now: datetime) -> None:
    for row in Increase.objects.filter(
        account=account, is_grant=True, state=IncreaseState.APPROVED, ends_at__gt=now
    ):
        _cancel(row, by, now)
        row.save(update_fields=["state", "cancelled_by", "cancelled_at"])


def approve(
    *,
    increase_id: UUID,
    by: Person,
    now: datetime,
    amended: Amended = UNCHANGED,
    note: str = "",
) -> Increase:
    """
    Approve an increase, or be the first of two who must; it counts from the next request on.

    :raises AlreadyDecided: naming who decided, or that a second approver is waited for
    :raises InvalidInput: naming the field that does not fit
    :raises NotAllowed: if it is not theirs to decide
    :raises NotFound: if there is none
    """
    with _deciding(increase_id, by, note) as increase:
        _check_pending(increase)
        if increase.decided_by == by.name:
            raise AlreadyDecided("id", f"was {_first_approval(increase)}; another must second it")
        if increase.decided_by:
            _check_not_amended(increase, amended)
            _check_fits(increase, now)
            increase.state = IncreaseState.APPROVED
            increase.seconded_by, increase.seconded_at = by.name, now
        else:
            _amend(increase, amended, now)
            _check_fits(increase, now)
            second = _needs_second(increase)
            state = IncreaseState.PENDING if second else IncreaseState.APPROVED
            _decide(increase, state, by, now)
        increase.note = note or increase.note
        increase.save()
    return increase


def deny(*, increase_id: UUID, by: Person, note: str, now: datetime) -> Increase:
    """
    Refuse what was asked for, also what one of two approvers has approved.

    :raises AlreadyDecided: naming who decided
    :raises InvalidInput: if no note says why
    :raises NotAllowed: if it is not theirs to decide
    :raises NotFound: if there is none
    """
    with _deciding(increase_id, by, _text("note", note)) as increase:
        _check_pending(increase)
        _decide(increase, IncreaseState.DENIED, by, now)
        increase.note = note.strip()
        increase.save()
    return increase


def cancel(*, increase_id: UUID, by: Person, now: datetime, note: str = "") -> Increase:
    """
    Take back what was asked for, or end what was approved from the next request on; whoever asked
    may, and whoever may decide.

    :raises AlreadyDecided: if it is denied, cancelled or has ended
    :raises NotAllowed: if it is not theirs
    :raises NotFound: if there is none
    """
    with _touching(increase_id, by, note) as increase:
        _check_open(increase, now)
        _cancel(increase, by, now)
        increase.note = note or increase.note
        increase.save()
    return increase


def shorten(
    *, increase_id: UUID, by: Person, ends_at: datetime, now: datetime, note: str = ""
) -> Increase:
    """
    Let an approved increase end earlier; whoever asked may, and whoever may decide.

    :raises AlreadyDecided: if it is not approved, or has ended
    :raises InvalidInput: if it would not be earlier, or in the past
    :raises NotAllowed: if it is not theirs
    :raises NotFound: if there is none
    """
    with _touching(increase_id, by, note) as increase:
        _check_open(increase, now)
        if increase.state != IncreaseState.APPROVED:
            raise InvalidInput("id", "is not approved yet; it can be amended when it is")
        if not max(now, increase.starts_at) < ends_at < increase.ends_at:
            end = increase.ends_at.isoformat()
            raise InvalidInput("ends_at", f"must be in the future, and before {end}")
        increase.ends_at = ends_at
        increase.note = note or increase.note
        increase.save(update_fields=["ends_at", "note"])
    return increase


def may_decide(person: Person, increase: Increase) -> bool:
    """Return whether somebody may decide about an increase, which is never who asked for it."""
    return increase.asked_by != person.name and _answers_for(person, increase.account)


def may_touch(person: Person, increase: Increase) -> bool:
    """Return whether somebody may cancel or shorten an increase."""
    return increase.asked_by == person.name or _answers_for(person, increase.account)


def decided(increase: Increase) -> str:
    """Return in words who decided about an increase, and when."""
    if increase.state == IncreaseState.CANCELLED:
        who, at = increase.cancelled_by, increase.cancelled_at
    elif increase.seconded_by:
        who = f"{increase.decided_by} and {increase.seconded_by}"
        at = increase.seconded_at
    else:
        who, at = increase.decided_by, increase.decided_at
    return f"{increase.state} by {who} at {at.isoformat()}" if at else increase.state


@contextmanager
def _changing(account: Account, *, reason: str) -> Iterator[None]:
    """Let whoever else writes an increase of the account wait."""
    with change(scope=account.organization_id or PLATFORM, reason=reason.strip()):
        _lock(account)
        yield


@contextmanager
def _deciding(increase_id: UUID, by: Person, note: str) -> Iterator[Increase]:
    with _held(increase_id, note) as increase:
        if increase.asked_by == by.name:
            raise NotAllowed("id", "was asked for by you: somebody else must decide")
        if not _answers_for(by, increase.account):
            raise NotAllowed("id", "is for administrators, or admins of its team, to decide")
        yield increase


@contextmanager
def _touching(increase_id: UUID, by: Person, note: str) -> Iterator[Increase]:
    with _held(increase_id, note) as increase:
        if not may_touch(by, increase):
            raise NotAllowed("id", "is for who asked, administrators, or admins of its team")
        yield increase


@contextmanager
def _held(increase_id: UUID, note: str) -> Iterator[Increase]:
    if len(note) > TEXT_LENGTH_MAX:
        raise InvalidInput("note", f"must not have more than {TEXT_LENGTH_MAX} characters")
    with transaction.atomic():
        found = Increase.objects.filter(pk=increase_id).select_related("account").first()
        if found is None:
            raise NotFound("increase_id", increase_id)
        with _changing(found.account, reason=note or found.why):
            # Read again: somebody else may have decided while this waited.
            yield Increase.objects.select_related("account__organization", "budget").get(
                pk=increase_id
            )


def _lock(account: Account) -> None:
    # Of no key: the recorder, which holds the partition, refers to rows that wait for it.
    rows = Account.objects.select_for_update(no_key=True).filter(pk=account.pk)
    assert rows.first() is not None, "accounts are never deleted"


def _answers_for(person: Person, account: Account) -> bool:
    if person.is_administrator:
        return True
    if person.user is None or not person.user.is_active:
        return False
    teams = ancestors.teams_above(account)
    admins = Membership.objects.filter(team__in=teams, role=TeamRole.ADMIN, user=person.user)
    return admins.exists()


def _check_may_ask(person: Person, account: Account) -> None:
    if person.is_administrator:
        return
    user = person.user
    belongs = user is not None and user.is_active and account.organization_id is not None
    if not belongs or not user.organizations.filter(organization=account.organization_id).exists():  # type: ignore[union-attr]  # it belongs
        raise NotAllowed("account_id", "is of an organization that you are not in")


def _made(
    account: Account, budget: Budget | None, wanted: Wanted, by: Person, now: datetime
) -> Increase:
    starts_at = wanted.starts_at or now
    budget = _raisable(account, budget)
    increase = Increase(
        account=account,
        budget=budget,
        amount=wanted.amount,
        starts_at=starts_at,
        ends_at=wanted.ends_at or _end_of_period(budget, starts_at),
        why=_text("why", wanted.why),
        asked_by=by.name,
        asked_at=now,
    )
    if starts_at < now:
        raise InvalidInput("starts_at", "must not be in the past")
    _check_fits(increase, now)
    return increase


def _raisable(account: Account, budget: Budget | None) -> Budget:
    held = in_force.budgets_on([account.id]).get(account.id, [])
    limited = [each for each in held if each.max_budget is not None]
    if budget is not None:
        if budget not in held:
            raise InvalidInput("budget_id", "is not in force on this account")
        if budget not in limited:
            raise InvalidInput("budget_id", "has no max_budget that could be increased")
        return budget
    if not limited:
        raise InvalidInput("account_id", "has no budget whose limit could be increased")
    if len(limited) > 1:
        names = ", ".join(sorted(each.public_id for each in limited))
        raise InvalidInput("budget_id", f"is needed: one of {names}")
    return limited[0]


def _end_of_period(budget: Budget, at: datetime) -> datetime:
    period = budget.period_at(at)
    if period == FOREVER:
        raise InvalidInput("ends_at", "is needed: the budget has no period that ends")
    return period.end


def _amend(increase: Increase, amended: Amended, now: datetime) -> None:
    if amended.starts_at is not None and amended.starts_at != increase.starts_at:
        if amended.starts_at < now:
            raise InvalidInput("starts_at", "must not be in the past")
        increase.starts_at = amended.starts_at
    increase.amount = increase.amount if amended.amount is None else amended.amount
    increase.ends_at = amended.ends_at or increase.ends_at


def _check_not_amended(increase: Increase, amended: Amended) -> None:
    for name in ("amount", "starts_at", "ends_at"):
        wanted = getattr(amended, name)
        if wanted is not None and wanted != getattr(increase, name):
            approved = _first_approval(increase)
            raise InvalidInput(name, f"must be as it was {approved}; deny it to ask for another")


def _check_fits(increase: Increase, now: datetime) -> None:
    """
    :raises InvalidInput: if amount or times are out of bounds, alone or with what counts already
    """
    _check_amount(increase.amount)
    _check_times(increase, now)
    if increase.budget.max_budget is None:
        raise InvalidInput("budget_id", "has no max_budget that could be increased")
    beside = _beside(increase)
    if len(beside) >= RUNNING_MAX:
        raise InvalidInput("account_id", f"has {RUNNING_MAX} increases in this time already")
    limit = increase.budget.max_budget + increases.highest_sum([*beside, increase.added])
    if limit > money.LIMIT_MAX:
        raise InvalidInput("amount", f"would take the limit above {money.LIMIT_MAX}")


def _check_amount(amount: Decimal) -> None:
    if not amount.is_finite() or not 0 < amount <= money.LIMIT_MAX:
        raise InvalidInput("amount", f"must be above 0, and {money.LIMIT_MAX} at most")
    if not money.fits_in_decimals(amount, money.LIMIT_DECIMALS):
        raise InvalidInput("amount", f"must not have more than {money.LIMIT_DECIMALS} decimals")


def _check_times(increase: Increase, now: datetime) -> None:
    if increase.starts_at > now + AHEAD_MAX:
        raise InvalidInput("starts_at", "must be within a year")
    if increase.ends_at <= max(now, increase.starts_at):
        raise InvalidInput("ends_at", "must be in the future, and after the start")
    if increase.ends_at - increase.starts_at > LENGTH_MAX:
        raise InvalidInput("ends_at", "must be within a year of the start")


def _beside(increase: Increase) -> list[Added]:
    """Return what was approved on the same account and budget for some of the same time."""
    rows = Increase.objects.filter(
        account=increase.account,
        budget=increase.budget,
        state=IncreaseState.APPROVED,
        starts_at__lt=increase.ends_at,
        ends_at__gt=increase.starts_at,
    )
    return [row.added for row in rows.exclude(pk=increase.pk).order_by("starts_at", "pk")]


def _needs_second(increase: Increase) -> bool:
    """Return whether it takes two: what counts at the same time adds up, or parts would pass."""
    organization = increase.account.organization
    above = organization.second_approver_above if organization else None
    if above is None:
        return False
    highest = increases.highest_sum([*_beside(increase), increase.added])
    return bool(highest > above)


def _decide(increase: Increase, state: IncreaseState, by: Person, now: datetime) -> None:
    increase.state = state
    increase.decided_by, increase.decided_at = by.name, now


def _cancel(increase: Increase, by: Person, now: datetime) -> None:
    increase.state = IncreaseState.CANCELLED
    increase.cancelled_by, increase.cancelled_at = by.name, now


def _check_pending(increase: Increase) -> None:
    if increase.state != IncreaseState.PENDING:
        raise AlreadyDecided("id", f"was {decided(increase)}")


def _check_open(increase: Increase, now: datetime) -> None:
    if increase.state in {IncreaseState.DENIED, IncreaseState.CANCELLED}:
        raise AlreadyDecided("id", f"was {decided(increase)}")
    if increase.state == IncreaseState.APPROVED and increase.ends_at <= now:
        raise AlreadyDecided("id", f"has ended at {increase.ends_at.isoformat()}")


def _first_approval(increase: Increase) -> str:
    at = increase.decided_at.isoformat() if increase.decided_at else ""
    return f"approved by {increase.decided_by} at {at}"


def _text(field: str, text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= TEXT_LENGTH_MAX or "\x00" in text:
        raise InvalidInput(field, f"is needed, with {TEXT_LENGTH_MAX} characters at most")
    return text
