"""Reads what the live store answers."""

from collections.abc import Mapping, Sequence
from typing import Final

from budgets.errors import (
    BudgetBusy,
    BudgetExceeded,
    CountersMissing,
    LimitReached,
    OutcomeUnknown,
    RateLimited,
    ReservationEnded,
    StaleContext,
    StoreClosed,
    StoreFull,
    TooManyAtOnce,
)
from budgets.money import Units
from budgets.reservations import Admission, Look, Standing

_LIMITS: Final[Mapping[bytes, type[LimitReached]]] = {
    b"exceeded": BudgetExceeded,
    b"busy": BudgetBusy,
    b"limited": RateLimited,
    b"parallel": TooManyAtOnce,
}
_REFUSALS: Final[Mapping[bytes, type[Exception]]] = {
    b"stale": StaleContext,
    b"ended": ReservationEnded,
    b"late": OutcomeUnknown,
    b"full": StoreFull,
    b"closed": StoreClosed,
}


def order_of(position: str) -> tuple[int, int]:
    """Read an id of the stream, ``milliseconds-sequence``; later ones are greater."""
    milliseconds, sequence = position.split("-")
    return int(milliseconds), int(sequence)


def admission_of(detail: Sequence[bytes]) -> Admission:
    """Read what the reserve script says of a request that it admitted."""
    admitted, expected, held, observed, *counters = detail
    return Admission(
        admitted_ms=int(admitted),
        expected=Units(int(expected)),
        held=Units(int(held)),
        observed=_indexes(observed),
        standings=_standings(counters),
    )


def look_of(detail: Sequence[bytes]) -> Look:
    """Read what the reserve script says would become of a request."""
    expected, observed, learnt, learnt_from, says, *rest = detail
    return Look(
        expected=Units(int(expected)),
        learnt=Units(int(learnt)),
        learnt_from=int(learnt_from),
        refusal=_limit_reached(says, rest[:5]) if says else None,
        observed=_indexes(observed),
        standings=_standings(rest[5:]),
    )


def refusal_of(outcome: bytes, detail: Sequence[bytes]) -> Exception:
    """Return what the gateway is told where the script reserved nothing."""
    if outcome in _LIMITS:
        return _limit_reached(outcome, detail)
    if outcome == b"missing":
        return CountersMissing([int(part) for part in detail])
    return _REFUSALS[outcome]()


def _indexes(text: bytes) -> tuple[int, ...]:
    return tuple(int(index) for index in text.split(b",") if index)


def _standings(counters: Sequence[bytes]) -> tuple[Standing, ...]:
    pairs = zip(map(int, counters[::2]), map(int, counters[1::2]), strict=True)
    return tuple(Standing(used, reserved) for used, reserved in pairs)


def _limit_reached(outcome: bytes, detail: Sequence[bytes]) -> LimitReached:
    index, used, reserved, needed, wait_ms = (int(part) for part in detail)
    return _LIMITS[outcome](
        limit_index=index, used=used, reserved=reserved, needed=needed, wait_ms=wait_ms
    )
