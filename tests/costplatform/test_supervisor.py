"""``costplatform up`` starts all in order, mends what breaks, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from budgets.metrics import FOLDER_VARIABLE
from costplatform import ports, programs, welcome
from costplatform.programs import Site
from costplatform.servers import Addresses
from tests.stack import heed_interrupts

WAIT_SECONDS_MAX = 15.0


class Up:
    """One running ``up``, and what it has said so far."""

    def __init__(self, data: Path, **variables: str) -> None:
        self.data = data
        self.port = ports.free_from(22_000 + os.getpid() % 1_000)
        self.said = ""
        variables = {"COSTPLATFORM_DATA_DIR": str(data), "PORT": str(self.port)} | variables
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.costplatform.small_programs"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"COSTPLATFORM_SANDBOX": "off"} | variables,
            preexec_fn=heed_interrupts,
        )

    def wait_for(self, sentence: str) -> str:
        """Read on until a line holds ``sentence``; return that line."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.said += line
            if sentence in line:
                return line
        raise AssertionError(f"it ended without {sentence!r}:\n{self.said}")

    def end(self, by: signal.Signals = signal.SIGINT) -> int:
        self.child.send_signal(by)
        self.said += self.child.communicate(timeout=60)[0]
        return self.child.returncode

    def child_named(self, name: str) -> int:
        """Return the process that runs ``name``; the stand-ins have it among their arguments."""
        (found,) = [pid for pid in descendants(self.child.pid) if name in arguments(pid)]
        return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(**variables: str) -> Up:
        started.append(Up(tmp_path / "var", **variables))
        return started[-1]

    yield start
    for running in started:
        running.child.kill()
        running.child.communicate()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    addresses = Addresses(database_url="postgresql://x", redis_url="redis://y")
    with ports.listening(host=ports.LOOPBACK, port=ports.free_from(23_000)) as web:
        yield Site(data=tmp_path, addresses=addresses, web=web)


OWN_SERVERS = {"DATABASE_URL": "", "REDIS_URL": ""}
"""Empty is not given: so ``up`` starts its own."""


def test_first_start_shows_what_is_never_shown_again(up: Callable[..., Up]) -> None:
    first = up()
    first.wait_for("READY http://127.0.0.1:")
    first.end()
    later = up()
    later.wait_for("READY http://127.0.0.1:")
    later.end()

    for shown_once in ("login     admin", "pw-1", "Bearer sk-1", '"model": "m"'):
        assert shown_once in first.said
        assert shown_once not in later.said
    assert f"http://127.0.0.1:{later.port}/admin/" in later.said
    assert "costplatform_master_key" in later.said


def test_interrupt_ends_all_in_order(up: Callable[..., Up]) -> None:
    running = up(**OWN_SERVERS)
    running.wait_for("READY ")
    notes = running.data / "notes"
    wait_until(lambda: notes.exists() and notes.read_text().count("started") == 3)
    family = descendants(running.child.pid)

    code = running.end(signal.SIGINT)

    assert code == 0
    assert re.findall(r"^(\S+) stopped\.$", running.said, re.MULTILINE) == [
        *("worker", "stubborn", "web-1", "web-2", "recorder", "valkey", "postgres")
    ]
    assert notes.read_text().splitlines()[-2:] == ["worker ended", "recorder ended"]
    assert "stubborn did not end in 0.3 s: killed" in running.said
    assert len(family) > len(("postgres", "valkey", "recorder", "web", "web", "worker"))
    assert not alive(family)


