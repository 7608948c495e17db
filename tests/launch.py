"""Starts processes that cannot outlive the test run; needs no Django."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from costplatform import ports
from costplatform.servers.accounts import Account

NO_OTHER: Final = Account()
BOUND: Final = Path(__file__).parent / "bound.py"


def start_bound(
    argv: Sequence[str], *, env: Mapping[str, str] | None, out: IO[bytes],
    pass_fds: Sequence[int] = (), account: Account = NO_OTHER,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start a process in a session of its own that dies when the thread that started it does."""
    user = "" if account.user is None else str(account.user)
    bound = [sys.executable, "-IS", str(BOUND), str(int(death_signal)), str(os.getpid()), user]
    return subprocess.Popen(
        [*account.prefix, *bound, *argv], env=env, stdin=subprocess.DEVNULL,
        stdout=out, stderr=out, pass_fds=pass_fds, start_new_session=True,
    )  # fmt: skip


def somewhere_free() -> int:
    """Return a free port that another test run is not likely to try for at this moment."""
    return ports.free_from(random.randrange(20_000, 30_000))
