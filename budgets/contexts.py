"""
What a reserve needs to know of a key: its path of accounts, their limits, and how long that holds.

A context is read from Postgres once and used for many requests. The reserve script refuses it
when the configuration has a newer version or the store's clock has left its validity.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Final
from uuid import UUID

from budgets import increases, money, periods
from budgets.increases import Added
from budgets.models import PLATFORM_KINDS, Enforcement
from budgets.periods import CALENDAR, FOREVER, Layout, Period


@dataclass(frozen=True, slots=True)
class PathAccount:
    """An account on the path of a request, nearest to the caller first."""

    id: UUID
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Terms:
    """A budget as it stands on an account; None: no such limit."""

    account: PathAccount
    budget_id: str
    enforcement: str = Enforcement.ADAPTIVE
    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    duration: str = ""
    time_zone: str = "UTC"
    layout: Layout = CALENDAR
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    increases: tuple[Added, ...] = ()
    """What raises ``max_budget`` on this account for a while."""

    @property
    def may_refuse(self) -> bool:
        limits = (self.max_budget, self.rpm_limit, self.tpm_limit, self.max_parallel_requests)
        return self.enforcement != Enforcement.OBSERVE and any(n is not None for n in limits)

    def on(self, account: PathAccount) -> "Terms":
        """Return the same terms for another account, as a template gives them."""
        return replace(self, account=account)

    def increased_by(self, increases: Mapping[str, tuple[Added, ...]]) -> "Terms":
        """Return the same terms with the increases, by the budget's id, of the account."""
        return replace(self, increases=increases.get(self.budget_id, ()))


class LimitKind(StrEnum):
    """What a limit counts; ``SOFT`` is money too, and never refuses."""

    MONEY = "money"
    SOFT = "soft_money"
    REQUESTS = "requests"
    TOKENS = "tokens"
    PARALLEL = "parallel_requests"


_CODES: Final[Mapping[tuple[LimitKind, str], str]] = {
    (LimitKind.MONEY, Enforcement.STRICT): "s",
    (LimitKind.MONEY, Enforcement.ADAPTIVE): "a",
    (LimitKind.MONEY, Enforcement.OBSERVE): "o",
    **{(LimitKind.SOFT, mode): "o" for mode in Enforcement},
}
_RATE_CODES: Final[Mapping[LimitKind, str]] = {
    LimitKind.REQUESTS: "q", LimitKind.TOKENS: "t", LimitKind.PARALLEL: "p",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that an account may have: in one period, in a minute, or at once."""

    account: PathAccount
    budget_id: str
    kind: LimitKind
    enforcement: str
    limit: int
    period: Period | None = None
    """Of money only; ``limit`` is then in units of the account's currency."""

    @property
    def is_money(self) -> bool:
        return self.period is not None

    @property
    def resets_at(self) -> datetime | None:
        return None if self.period is None or self.period == FOREVER else self.period.end

    def words(self) -> tuple[str, str, str, str]:
        """Return the limit as the reserve script takes it."""
        period = f"{self.period.start_ms}:{self.period.end_ms}" if self.period else ""
        return (self.account.id.hex, self._code(), period, str(self.limit))

    def _code(self) -> str:
        if self.is_money:
            return _CODES[self.kind, self.enforcement]
        code = _RATE_CODES[self.kind]
        return code.upper() if self.enforcement == Enforcement.OBSERVE else code


@dataclass(frozen=True)
class Context:
    """
    The path of a request with its limits, valid in [valid_from_ms, valid_until_ms) only.

    One serves many requests: what the scripts take of it is put in words once.
    """

    organization_id: int
    currency: str
    organization_version: int
    global_version: int
    path: tuple[PathAccount, ...]
    limits: tuple[Limit, ...]
    valid_from_ms: int
    valid_until_ms: int
    model_path: tuple[UUID, ...] = ()
    """What each holder of the path spends on the model that was asked for."""

    def holds_at(self, at_ms: int) -> bool:
        return self.valid_from_ms <= at_ms < self.valid_until_ms

    @cached_property
    def limit_words(self) -> tuple[str, ...]:
        """The limits as the reserve script takes them, one after the other."""
        return tuple(word for limit in self.limits for word in limit.words())

    @cached_property
    def told(self) -> Mapping[LimitKind, tuple[tuple[int, Limit], ...]]:
        """The limits that callers are told of, by kind, with their places; not the platform's."""
        own = [
            (place, limit)
            for place, limit in enumerate(self.limits)
            if limit.account.kind not in PLATFORM_KINDS
        ]
        return {kind: tuple(each for each in own if each[1].kind == kind) for kind in LimitKind}

    @cached_property
    def path_text(self) -> str:
        """
        The path as the scripts take it: 32 hex digits an account, comma-separated; after
        a semicolon those of holder and model.
        """
        accounts = ",".join(account.id.hex for account in self.path)
        models = ",".join(id.hex for id in self.model_path)
        return f"{accounts};{models}" if models else accounts


def limits_at(*, terms: Iterable[Terms], currency: str, at: datetime) -> tuple[Limit, ...]:
    """Return every limit that the terms set, those of money for the periods which hold ``at``."""
    return tuple(limit for each in terms for limit in _limits_of(each, currency, at))


def _limits_of(terms: Terms, currency: str, at: datetime) -> Iterator[Limit]:
    zone = periods.zone_of(terms.time_zone)
    period = periods.period_at(duration=terms.duration, zone=zone, at=at, layout=terms.layout)
    about = (terms.account, terms.budget_id)
    raised = increases.limit_at(terms.max_budget, terms.increases, at=at)
    for kind, amount in (
        (LimitKind.MONEY, raised), (LimitKind.SOFT, terms.soft_budget),
    ):  # fmt: skip
        if amount is not None:
            units = money.limit_to_units(amount, currency=currency)
            yield Limit(*about, kind, terms.enforcement, units, period)
    for kind, number in (
        (LimitKind.REQUESTS, terms.rpm_limit), (LimitKind.TOKENS, terms.tpm_limit),
        (LimitKind.PARALLEL, terms.max_parallel_requests),
    ):  # fmt: skip
        if number is not None:
            yield Limit(*about, kind, terms.enforcement, number)


def validity_ms(
    limits: Sequence[Limit],
    *,
    expires_at: datetime | None,
    changes: Iterable[datetime] = (),
    at: datetime | None = None,
) -> tuple[int, int]:
    """
    Return from and until when these limits are the ones that apply, in ms since 1970.

    ``changes`` are the starts and ends of increases; the limits are those between the last one
    before ``at`` and the next, so that the reserve script itself ends an increase.
    """
    within = [limit.period for limit in limits if limit.period is not None]
    starts, ends = [each.start for each in within], [each.end for each in within]
    if expires_at is not None:
        ends.append(expires_at)
    for change in changes:
        assert at is not None, "a change is before or after some instant"
        (starts if change <= at else ends).append(change)
    start, end = max(starts, default=FOREVER.start), min(ends, default=FOREVER.end)
    return periods.milliseconds(start), periods.milliseconds(end)
