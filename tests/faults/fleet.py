"""
The project's processes as a host keeps them: what dies is started again at once.

Sandbox, recorders and web processes on one listening socket. Each incarnation of a process has
the failpoints of its kind, with dice of its own.
"""

import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from budgets import storekeeper
from budgets.models import Partition
from tests.stack import START_SECONDS_MAX, Processes, wait_until

KEEP_SECONDS: Final = 0.05
GRACE_SECONDS_MAX: Final = 45.0
WEB, RECORDER = "web", "recorder"


class Fleet(Processes):
    """``failpoints`` tells the orders for ``web`` and ``recorder`` processes."""

    def __init__(
        self, folder: Path, *, env: Mapping[str, str], web: int = 4, recorders: int = 1,
        seed: int = 0, failpoints: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder, env={**env, "COSTPLATFORM_TESTING": "on"})
        self.deaths: Counter[str] = Counter()
        self.failpoints = dict(failpoints or {})
        self._web, self._recorders, self._seed = web, recorders, seed
        self._kept: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> "Fleet":
        try:
            self._keeper.start()
            for number in range(self._recorders):
                self.start(f"{RECORDER}-{number}", "-m", "costplatform", "recorder")
            wait_until(_is_open, seconds=START_SECONDS_MAX)
            self.start_sandbox()
            self.url = self.start_web(WEB, processes=self._web)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        with self._lock:
            self._kept.clear()
        for name in self.processes:
            self._signal(name, signal.SIGCONT)
        super().__exit__(kind, error, trace)
        # Last: what this thread has started dies with it.
        self._ending.set()
        self._keeper.join()

    def start(self, name: str, *arguments: str, **env: str) -> None:
        with self._lock:
            self._kept[name] = (arguments, env)
            super().start(name, *arguments, **env, **self._orders(name))

    def names(self, kind: str) -> list[str]:
        return sorted(name for name in self.processes if name.startswith(f"{kind}-"))

    def kill(self, name: str) -> None:
        """``kill -9``; the process is started again at once."""
        self._signal(name, signal.SIGKILL)

    def terminate(self, name: str) -> None:
        """``SIGTERM``, and return when it has ended; it is started again at once."""
        process = self.processes[name]
        self._signal(name, signal.SIGTERM)
        process.wait(GRACE_SECONDS_MAX)

    def freeze(self, name: str) -> None:
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def retire(self, name: str) -> None:
        """``kill -9``, and it stays away."""
        with self._lock:
            del self._kept[name]
            super().kill(name)

    def _signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def _orders(self, name: str) -> dict[str, str]:
        orders = self.failpoints.get(name.partition("-")[0])
        if not orders:
            return {}
        # One seed for all would kill every process at the same hit, again and again.
        dice = random.Random(f"{self._seed}:{name}:{self.deaths[name]}").randrange(1, 2**29)
        return {"COSTPLATFORM_FAILPOINTS": f"{orders},seed={dice}"}

    def _keep(self) -> None:
        while not self._ending.wait(KEEP_SECONDS):
            with self._lock:
                for name in [*self._kept]:
                    if self._has_died(self.processes.get(name)):
                        self.deaths[name] += 1
                        arguments, env = self._kept[name]
                        self.start(name, *arguments, **env)

    @staticmethod
    def _has_died(process: "subprocess.Popen[bytes] | None") -> bool:
        return process is not None and process.poll() is not None


def _is_open() -> bool:
    partition = Partition.objects.filter(number=storekeeper.PARTITION).first()
    return partition is not None and storekeeper.is_open(partition)
