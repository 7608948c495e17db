"""
Why a request may not spend.

BudgetError
├── BudgetExceeded      the period's limit is spent; only a reset or a raise helps
├── BudgetBusy          requests in flight have reserved the rest; it may free up in seconds
└── StoreUnavailable    we could not ask, and refuse rather than guess
    ├── StoreClosed       the live store is not the one that we know: it is lost until recovered
    ├── StoreFull         too many events wait to be recorded
    └── OutcomeUnknown    no answer came: neither yes nor no, and never 0

Not for callers, but for the gateway to act on:
StaleContext        the configuration or the period has changed: read it anew
CountersMissing     counters of the path are not in the live store: load them
ReservationEnded    it was released, settled or swept, and stays so
"""

from collections.abc import Sequence
from typing import ClassVar

from budgets.money import Units


class BudgetError(Exception):
    """``code`` is part of the public API; a caller may retry only if ``retryable``."""

    code: ClassVar[str]
    retryable: ClassVar[bool]


class LimitReached(BudgetError):
    """A limit on the path refused; ``limit_index`` tells which of the context's limits."""

    def __init__(self, *, limit_index: int, spent: Units, reserved: Units, needed: Units) -> None:
        super().__init__(
            f"limit {limit_index} holds {spent} + {reserved}; {needed} more do not fit"
        )
        self.limit_index = limit_index
        self.spent = spent
        self.reserved = reserved
        self.needed = needed


class BudgetExceeded(LimitReached):
    code = "budget_exceeded"
    retryable = False


class BudgetBusy(LimitReached):
    code = "budget_busy"
    retryable = True


class StoreUnavailable(BudgetError):
    code = "store_unavailable"
    retryable = True


class StoreClosed(StoreUnavailable):
    code = "store_closed"


class StoreFull(StoreUnavailable):
    code = "recorder_behind"


class OutcomeUnknown(StoreUnavailable):
    pass


class StaleContext(Exception):
    pass


class CountersMissing(Exception):
    def __init__(self, limit_indexes: Sequence[int]) -> None:
        super().__init__(f"{len(limit_indexes)} counters are not loaded")
        self.limit_indexes = tuple(limit_indexes)


class ReservationEnded(Exception):
    pass


class InvalidInput(ValueError):
    """What somebody gave does not fit; ``field`` names it. Nothing was changed."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem


class NotFound(LookupError):
    """No such object, or none that the caller may see."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(f"no {field.removesuffix('_id')} {str(value)[:128]!r}")
        self.field = field


class Conflict(InvalidInput):
    """The id or name is taken."""
