"""How processes share their counts by files, and what becomes of those of a dead one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from budgets.metrics import FOLDER_VARIABLE, SharedFiles, cut

pytestmark = pytest.mark.no_servers

PROGRAM = """
import sys
from prometheus_client import Counter, Gauge
from budgets.metrics import REGISTRY
Counter("done", "", registry=REGISTRY).inc(int(sys.argv[1]))
Gauge("doing", "", registry=REGISTRY, multiprocess_mode="livesum").set(int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


class Counting:
    """Processes that have counted to a number and then wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []

    def start(self, number: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(number)],
            env=os.environ | {FOLDER_VARIABLE: str(self.folder)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def end(self, process: subprocess.Popen[str], by: signal.Signals = signal.SIGKILL) -> None:
        process.send_signal(by)
        process.communicate()
        self.running.remove(process)

    def sums(self) -> dict[str, float]:
        return {
            sample.name: sample.value
            for family in SharedFiles(self.folder).collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Counting]:
    counting = Counting(tmp_path / "not" / "yet" / "made")
    yield counting
    for process in list(counting.running):
        counting.end(process)


def test_counters_and_gauges_of_living_processes_are_added_up(counting: Counting) -> None:
    counting.start(3)
    counting.start(4)

    assert counting.sums() == {"done_total": 7, "doing": 7}


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_process_keeps_its_counters_and_loses_its_gauges(
    counting: Counting, by: signal.Signals
) -> None:
    counting.end(counting.start(3), by)
    counting.start(4)

    assert counting.sums() == {"done_total": 7, "doing": 4}


def test_there_are_no_more_files_however_often_processes_start_again(counting: Counting) -> None:
    counting.start(1)
    counting.end(counting.start(1))
    files = counting.files()

    for _ in range(5):
        counting.end(counting.start(1))

    assert counting.files() - files == set()
    assert counting.sums() == {"done_total": 7, "doing": 1}


def test_a_read_takes_no_slot_away(counting: Counting) -> None:
    counting.end(counting.start(1))
    for _ in range(3):
        counting.sums()

    counting.start(1)

    assert "1.lock" not in counting.files()


def test_labels_have_so_many_characters_at_most() -> None:
    assert cut("é" * 500) == "é" * 120
