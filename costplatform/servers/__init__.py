"""
The embedded servers: Postgres and Valkey, started from the programs that two wheels carry.

Only the programs are used; the wheels' Python is never imported. Both servers listen on
127.0.0.1 alone and ask for a password, and the passwords stand in no process's arguments.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from costplatform import env, processes
from costplatform.servers.postgres import postgres
from costplatform.servers.server import Server, ServerError, did_not_start
from costplatform.servers.valkey import valkey

__all__ = [
    "Addresses",
    "Server",
    "ServerError",
    "announce",
    "did_not_start",
    "running",
    "throwaway",
]

START_SECONDS_MAX: Final = 60.0
THROWAWAY_PREFIX: Final = "costplatform-throwaway-"
THROWAWAY_SECONDS_MIN: Final = 60


class Addresses(NamedTuple):
    database_url: str
    redis_url: str


NONE_GIVEN: Final = Addresses(database_url="", redis_url="")


@contextlib.contextmanager
def running(*, throwaway: bool = False, given: Addresses = NONE_GIVEN) -> Iterator[Addresses]:
    """
    Start the servers that are not ``given`` on the data directory, and end them on the way out;
    what is throw-away is not synced to disk, and is removed.

    :raises processes.LockHeld: if other processes use this data directory
    :raises ServerError: if a server cannot be started
    """
    data = env.data_directory()
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.locked(data / "lock"))
        urls = []
        for make, url in zip((postgres, valkey), given, strict=True):
            if url:
                urls.append(url)
                continue
            server = make(throwaway=throwaway)
            if throwaway:
                stack.callback(shutil.rmtree, server.directory, ignore_errors=True)
            stack.enter_context(_started(server, logs=data / "log"))
            urls.append(server.url)
        yield Addresses(*urls)


@contextlib.contextmanager
def throwaway(*, given: Addresses = NONE_GIVEN) -> Iterator[Addresses]:
    """Start the servers that are not ``given`` on a new data directory, removed on the way out."""
    _remove_abandoned()
    before = os.environ.get("COSTPLATFORM_DATA_DIR")
    with tempfile.TemporaryDirectory(prefix=THROWAWAY_PREFIX, ignore_cleanup_errors=True) as data:
        os.environ["COSTPLATFORM_DATA_DIR"] = data
        try:
            with running(throwaway=True, given=given) as addresses:
                yield addresses
        finally:
            if before is None:
                del os.environ["COSTPLATFORM_DATA_DIR"]
            else:
                os.environ["COSTPLATFORM_DATA_DIR"] = before


def announce(addresses: Addresses) -> None:
    """Write down where the servers are, for commands that are run beside them."""
    directory = env.data_directory() / "run"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, address in addresses._asdict().items():
        draft = directory / f"{name}.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(address)
        draft.replace(directory / name)


@contextlib.contextmanager
def _started(server: Server, *, logs: Path) -> Iterator[None]:
    deadline = time.monotonic() + START_SECONDS_MAX
    with processes.running(server.process, logs=logs) as child:
        while not server.ready():
            if child.poll() is not None or time.monotonic() > deadline:
                raise did_not_start(server, logs=logs)
            time.sleep(0.02)
        yield


def _remove_abandoned() -> None:
    """Remove what was left by throw-away servers whose starter was killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{THROWAWAY_PREFIX}*"):
        with contextlib.suppress(processes.LockHeld, OSError):
            # A new one has no lock yet.
            if time.time() - path.stat().st_mtime > THROWAWAY_SECONDS_MIN:
                with processes.locked(path / "lock"):
                    shutil.rmtree(path, ignore_errors=True)
