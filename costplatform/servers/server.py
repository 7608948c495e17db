"""What Postgres and Valkey have in common: where programs, ports and addresses come from."""

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from costplatform import env, ports, processes
from costplatform.processes import Process


class ServerError(SystemExit):
    """A server cannot be started; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that is ready to be started: ``directory`` is where it keeps its data."""

    process: Process
    label: str
    url: str
    directory: Path
    ready: Callable[[], bool]
    """Ask the server; for Postgres this also makes the database when it is missing."""


def did_not_start(server: Server, *, logs: Path) -> ServerError:
    return ServerError(
        f"{server.label} did not start. Its log {processes.log_path(server.process, logs=logs)} "
        f"ends with:{processes.log_tail(server.process, logs=logs)}"
    )


def port_for(name: str, default: int, *, throwaway: bool) -> int:
    """
    Return the port ``name`` asks for, else ``default`` or the next free one.

    :raises env.SettingError: if the port asked for is taken
    """
    if throwaway:
        # Far from the defaults, and apart from other test runs that start at this moment.
        return ports.free_from(random.randrange(20_000, 30_000))  # noqa: S311
    port = env.integer(name, default, low=1, high=65_535)
    if ports.is_free(port):
        return port
    if env.given(name) is not None:
        raise env.SettingError(name, f"port {port} is taken by another program")
    return ports.free_from(port + 1)


def version_of(program: Path) -> str:
    """
    Return the first number in what the program says of its version.

    :raises ServerError: if it cannot be run
    """
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerError(f"{program} cannot be run: {error}") from error
    words = said.stdout.replace("v=", "").split()
    return next(word for word in words if word[0].isdigit())


def wheel_folder(module: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(module)
    return Path(spec.origin).parent if spec and spec.origin else None


def plain_environment() -> dict[str, str]:
    """Return an environment without our secrets, and without the PG variables of a client."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
