"""One measurement of one gateway: load, CPU time, and that all of it is true."""

import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import uvloop

from bench import load, machine
from bench.contestants import Contestant, Place, Wrong, ask
from bench.figures import SHOWN, percentile
from bench.load import IN_FLIGHT_MAX, Sent

GAP_MS: Final = 2
IDLE_SECONDS: Final = 2.0
QUIET_SECONDS: Final = 1.0
QUIET_SECONDS_MAX: Final = 60.0
MB: Final = 1e6
Work = Callable[[], Coroutine[Any, Any, Sent]]


class Overrun(Exception):
    """The gateway cannot keep that rate: requests piled up."""


@dataclass(frozen=True)
class Plan:
    """How long each measurement takes, and how often all are made."""

    rounds: int = 3
    connections: int = 64
    closed_seconds: float = 4.0
    stream_seconds: float = 4.0
    rate_seconds: float = 6.0
    rates: tuple[int, ...] = (20, 100, 300)
    stream_rate: int = 5
    warm_up_requests: int = 1_000
    warm_up_streams: int = 100
    soak_marks: tuple[int, ...] = (1_000, 10_000, 50_000, 100_000, 500_000)


QUICK: Final = Plan(
    rounds=1, closed_seconds=1.0, stream_seconds=1.0, rate_seconds=1.5, rates=(20,),
    warm_up_requests=200, warm_up_streams=20, soak_marks=(200, 500),
)  # fmt: skip
KEEPS_RATE_SHARE: Final = 0.6
"""A rate that takes more of a gateway's core is not tried: requests would pile up."""


@dataclass(frozen=True)
class Observed:
    """What was sent, and what it took meanwhile."""

    sent: Sent
    cpu_seconds: float
    gateway_busy: float
    """The share of its core that was at work for anybody, from 0 to 1."""
    beside_busy: float
    store_cpu_seconds: float
    """Of the store that it counts in, if it has one."""

    @property
    def cpu_ms(self) -> float:
        return self.cpu_seconds * 1e3 / self.sent.answers

    @property
    def core_share(self) -> float:
        return self.cpu_seconds / self.sent.seconds


