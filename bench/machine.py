"""The machine that is measured on: its cores, and what processes have used of them."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_WHOLE_PROCESS: Final = 2
_KIB: Final = 1_024
_IDLE_FIELDS: Final = (3, 4)
"""Of a line of /proc/stat: idle, and waiting for a disk."""


@dataclass(frozen=True)
class Cores:
    """The gateway has one core to itself; everything else is on the other."""

    gateway: int
    beside: int


class TooFewCores(SystemExit):
    pass


def choose_cores(wanted: str | None = None) -> Cores:
    """
    Return the two cores that ``"0,1"`` names, else the first two that this process may use.

    :raises TooFewCores: if there are no two
    """
    usable = sorted(os.sched_getaffinity(0))
    try:
        chosen = [int(word) for word in wanted.split(",")] if wanted else usable[:2]
    except ValueError:
        raise TooFewCores(f"--cores: {wanted!r} are no two numbers such as 0,1") from None
    if len(set(chosen)) != 2 or not set(chosen) <= set(usable):  # noqa: PLR2004
        raise TooFewCores(f"Two cores are needed, out of {usable}; chosen were {chosen}.")
    return Cores(*chosen)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Stay on one core meanwhile; a process that is started inside stays there for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for each in found:  # grows as it is walked
        for listed in (PROC / str(each) / "task").glob("*/children"):
            found += map(int, _text(listed).split())
    return found


def child_called(text: str) -> int:
    """
    Return the process that this one has started with ``text`` in its command line.

    :raises LookupError: if there is none
    """
    for pid in tree(os.getpid()):
        if text in _text(PROC / str(pid) / "cmdline"):
            return pid
    raise LookupError(text)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants, threads that have ended included."""
    return sum(map(_own_cpu_seconds, tree(pid)))


def _own_cpu_seconds(pid: int) -> float:
    # The clock of another process, as clock_getcpuclockid(3) names it. The sum over what
    # /proc/PID/task lists would fall whenever a thread of a pool ends.
    try:
        return time.clock_gettime((~pid << 3) | _WHOLE_PROCESS)
    except OSError:
        return 0.0  # it has just ended


def memory_bytes(pid: int) -> int:
    """Return the proportional set size of a process and its descendants: shared pages once."""
    return sum(_pss_kib(each) for each in tree(pid)) * _KIB


@dataclass(frozen=True)
class Clock:
    """What a core has done since the machine was started, in ticks."""

    busy: int
    all: int


def clock_of(core: int) -> Clock:
    """Return how long a core was at work, for anybody."""
    line = next(
        line for line in (PROC / "stat").read_text().splitlines() if line.startswith(f"cpu{core} ")
    )
    # Guest time, the last two fields, is in user time already.
    ticks = [int(word) for word in line.split()[1:9]]
    return Clock(busy=sum(ticks) - sum(ticks[n] for n in _IDLE_FIELDS), all=sum(ticks))


def busy_share(before: Clock, after: Clock) -> float:
    """Return the share of the time between two readings that a core was at work, from 0 to 1."""
    return (after.busy - before.busy) / max(after.all - before.all, 1)


def described() -> dict[str, str]:
    """Return what figures depend on; nothing that names this machine or its user."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _pss_kib(pid: int) -> int:
    for line in _text(PROC / str(pid) / "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _text(path: Path) -> str:
    """Return a file of a process, and nothing of one that has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, be it that nobody has asked for its code yet."""
    state = _text(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return not state or state[0] == "Z"
