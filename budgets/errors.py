"""
Why a request may not spend.

BudgetError
├── LimitReached        a limit on the path says no
│   ├── BudgetExceeded    the period's limit is spent; only a reset or a raise helps
│   ├── BudgetBusy        requests in flight have reserved the rest; it may free up in seconds
│   ├── RateLimited       the last minute holds as many requests or tokens as it may
│   └── TooManyAtOnce     as many requests are in flight as may be
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


class BudgetError(Exception):
    """``code`` is part of the public API; a caller may retry only if ``retryable``."""

    code: ClassVar[str]
    retryable: ClassVar[bool]


class LimitReached(BudgetError):
    """
    A limit on the path refused; ``limit_index`` tells which of the context's limits.

    ``used``, ``reserved`` and ``needed`` are units of money, requests or tokens, as the limit is.
    """

    def __init__(
        self, *, limit_index: int, used: int, reserved: int, needed: int, wait_ms: int = 0
    ) -> None:
        super().__init__(f"limit {limit_index} holds {used} + {reserved}; {needed} more do not fit")
        self.limit_index = limit_index
        self.used = used
        self.reserved = reserved
        self.needed = needed
        self.wait_ms = wait_ms


class BudgetExceeded(LimitReached):
    code = "budget_exceeded"
    retryable = False


class BudgetBusy(LimitReached):
    code = "budget_busy"
    retryable = True


class RateLimited(LimitReached):
    code = "rate_limit_exceeded"
    retryable = True


class TooManyAtOnce(LimitReached):
    code = "too_many_parallel_requests"
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


class AlreadyDecided(Conflict):
    """Somebody has decided it before; the problem names who, and when."""


class NotAllowed(InvalidInput):
    """Whoever acts may not do that; ``field`` names to what."""


class AlreadyMade(Conflict):
    """An end user or tag of that text was made before."""


class NotRecorded(Exception):
    """What was charged last is not in the ledger yet; it may be soon. Nothing was changed."""
