"""
Postgres and Valkey of a scenario's own, from the same programs as the embedded ones, and what can
happen to them. Nothing here is shared with other tests, so anything may be broken.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import redis

from costplatform import ports
from costplatform.servers.accounts import Account, account_for, home_for
from costplatform.servers.postgres import NAME, _make_cluster, _options, _ready, postgres_programs
from costplatform.servers.server import plain_environment
from costplatform.servers.valkey import _valkey_config, valkey_program
from tests.launch import somewhere_free, start_bound
from tests.stack import wait_until

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 60.0
PASSWORD: Final = "scenario"


class _Server:
    """A program that is started, stopped in several ways, and started again on the same port."""

    stops_by: signal.Signals
    dies_by: signal.Signals

    def __init__(self, folder: Path, *, account: Account) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.account = account
        self.port = somewhere_free()
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._process is not None:
            self.thaw()
            self._end(self.dies_by)

    def freeze(self) -> None:
        """``SIGSTOP``: connections stay, nothing answers."""
        for pid in self._family():
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in reversed(self._family()):
            _send(pid, signal.SIGCONT)

    def _start(self, *argv: str) -> None:
        assert self._process is None, "it runs already"
        with (self.folder / "server.out").open("ab") as out:
            self._process = start_bound(
                argv, env=plain_environment(), out=out, account=self.account,
                death_signal=self.dies_by,
            )  # fmt: skip
        wait_until(self._answers, seconds=START_SECONDS_MAX)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.out").read_text()[-2_000:]
        return self.is_ready()

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)
        self._process.wait(STOP_SECONDS_MAX)
        self._process = None

    def _family(self) -> list[int]:
        """Return the process and its children, each of which may be in a session of its own."""
        assert self._process is not None, "it does not run"
        pid = self._process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def is_ready(self) -> bool:
        raise NotImplementedError


class Valkey(_Server):
    """
    ``durable`` keeps an append-only file (``everysec``), as ``costplatform up`` does.

    :ivar url: its own address; processes are given the proxy's
    """

    stops_by = signal.SIGTERM
    dies_by = signal.SIGKILL

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, account=Account())
        self._durable = durable
        self.url = valkey_url(self.port)
        self.client: Any = redis.Redis.from_url(self.url, socket_timeout=10)

    def __enter__(self) -> "Valkey":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        super().__exit__(kind, error, trace)
        self.client.close()

    def start(self) -> None:
        """Start it on whatever data there is."""
        config = self.folder / "valkey.conf"
        config.write_text(
            _valkey_config(
                self.folder, port=self.port, password=PASSWORD, throwaway=not self._durable
            )
            + f"masterauth {PASSWORD}\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
        )
        self._start(str(valkey_program()), str(config))

    def is_ready(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(self.stops_by)

    def empty(self) -> None:
        """Remove its data, as a new machine would have none; it must not run."""
        assert self._process is None, "it runs"
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def flush(self) -> None:
        self.client.flushall()

    def replicate(self, *, port: int) -> None:
        """Follow the primary behind ``port``, and wait until all that it has is here."""
        self.client.replicaof(ports.LOOPBACK, port)
        wait_until(self._follows, seconds=START_SECONDS_MAX)

    def promote(self) -> None:
        """Become a primary with what has arrived; what the old one had beyond it is gone."""
        self.client.replicaof("NO", "ONE")

    def _follows(self) -> bool:
        told = self.client.info("replication")
        return bool(told.get("master_link_status") == "up" and not told["master_sync_in_progress"])


class Postgres(_Server):
    """
    A cluster whose commits outlive the process, though not the machine: nothing is synced.

    :ivar url: its own address; processes are given the proxy's
    """

    stops_by = signal.SIGINT
    dies_by = signal.SIGQUIT

    def __init__(self, folder: Path, *, template: "Postgres | None" = None) -> None:
        programs = postgres_programs()
        super().__init__(folder, account=account_for(programs))
        self._programs = programs
        self.cluster = home_for(folder, self.account) / "postgres"
        if template is None:
            _make_cluster(self.cluster, programs=programs, account=self.account, password=PASSWORD)
        else:
            subprocess.run(
                ["cp", "-a", "--reflink=auto", template.cluster, self.cluster], check=True
            )
        self.url = postgres_url(self.port)

    def __enter__(self) -> "Postgres":
        self.start()
        return self

    def start(self) -> None:
        """Start it; after an immediate stop it recovers first."""
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        options = _options(port=self.port, throwaway=True)
        # A commit that was confirmed must outlive the process, or no invariant could hold.
        program = str(self._programs / "postgres")
        commit = ("-c", "synchronous_commit=on")
        self._start(program, "-D", str(self.cluster), *options, *commit)

    def is_ready(self) -> bool:
        return _ready(self.url.rpartition("/")[0])

    def stop(self) -> None:
        self._end(self.stops_by)

    def stop_at_once(self) -> None:
        """``pg_ctl stop -m immediate``: no connection ends in order, the next start recovers."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        shutil.rmtree(self.cluster, ignore_errors=True)


def valkey_url(port: int) -> str:
    return f"redis://:{PASSWORD}@{ports.LOOPBACK}:{port}/0"


def postgres_url(port: int) -> str:
    return f"postgresql://{NAME}:{PASSWORD}@{ports.LOOPBACK}:{port}/{NAME}"


def make_template(folder: Path, *, seed: Sequence[str], env: dict[str, str]) -> Postgres:
    """Make a migrated and seeded cluster that others are copied from; it is stopped."""
    template = Postgres(folder / "postgres")
    with template, Valkey(folder / "valkey", durable=False) as valkey:
        addresses = {"DATABASE_URL": template.url, "REDIS_URL": valkey.url}
        ran = subprocess.run(seed, env=env | addresses, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-4_000:]
        template.stop()
    return template


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
