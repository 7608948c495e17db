"""The embedded servers keep their data, refuse strangers, and start again after any end."""

import os
import pwd
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from costplatform import env, ports, processes, servers
from costplatform.servers import accounts
from costplatform.servers.postgres import postgres, postgres_programs
from costplatform.servers.server import port_for
from costplatform.servers.valkey import valkey_program

STRANGE_PASSWORD = 'p@ss/w:rd"%\\ é'


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COSTPLATFORM_DATA_DIR", str(tmp_path / "var"))
    return tmp_path / "var"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with ports.listening(host=ports.LOOPBACK, port=ports.free_from(21_000)) as listener:
        yield listener.getsockname()[1]


def test_second_start_finds_what_the_first_wrote(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSTPLATFORM_PG_PASSWORD", STRANGE_PASSWORD)
    monkeypatch.setenv("COSTPLATFORM_VALKEY_PASSWORD", STRANGE_PASSWORD)
    with servers.running() as first:
        with psycopg.connect(first.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        with redis.Redis.from_url(first.redis_url) as client:
            client.set("kept", "42")

    with servers.running() as second:
        with psycopg.connect(second.database_url) as connection:
            answer = connection.execute("SELECT answer FROM kept").fetchone()
        with redis.Redis.from_url(second.redis_url) as client:
            value = client.get("kept")

    assert answer == (42,)
    assert value == b"42"


def test_start_after_a_kill_is_not_stopped_by_what_was_left(data: Path) -> None:
    (data / "postgres.new").mkdir(parents=True)
    (data / "postgres.new" / "data").write_text("an interrupted first start")
    server = postgres(throwaway=True)
    # A number that was used again since, as happens when a container starts anew.
    (data / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{data / 'postgres'}\n0\n")

    for ended_by in (signal.SIGKILL, signal.SIGINT):
        with processes.running(server.process, logs=data / "log") as child:
            while not server.ready():
                assert child.poll() is None, processes.log_tail(server.process, logs=data / "log")
            child.send_signal(ended_by)
            child.wait(10)

    assert not (data / "postgres.new").exists()


def test_data_directory_serves_one_starter_at_a_time(data: Path) -> None:
    with processes.locked(data / "lock"), pytest.raises(processes.LockHeld), servers.running():
        pass


def test_wrong_password_is_refused() -> None:
    database = urlsplit(os.environ["DATABASE_URL"])
    store = urlsplit(os.environ["REDIS_URL"])

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            f"postgresql://costplatform:wrong@{database.hostname}:{database.port}/postgres"
        )
    for credentials in ("", ":wrong@"):
        address = f"redis://{credentials}{store.hostname}:{store.port}/0"
        with redis.Redis.from_url(address) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_postgres_knows_letters_beyond_ascii_and_checks_its_pages() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        row = connection.execute(
            "SELECT upper('é'), current_setting('data_checksums'), current_setting('TimeZone')"
        ).fetchone()

    assert row == ("É", "on", "UTC")


def test_no_process_shows_a_password_in_its_arguments() -> None:
    passwords = {urlsplit(os.environ[name]).password for name in ("DATABASE_URL", "REDIS_URL")}
    arguments = [read_arguments(path) for path in Path("/proc").glob("[0-9]*/cmdline")]

    assert any("postgres" in line for line in arguments)
    assert any("valkey-server" in line for line in arguments)
    assert not any(str(password) in line for password in passwords for line in arguments)


def read_arguments(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def test_nothing_listens_beyond_this_machine() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        row = connection.execute(
            "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories')"
        ).fetchone()
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        bound = client.config_get("bind")

    assert row == ("127.0.0.1", "")
    assert bound == {"bind": "127.0.0.1"}


def test_addresses_are_written_for_their_owner_only(data: Path) -> None:
    servers.announce(servers.Addresses(database_url="postgresql://x", redis_url="redis://y"))

    for name, address in {"database_url": "postgresql://x", "redis_url": "redis://y"}.items():
        path = data / "run" / name
        assert path.read_text() == address
        assert path.stat().st_mode & 0o777 == 0o600


def test_taken_default_port_gives_way_to_the_next(taken_port: int) -> None:
    found = port_for("PROBE_PORT", taken_port, throwaway=False)

    assert taken_port < found < ports.EPHEMERAL_MIN


def test_taken_port_that_was_asked_for_is_refused_by_name(
    taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_PORT", str(taken_port))

    with pytest.raises(env.SettingError, match=f"^PROBE_PORT: port {taken_port} is taken"):
        port_for("PROBE_PORT", 1, throwaway=False)


def test_data_of_another_version_is_refused(data: Path) -> None:
    (data / "postgres").mkdir(parents=True)
    (data / "postgres" / "PG_VERSION").write_text("9\n")

    with pytest.raises(servers.ServerError, match="was made by Postgres 9"):
        postgres()


def test_changed_password_is_refused_by_name(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres(throwaway=True)
    monkeypatch.setenv("COSTPLATFORM_PG_PASSWORD", "another")

    with pytest.raises(env.SettingError, match=r"^COSTPLATFORM_PG_PASSWORD: "), servers.running():
        pass


@pytest.mark.parametrize(
    ("name", "find"),
    [
        ("COSTPLATFORM_PG_BIN", postgres_programs),
        ("COSTPLATFORM_VALKEY_BIN", valkey_program),
    ],
)
def test_wrong_path_of_a_program_is_refused_by_name(
    name: str, find: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "absent"))

    with pytest.raises(env.SettingError, match=f"^{name}: must be"):
        find()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up root")
def test_root_that_cannot_map_itself_drops_to_another_user(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not all(folder.stat().st_mode & 0o001 for folder in postgres_programs().parents):
        pytest.skip("this checkout is in a folder that no other user may enter")
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        monkeypatch.setattr(accounts, "_mapped_account", lambda: None)
        monkeypatch.setattr(accounts, "DEDICATED_USER", "nobody")
        monkeypatch.setattr(accounts, "DEDICATED_DIRECTORY", Path(open_to_all) / "costplatform")
        user = pwd.getpwnam("nobody").pw_uid
        server = postgres(throwaway=True)

        with processes.running(server.process, logs=data / "log") as child:
            while not server.ready():
                assert child.poll() is None, processes.log_tail(server.process, logs=data / "log")
            runs_as = Path(f"/proc/{child.pid}").stat().st_uid

        assert runs_as == server.directory.stat().st_uid == user


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused by Postgres")
def test_root_that_cannot_run_postgres_is_told_what_to_do(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_can_run", lambda *_: False)

    with pytest.raises(servers.ServerError, match="Start as a user other than root, or set DATA"):
        postgres()
