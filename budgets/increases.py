"""
What temporary increases add to a limit: a pure function of the instant.

An increase counts in [starts_at, ends_at) and ends by the clock; nothing needs to run for that.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from budgets import money


@dataclass(frozen=True, slots=True)
class Added:
    """What an approved increase adds, and when."""

    amount: Decimal
    starts_at: datetime
    ends_at: datetime

    def counts_at(self, at: datetime) -> bool:
        return self.starts_at <= at < self.ends_at


def limit_at(base: Decimal | None, increases: Iterable[Added], *, at: datetime) -> Decimal | None:
    """
    Return a limit with the increases that count at ``at``; None, no limit, stays so.

    It never goes beyond the most that any limit can be.
    """
    if base is None:
        return None
    return min(base + sum_at(increases, at=at), money.LIMIT_MAX)


def sum_at(increases: Iterable[Added], *, at: datetime) -> Decimal:
    """Return what all of them add at ``at``."""
    return sum((each.amount for each in increases if each.counts_at(at)), Decimal(0))


def ends_first(increases: Iterable[Added], *, at: datetime) -> datetime | None:
    """Return when the first of those that count at ``at`` ends, or None if none counts."""
    return min((each.ends_at for each in increases if each.counts_at(at)), default=None)


def highest_sum(increases: Sequence[Added]) -> Decimal:
    """Return the most that they ever add at once."""
    return max((sum_at(increases, at=each.starts_at) for each in increases), default=Decimal(0))


def changes(increases: Iterable[Added]) -> Iterator[datetime]:
    """Yield the instants at which the limit changes, in no order."""
    for each in increases:
        yield each.starts_at
        yield each.ends_at
