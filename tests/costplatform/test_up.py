"""The one command, with all its real processes: from an empty directory to a refused request."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from costplatform import ports
from tests.gateway.support import PER_REQUEST, chat, get
from tests.metrics_text import scrape
from tests.stack import heed_interrupts, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.no_servers]

FIRST_PORT = 23_000


class Up:
    """``costplatform up`` on a data directory of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        web = ports.free_from(FIRST_PORT)
        sandbox = ports.free_from(web + 1)
        self.url = f"http://127.0.0.1:{web}"
        kept = {n: v for n, v in os.environ.items() if n not in {"DATABASE_URL", "REDIS_URL"}}
        self.env = kept | {
            "COSTPLATFORM_DATA_DIR": str(data),
            "PORT": str(web),
            "COSTPLATFORM_SANDBOX_PORT": str(sandbox),
        }

    def start(self) -> str:
        """Start it; return what it has printed when it says READY."""
        self.output = self.data.parent / f"up-{time.monotonic_ns()}.txt"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "costplatform", "up"], env=self.env, stdout=out, stderr=out,
                preexec_fn=heed_interrupts,
            )  # fmt: skip
        wait_until(lambda: self._is_ready() or self.process.poll() is not None, seconds=120)
        text = self.output.read_text()
        assert self._is_ready(), text
        return text

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "costplatform", *words], env=self.env, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=90)

    def left(self) -> list[str]:
        """Return what still runs on this data directory."""
        return [
            command
            for pid in Path("/proc").glob("[0-9]*")
            if (command := self._command(pid)) is not None
        ]

    def _is_ready(self) -> bool:
        return f"READY {self.url}" in self.output.read_text()

    def _command(self, pid: Path) -> str | None:
        try:
            if pid.name == str(os.getpid()):
                return None
            words = (pid / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            env = (pid / "environ").read_bytes().decode(errors="replace")
        except OSError:
            return None
        mine = f"COSTPLATFORM_DATA_DIR={self.data}\0" in env or str(self.data) in words
        return words if mine and words else None


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path / "var")
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGKILL)


def ended(up: Up, master: str) -> float:
    """Return how many requests have ended since it was started."""
    return scrape(up.url, master).sum("costplatform_requests_total")


def test_a_strangers_path_from_an_empty_directory_to_a_refused_request_and_back(up: Up) -> None:
    first = up.start()
    key = re.findall(r"sk-cp-[0-9A-Za-z]{49}", first)[0]
    master = re.findall(r"sk-(?!cp-)[\w-]{20,}", first)[0]

    answers = [chat(up.url, key, model=PER_REQUEST) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert get(up.url, master, "/key/list").json["total_count"] == 1
    assert ended(up, master) == 6
    last = f"/v1/requests/{answers[4].headers['x-request-id']}"
    wait_until(lambda: get(up.url, key, last).status == 200, seconds=10)
    verified = up.run("verify-ledger")
    assert (verified.returncode, "5 ledger rows" in verified.stdout) == (0, True), verified

    assert up.end() == 0
    assert up.left() == []

    second = up.start()
    assert key not in second
    assert chat(up.url, key, model=PER_REQUEST).status == 429
    assert up.run("verify-ledger").returncode == 0
    assert ended(up, master) == 1

    up.end(signal.SIGKILL)
    wait_until(lambda: up.left() == [], seconds=10)

    up.start()
    assert chat(up.url, key, model=PER_REQUEST).status == 429
    assert up.end() == 0
