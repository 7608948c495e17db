"""What closing the books counts."""

from typing import Final

from prometheus_client import Counter

from budgets.metrics import REGISTRY

_CLOSED: Final = Counter(
    "costplatform_periods_closed", "Periods whose books were closed.", registry=REGISTRY
)
_FAILED: Final = Counter(
    "costplatform_closing_failures",
    "Ticks, and single budgets, whose periods could not be closed.",
    registry=REGISTRY,
)


def closed(*, periods: int) -> None:
    """Count the closings of a batch that is committed."""
    _CLOSED.inc(periods)


def failed() -> None:
    """Count what is tried again later."""
    _FAILED.inc()