def test_killed_supervisor_leaves_no_process_and_the_next_one_starts(up: Callable[..., Up]) -> None:
    killed = up(**OWN_SERVERS)
    killed.wait_for("READY ")
    database_url = (killed.data / "run" / "database_url").read_text()
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    family = descendants(killed.child.pid)

    killed.end(signal.SIGKILL)

    wait_until(lambda: not alive(family))
    later = up(**OWN_SERVERS)
    later.wait_for("READY ")
    with psycopg.connect((later.data / "run" / "database_url").read_text()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    later.end()


def test_killed_child_is_started_again_while_the_others_serve(up: Callable[..., Up]) -> None:
    running = up()
    running.wait_for("READY ")
    served_by = int(served(running.port))

    os.kill(served_by, signal.SIGKILL)

    assert "ended (SIGKILL), starts again in 1 s" in running.wait_for("web-")
    assert int(served(running.port)) != served_by
    worker = running.child_named("worker")
    os.kill(worker, signal.SIGKILL)
    running.wait_for("worker ended (SIGKILL), starts again in 1 s")
    wait_until(lambda: any("worker" in arguments(pid) for pid in descendants(running.child.pid)))
    assert running.end() == 0


def test_killed_postgres_is_started_again(up: Callable[..., Up]) -> None:
    running = up(**OWN_SERVERS)
    running.wait_for("READY ")
    database_url = (running.data / "run" / "database_url").read_text()

    os.kill(running.child_named("unix_socket_directories="), signal.SIGKILL)

    running.wait_for("postgres ended (SIGKILL), starts again in 1 s")
    wait_until(lambda: connects(database_url))
    assert running.end(signal.SIGTERM) == 0


def test_second_up_on_the_same_data_is_refused(up: Callable[..., Up]) -> None:
    first = up()
    first.wait_for("READY ")
    second = up()

    second.wait_for("is in use by another `costplatform up`")

    assert second.child.wait(WAIT_SECONDS_MAX) == 1
    assert first.child.poll() is None
    first.end()


def test_taken_port_is_named(up: Callable[..., Up]) -> None:
    with ports.listening(host=ports.LOOPBACK, port=ports.free_from(24_000)) as taken:
        port = taken.getsockname()[1]
        refused = up(PORT=str(port))

        refused.wait_for(f"PORT: cannot listen on 127.0.0.1:{port}")

    assert refused.child.wait(WAIT_SECONDS_MAX) == 1


def test_failed_migration_ends_the_start_with_its_last_words(up: Callable[..., Up]) -> None:
    running = up(SMALL_MIGRATE="raise SystemExit('no such column')")

    running.wait_for("migrate failed (exit 1):")
    running.wait_for("no such column")

    assert running.child.wait(WAIT_SECONDS_MAX) == 1


def test_stop_during_the_start_is_a_stop(up: Callable[..., Up]) -> None:
    running = up(SMALL_MIGRATE="import time; time.sleep(60)")
    running.wait_for("Migrating")

    began = time.monotonic()
    code = running.end(signal.SIGTERM)

    assert code == 0
    assert time.monotonic() - began < WAIT_SECONDS_MAX


def test_real_programs_start_in_this_order(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSTPLATFORM_SANDBOX", "on")
    monkeypatch.setenv("WEB_CONCURRENCY", "2")

    wanted = programs.all_programs(site)

    stages = [*wanted.stages, *wanted.background]
    assert [[process.name for process in stage] for stage in stages] == [
        ["sandbox"],
        ["recorder"],
        ["web-1", "web-2"],
        ["worker"],
        ["beat"],
    ]


def test_gateway_may_call_the_sandbox_besides_what_the_user_allows(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSTPLATFORM_SANDBOX", "on")
    monkeypatch.setenv("COSTPLATFORM_SANDBOX_PORT", "8011")
    monkeypatch.setenv("GATEWAY_ALLOW_PRIVATE_UPSTREAMS", "10.0.0.0/8")

    variables = programs.variables_for(site)

    assert variables["GATEWAY_ALLOW_PRIVATE_UPSTREAMS"] == "10.0.0.0/8,127.0.0.1/32:8011"


def test_all_processes_of_one_up_count_in_one_folder(site: Site) -> None:
    variables = programs.variables_for(site)

    assert variables[FOLDER_VARIABLE] == str(programs.metrics_folder(site.data))


def test_variable_we_set_replaces_its_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL_FILE", "/run/secrets/redis")

    variables = programs.variables_for(site)

    assert variables["REDIS_URL"] == "redis://y"
    assert "REDIS_URL_FILE" not in variables


def test_address_to_open_is_one_a_browser_can_reach() -> None:
    with ports.listening(host="0.0.0.0", port=ports.free_from(23_000)) as web:
        assert welcome.web_url(web) == f"http://127.0.0.1:{web.getsockname()[1]}"


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not reached():
        assert time.monotonic() < deadline, "it was waited for in vain"
        time.sleep(0.05)


def descendants(pid: int) -> set[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # it has ended meanwhile, and has none
        return set()
    found = {int(child) for child in children}
    return found.union(*(descendants(child) for child in found))


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def alive(pids: set[int]) -> set[int]:
    """Return who still runs; a zombie that waits for its new parent does not."""
    stats = (Path(f"/proc/{pid}/stat") for pid in pids)
    return {int(path.parent.name) for path in stats if state(path) not in "ZX"}


def state(path: Path) -> str:
    try:
        return path.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def served(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


def connects(database_url: str) -> bool:
    try:
        psycopg.connect(database_url).close()
    except psycopg.OperationalError:
        return False
    return True