class Measuring:
    """Loads contestants before one upstream, whose count it holds against what came back."""

    def __init__(self, place: Place, plan: Plan) -> None:
        self.plan = plan
        self.answers: Counter[str] = Counter()
        self._place = place

    def warm_up(self, contestant: Contestant) -> None:
        """Send what loads the last lazily imported module, and fills caches."""
        self.counted(contestant, self.plan.warm_up_requests)
        self.counted(contestant, self.plan.warm_up_streams, is_stream=True)

    def counted(
        self, contestant: Contestant, requests: int, *, is_stream: bool = False
    ) -> Observed:
        """Send so many requests over all connections."""
        return self.observe(
            contestant,
            lambda: load.counted(
                contestant.target, connections=self.plan.connections, requests=requests,
                is_stream=is_stream,
            ),
        )  # fmt: skip

    def closed(self, contestant: Contestant) -> dict[str, float]:
        """Return what it does with all connections at work."""
        return self._closed(contestant, "closed", self.plan.closed_seconds)

    def streams(self, contestant: Contestant) -> dict[str, float]:
        """Return what it does with streams, paced and at once."""
        self._set_gap(GAP_MS)
        paced = self._closed(contestant, "stream", self.plan.stream_seconds, is_stream=True)
        self._set_gap(0)
        return paced | self._closed(contestant, "burst", self.plan.stream_seconds, is_stream=True)

    def at_rate(self, contestant: Contestant, rate: int) -> dict[str, float]:
        """
        Return the times of answers at a fixed rate, not yet less those of the upstream.

        :raises Overrun: if it cannot keep that rate
        """
        seen = self._open(contestant, rate)
        return _times(f"rate_{rate}.", seen.sent.answer_ms) | {
            f"rate_{rate}.cpu_ms": seen.cpu_ms,
            f"rate_{rate}.late_ms": percentile(seen.sent.late_ms, 99),
            f"rate_{rate}.others_busy": seen.gateway_busy - seen.core_share,
        }

    def streams_at_rate(self, contestant: Contestant) -> dict[str, float]:
        """
        Return the times to the first event, not yet less those of the upstream.

        :raises Overrun: if it cannot keep that rate
        """
        self._set_gap(GAP_MS)
        seen = self._open(contestant, self.plan.stream_rate, is_stream=True)
        self._set_gap(0)
        times = _times("stream_rate.first_", seen.sent.first_ms)
        return times | {
            "stream_rate.cpu_ms": seen.cpu_ms,
            "stream_rate.late_ms": percentile(seen.sent.late_ms, 99),
            "stream_rate.others_busy": seen.gateway_busy - seen.core_share,
        }

    def idle(self, contestant: Contestant) -> dict[str, float]:
        """Return the CPU time that it takes with nothing to do."""
        before = machine.cpu_seconds(contestant.pid)
        time.sleep(IDLE_SECONDS)
        spent = machine.cpu_seconds(contestant.pid) - before
        return {"idle.cpu_ms": spent * 1e3 / IDLE_SECONDS}

    def observe(self, contestant: Contestant, work: Work) -> Observed:
        """
        Do the work and see what it takes.

        :raises Wrong: if the upstream served another number than came back, or the books differ
        :raises BadAnswer: at the first answer that is none
        """
        cores = self._place.cores
        served, cpu = self.served(), machine.cpu_seconds(contestant.pid)
        store_cpu = _store_cpu_seconds(contestant)
        clocks = machine.clock_of(cores.gateway), machine.clock_of(cores.beside)
        sent = uvloop.run(work())
        seen = Observed(
            sent=sent,
            cpu_seconds=machine.cpu_seconds(contestant.pid) - cpu,
            gateway_busy=machine.busy_share(clocks[0], machine.clock_of(cores.gateway)),
            beside_busy=machine.busy_share(clocks[1], machine.clock_of(cores.beside)),
            store_cpu_seconds=_store_cpu_seconds(contestant) - store_cpu,
        )
        if (now := self.served() - served) != sent.answers:
            raise Wrong(f"the upstream served {now} requests, and {sent.answers} were answered")
        self.answers[contestant.name] += sent.answers
        contestant.check_books(sent.answers)
        return seen

    def served(self) -> int:
        """Return how many answers the upstream has given so far."""
        _, told = ask("GET", self._place.upstream_port, "/served")
        return sum(json.loads(told).values())

    def wait_until_quiet(self) -> None:
        """Wait until the upstream serves nobody any more: a run that broke off leaves requests."""
        until, served = time.monotonic() + QUIET_SECONDS_MAX, -1
        while served != (now := self.served()) and time.monotonic() < until:
            served = now
            time.sleep(QUIET_SECONDS)

    def _set_gap(self, ms: int) -> None:
        status, _ = ask("PUT", self._place.upstream_port, f"/gap/{ms}")
        assert status == 200, "the upstream is ours"  # noqa: PLR2004

    def _closed(
        self, contestant: Contestant, key: str, seconds: float, *, is_stream: bool = False
    ) -> dict[str, float]:
        seen = self.observe(
            contestant,
            lambda: load.closed(
                contestant.target, connections=self.plan.connections, seconds=seconds,
                is_stream=is_stream,
            ),
        )  # fmt: skip
        figures = {
            f"{key}.per_second": seen.sent.answers / seen.sent.seconds,
            f"{key}.cpu_ms": seen.cpu_ms,
            f"{key}.core_share": seen.core_share,
            f"{key}.beside_busy": seen.beside_busy,
            f"{key}.sender_share": seen.sent.own_cpu_seconds / seen.sent.seconds,
            f"{key}.others_busy": seen.gateway_busy - seen.core_share,
        }
        if contestant.store_pid is not None:
            figures[f"{key}.store_cpu_ms"] = seen.store_cpu_seconds * 1e3 / seen.sent.answers
        return figures

    def _open(self, contestant: Contestant, rate: float, *, is_stream: bool = False) -> Observed:
        seen = self.observe(
            contestant,
            lambda: load.open_loop(
                contestant.target, rate=rate, seconds=self.plan.rate_seconds, is_stream=is_stream
            ),
        )
        if seen.sent.was_overrun:
            raise Overrun(f"{IN_FLIGHT_MAX} requests waited for their answers")
        return seen


def _store_cpu_seconds(contestant: Contestant) -> float:
    return machine.cpu_seconds(contestant.store_pid) if contestant.store_pid else 0.0


def memory_mb(contestant: Contestant) -> float:
    return machine.memory_bytes(contestant.pid) / MB


def added(figures: dict[str, float], direct: dict[str, float]) -> dict[str, float]:
    """Return figures, and by how much each time is above the upstream's own in this round."""
    ends = tuple(f"p{each}_ms" for each in SHOWN)
    times = [key for key in figures if key.endswith(ends) and key in direct]
    return figures | {_added_key(key): figures[key] - direct[key] for key in times}


def _added_key(key: str) -> str:
    head, _, tail = key.rpartition("p")
    return f"{head}added_p{tail}"


def _times(prefix: str, times_ms: list[float]) -> dict[str, float]:
    return {f"{prefix}p{each}_ms": percentile(times_ms, each) for each in SHOWN}
