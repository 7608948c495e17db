"""What becomes of a gateway's memory: after a thousand requests, and after half a million."""

import time
from collections.abc import Sequence
from typing import Final

from bench.contestants import Contestant
from bench.figures import Group, Row
from bench.measuring import Measuring, memory_mb

SLICE_SECONDS: Final = 20
"""After a slice the books are checked, so that the recorder never lags far behind."""
SLICE_REQUESTS_MIN: Final = 1_000
SLICE_REQUESTS_MAX: Final = 25_000
SECONDS_MAX: Final = 900


def groups(marks: Sequence[int]) -> list[Group]:
    """Return what is shown of a soak."""
    rows = tuple(Row(_key(mark), f"after {mark:,} requests, MB", 0) for mark in marks)
    last = (
        Row("soak.answers", "answers when it was over", 0, more_is_better=None),
        Row("soak.end_mb", "memory then, MB", 0),
    )
    return [Group("Memory of the process tree", (*rows, *last))]


def soaked(one: Contestant, measuring: Measuring, *, seconds_max: float) -> dict[str, float]:
    """Return memory at each mark that is reached within ``seconds_max``."""
    found: dict[str, float] = {}
    done, slice_requests, until = 0, SLICE_REQUESTS_MIN, time.monotonic() + seconds_max
    for mark in measuring.plan.soak_marks:
        while done < mark and time.monotonic() < until:
            requests = min(mark - done, slice_requests)
            seen = measuring.counted(one, requests)
            done += requests
            slice_requests = _next_slice(requests / seen.sent.seconds)
        if done == mark:
            found[_key(mark)] = memory_mb(one)
    return found | {"soak.answers": done, "soak.end_mb": memory_mb(one)}


def _next_slice(per_second: float) -> int:
    """A slow gateway is asked often whether its time is over, a quick one seldom for its books."""
    return min(max(int(per_second * SLICE_SECONDS), SLICE_REQUESTS_MIN), SLICE_REQUESTS_MAX)


def _key(mark: int) -> str:
    return f"soak.after_{mark}_mb"
