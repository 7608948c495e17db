"""Starts the project's own processes for tests, on ports of their own, and ends them by pid."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from budgets import storekeeper
from budgets.models import Member, Partition
from budgets.scripts import TAG
from costplatform import ports
from gateway.models import Deployment
from gateway.services import update_deployment
from tests.launch import somewhere_free, start_bound

START_SECONDS_MAX = 60.0


class Processes:
    """
    Named processes of this project on ports of their own; what they print is in ``folder``.

    ``log`` is the sandbox's own count. All share the listening sockets that were made before.
    """

    def __init__(self, folder: Path, *, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.log = folder / "sandbox.log"
        self.metrics = folder / "metrics"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._sockets: list[socket.socket] = []
        self._next_port = somewhere_free()
        self.sandbox_port = self._new_port()
        self.upstream_port = self._new_port()
        """Of an upstream that a test runs itself."""
        self.env = {
            **env,
            "GATEWAY_ALLOW_PRIVATE_UPSTREAMS": ",".join(
                f"127.0.0.1/32:{port}" for port in (self.sandbox_port, self.upstream_port)
            ),
            "GATEWAY_MEMBER_SECONDS": "3",
            "GATEWAY_ABORT_DRAIN_SECONDS": "2",
            "RECORDER_SWEEP_SECONDS": "1",
            "METRICS_CACHE_SECONDS": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics),
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        last = ("recorder", "sandbox")
        for name in sorted(self.processes, key=lambda name: name.startswith(last)):
            self.stop(name)
        for each in self._sockets:
            each.close()

    def start(self, name: str, *arguments: str, **env: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.processes[name] = start_bound(
                [sys.executable, *arguments], env=self.env | env, out=out,
                pass_fds=[each.fileno() for each in self._sockets],
            )  # fmt: skip

    def start_sandbox(self) -> None:
        """Start the upstream; every deployment of it in the database is moved to it."""
        log = ["--log", str(self.log)]
        self.start("sandbox", "-m", "gateway.sandbox", "--port", str(self.sandbox_port), *log)
        base = f"http://127.0.0.1:{self.sandbox_port}/v1"
        for each in Deployment.objects.filter(provider="sandbox").select_related("credential"):
            update_deployment(deployment=each, values={"api_base": base}, api_key="sk-sandbox")

    def start_web(self, name: str, *, processes: int, **env: str) -> str:
        """Start web processes on a new shared socket; return their base URL when they are ready."""
        listener = ports.listening(host="127.0.0.1", port=self._new_port())
        self._sockets.append(listener)
        for number in range(processes):
            self.start(f"{name}-{number}", "-m", "costplatform.web", str(listener.fileno()), **env)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        wait_until(lambda: is_ready(url), seconds=START_SECONDS_MAX)
        return url

    def kill(self, name: str) -> None:
        """``kill -9``, and gone."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def served(self) -> list[dict[str, Any]]:
        """Return the sandbox's own lines, one for each request that it accepted."""
        return self._told("accepted")

    def ended(self) -> list[dict[str, Any]]:
        """Return the sandbox's lines on how each of these requests ended."""
        return self._told("end")

    def in_flight(self) -> "Counter[str]":
        """Return how many open reservations each process has; they are dealt unevenly."""
        pipeline = storekeeper.store().pipeline(transaction=False)
        for id in storekeeper.open_reservations():
            pipeline.hget(f"{TAG}r:{id}", "member")
        members = Counter(pipeline.execute())
        pids = {each.name.rpartition(":")[2]: each.id.hex for each in Member.objects.all()}
        found = {
            name: members[pids.get(str(process.pid), "").encode()]
            for name, process in self.processes.items()
        }
        return Counter(found)

    def settle_down(self, *, seconds: float = 15.0) -> None:
        """Wait until every event is in the ledger and nothing is reserved."""
        wait_until(self.is_quiet, seconds=seconds)

    @staticmethod
    def is_quiet() -> bool:
        # In this order: what is settled in between leaves the reservations for the stream.
        if storekeeper.open_reservations():
            return False
        position = Partition.objects.values_list("position", flat=True).get(number=0)
        return not storekeeper.read_stream(after=position, count=1)

    def _told(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def _new_port(self) -> int:
        """Return a free port; never one that a process of ours has been told but not opened yet."""
        port = ports.free_from(self._next_port)
        self._next_port = port + 1
        return port


class Stack(Processes):
    """
    Sandbox, recorder and web processes as ``costplatform up`` runs them.

    ``lane`` and ``views`` are the base URLs of the two doors.
    """

    def __init__(self, folder: Path, *, web_processes: int = 2) -> None:
        super().__init__(folder, env=os.environ)
        self._web_processes = web_processes

    def __enter__(self) -> "Stack":
        self.start_sandbox()
        self.start("recorder", "-m", "costplatform", "recorder")
        self.lane = self.start_web("lane", processes=self._web_processes)
        self.views = self.start_web("views", processes=self._web_processes, GATEWAY_LANE="off")
        return self


def heed_interrupts() -> None:
    """Undo what a shell does to what it starts in the background: Ctrl-C is to be heard."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(is_so: Callable[[], bool], *, seconds: float) -> None:
    """Return as soon as it is so; fail loudly if it never is."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.05)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def command(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``costplatform …`` to its end."""
    words: Sequence[str] = [sys.executable, "-m", "costplatform", *arguments]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)
