"""
What a reserve needs to know of a key: its path of accounts, their limits, and how long that holds.

A context is read from Postgres once and used for many requests. The reserve script refuses it
when the configuration has a newer version or the store's clock has left its validity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from budgets import money, periods
from budgets.money import Units
from budgets.periods import FOREVER, Period


@dataclass(frozen=True, slots=True)
class PathAccount:
    """An account on the path of a request, nearest to the caller first."""

    id: UUID
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Terms:
    """A budget as it stands on an account of the path."""

    account: PathAccount
    budget_id: str
    max_budget: Decimal
    duration: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that an account may spend in one period, in units of its currency."""

    account: PathAccount
    budget_id: str
    period: Period
    limit: Units

    @property
    def resets_at(self) -> datetime | None:
        return None if self.period == FOREVER else self.period.end


@dataclass(frozen=True, slots=True)
class Context:
    """The path of a request with its limits, valid in [valid_from_ms, valid_until_ms) only."""

    organization_id: int
    currency: str
    organization_version: int
    global_version: int
    path: tuple[PathAccount, ...]
    limits: tuple[Limit, ...]
    valid_from_ms: int
    valid_until_ms: int

    def path_text(self) -> str:
        """Return the path as the scripts take it: 32 hex digits an account, comma-separated."""
        return ",".join(account.id.hex for account in self.path)


def limits_at(*, terms: Sequence[Terms], currency: str, at: datetime) -> tuple[Limit, ...]:
    """Return the limit that each budget sets in the period which holds ``at``."""
    return tuple(
        Limit(
            account=each.account,
            budget_id=each.budget_id,
            period=periods.period_at(
                duration=each.duration, zone=periods.zone_of(each.time_zone), at=at
            ),
            limit=money.limit_to_units(each.max_budget, currency=currency),
        )
        for each in terms
    )


def validity_ms(limits: Sequence[Limit], *, expires_at: datetime | None) -> tuple[int, int]:
    """Return from and until when these limits are the ones that apply, in ms since 1970."""
    ends = [limit.period.end for limit in limits]
    if expires_at is not None:
        ends.append(expires_at)
    start = max((limit.period.start for limit in limits), default=FOREVER.start)
    return periods.milliseconds(start), periods.milliseconds(min(ends, default=FOREVER.end))
