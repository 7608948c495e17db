"""
Child processes: how one is started, kept running and ended.

None outlives the process that started it. Each is in its own session, so a terminal's Ctrl-C
reaches only the parent; and when the parent dies, even by ``kill -9``, Linux sends each child
its ``death_signal``. That happens when the *thread* that forked ends, so fork in the main one.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

RESTART_SECONDS_MIN: Final = 1.0
RESTART_SECONDS_MAX: Final = 30.0
HEALTHY_SECONDS: Final = 60.0
"""Who has run for so long starts with the shortest wait when it dies again."""
LOCK_WAIT_SECONDS: Final = 10.0
LOG_BYTES_MAX: Final = 20 * 2**20
LOG_TAIL_LINES: Final = 15
_PR_SET_PDEATHSIG: Final = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class LockHeld(Exception):
    """Another living process holds the lock."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """How one process is started and ended; ``env`` is all of its environment."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    user: int | None = None
    pass_fds: tuple[int, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_seconds: float = 10
    lock: Path | None = None
    """Held by the process and all that it forks: while one of them lives, no second one starts."""
    stale: tuple[Path, ...] = ()
    """What a killed predecessor may have left; removed once the lock is ours."""


def locked(path: Path, *, wait_seconds: float = 0) -> IO[bytes]:
    """
    Lock ``path`` for as long as the returned file, or what inherits it, is open.

    :raises LockHeld: if another process still holds it after ``wait_seconds``
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = path.open("ab")
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                raise LockHeld(path) from None
            time.sleep(0.05)
        else:
            return file


def log_path(process: Process, *, logs: Path) -> Path:
    return logs / f"{process.name}.log"


def log_tail(process: Process, *, logs: Path) -> str:
    """Return the log's last lines, indented, or ``""`` if nothing was logged."""
    path = log_path(process, logs=logs)
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "".join(f"\n    {line}" for line in lines[-LOG_TAIL_LINES:])


def trim_logs(logs: Path) -> None:
    """Move what is in each overlong log to ``NAME.log.1``; its process goes on writing to it."""
    for path in logs.glob("*.log"):
        if path.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def run(process: Process, *, logs: Path) -> int:
    """Run ``process`` to its end; return its exit code. What it says is logged."""
    with _prepared(process, logs=logs, lock=None) as options:
        return subprocess.run(process.argv, check=False, **options).returncode  # noqa: S603


async def run_async(process: Process, *, logs: Path) -> tuple[int, str]:
    """
    Run ``process`` to its end; return its exit code and its standard output, which may hold
    secrets and is not logged. When cancelled, kill it.
    """
    with _prepared(process, logs=logs, lock=None) as options:
        options["stdout"] = subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*process.argv, **options)
    try:
        printed, _ = await child.communicate()
    finally:
        _kill_group(child.pid)
        code = await child.wait()
    return code, printed.decode(errors="replace")


@contextlib.contextmanager
def running(process: Process, *, logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``process``, and end it on the way out."""
    with _prepared(process, logs=logs, lock=_claimed(process)) as options:
        child = subprocess.Popen(process.argv, **options)  # noqa: S603
    try:
        yield child
    finally:
        child.send_signal(process.stop_signal)
        try:
            child.wait(process.grace_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _kill_group(child.pid)


class Keeper:
    """Keeps one process running, and starts it again when it dies, until it is told to stop."""

    def __init__(self, process: Process, *, logs: Path, say: Callable[[str], None]) -> None:
        self.process = process
        self.deaths = 0
        self._logs = logs
        self._say = say
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End the process: by its own signal, after the grace by ``SIGKILL``."""
        self._stopping = True
        if self._child is None:
            self._task.cancel()
        else:
            self._child.send_signal(self.process.stop_signal)
        done, _ = await asyncio.wait([self._task], timeout=self.process.grace_seconds)
        if not done:
            self._say(
                f"{self.process.name} did not end in {self.process.grace_seconds:g} s: killed"
            )
            self.kill()
            await asyncio.wait([self._task])

    def kill(self) -> None:
        """End the process at once, and for good."""
        self._stopping = True
        if self._child is not None:
            _kill_group(self._child.pid)

    async def _keep(self) -> None:
        wait_seconds = RESTART_SECONDS_MIN
        while True:
            began = time.monotonic()
            result = await self._run_once()
            if self._stopping:
                return
            if time.monotonic() - began > HEALTHY_SECONDS:
                wait_seconds = RESTART_SECONDS_MIN
            self.deaths += 1
            log = log_path(self.process, logs=self._logs)
            again = f"starts again in {wait_seconds:g} s; see {log}"
            self._say(f"{self.process.name} ended ({result}), {again}")
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, RESTART_SECONDS_MAX)

    async def _run_once(self) -> str:
        """Start the process, wait for its end and say how it ended."""
        try:
            lock = await asyncio.to_thread(_claimed, self.process)
            with _prepared(self.process, logs=self._logs, lock=lock) as options:
                child = await asyncio.create_subprocess_exec(*self.process.argv, **options)
        except (LockHeld, OSError, subprocess.SubprocessError) as error:
            return f"could not start: {error}"
        self._child = child
        if self._stopping:
            child.send_signal(self.process.stop_signal)
        code = await child.wait()
        self._child = None
        _kill_group(child.pid)
        return f"exit {code}" if code >= 0 else signal.Signals(-code).name


def _claimed(process: Process) -> IO[bytes] | None:
    if process.lock is None:
        return None
    lock = locked(process.lock, wait_seconds=LOCK_WAIT_SECONDS)
    for path in process.stale:
        path.unlink(missing_ok=True)
    return lock


@contextlib.contextmanager
def _prepared(process: Process, *, logs: Path, lock: IO[bytes] | None) -> Iterator[dict[str, Any]]:
    """Yield how to start ``process``; our ends of its log and lock are closed on the way out."""
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as ours:
        log = ours.enter_context(log_path(process, logs=logs).open("ab"))
        fds = process.pass_fds
        if lock is not None:
            fds = (*fds, ours.enter_context(lock).fileno())
        yield {
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": log,
            "env": process.env,
            **dropped_to(process.user),
            "pass_fds": fds,
            "start_new_session": True,
            "preexec_fn": _bound_to_parent(process.death_signal),
        }


def dropped_to(user: int | None) -> dict[str, Any]:
    """Return the arguments of ``Popen`` that give up root for ``user``, its group included."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": ()}


def _bound_to_parent(death_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def before_exec() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        # The parent may have died before the signal was asked for.
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
