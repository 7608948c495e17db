"""
The metrics of all apps, and the files by which the processes of a host add them up.

With ``PROMETHEUS_MULTIPROC_DIR`` set each process takes a slot, the lowest that no living one
holds, and counts in the slot's files. Who takes the slot of a dead process goes on with its
counters and forgets its gauges: what was counted is kept, and there are as many files as processes
at once, however often they start again. Without the variable the metrics are this process's own.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
SLOTS_MAX: Final = 1_024
LABEL_CHARACTERS_MAX: Final = 120
REGISTRY: Final = CollectorRegistry()

_held: list[IO[bytes]] = []


class SharedFiles(Collector):
    """Adds up what all processes have counted; the gauges of living ones only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in self._folder.glob("*.db") if self._counts(path)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # theirs
        return merged

    def _counts(self, path: Path) -> bool:
        return not path.name.startswith("gauge_") or _is_alive(self._folder, _slot_of(path))


def exposition(*collectors: Collector) -> bytes:
    """Return what all processes have counted and ``collectors`` add, as Prometheus reads it."""
    scrape = CollectorRegistry()
    scrape.register(SharedFiles(Path(_folder)) if _folder else REGISTRY)
    for each in collectors:
        scrape.register(each)
    return generate_latest(scrape)


def cut(text: str) -> str:
    """Return as much of ``text`` as a label may have."""
    return text[:LABEL_CHARACTERS_MAX]


def take_slot(folder: Path) -> int:
    """Take the lowest free slot until this process ends, however it ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for slot in range(SLOTS_MAX):
        # A scrape that looks at a free slot right now makes us take the next one: no harm.
        if (lock := _locked(folder, slot, fcntl.LOCK_EX)) is not None:
            _held.append(lock)
            for gauges in folder.glob(f"gauge_*_{slot}.db"):
                gauges.unlink(missing_ok=True)
            return slot
    raise RuntimeError(f"{FOLDER_VARIABLE}: {SLOTS_MAX} processes count in {folder} already")


def _is_alive(folder: Path, slot: int) -> bool:
    """Return whether a process holds the slot: the kernel lets go of the lock with it."""
    lock = _locked(folder, slot, fcntl.LOCK_SH)
    if lock is None:
        return True
    lock.close()
    return False


def _locked(folder: Path, slot: int, kind: int) -> IO[bytes] | None:
    file = (folder / f"{slot}.lock").open("ab")
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _slot_of(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


# Before any metric is made: each asks at once where its value is kept.
_folder: Final = os.environ.get(FOLDER_VARIABLE, "")
if _folder:
    _slot: Final = take_slot(Path(_folder))
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: _slot)  # type: ignore[no-untyped-call]  # theirs
