"""
Under whom Postgres runs: it refuses root.

Root either looks like another user, in a namespace of its own, or drops to a system user.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from costplatform import processes
from costplatform.servers.server import ServerError

DEDICATED_USER: Final = "costplatform"
DEDICATED_DIRECTORY: Final = Path("/var/lib/costplatform")


@dataclass(frozen=True)
class Account:
    """Under whom Postgres runs."""

    prefix: tuple[str, ...] = ()
    user: int | None = None


def account_for(programs: Path) -> Account:
    """
    Return under whom Postgres can run here.

    :raises ServerError: if we are root and nobody else can
    """
    if os.geteuid() != 0:
        return Account()
    for choose in (_mapped_account, _dedicated_account):
        account = choose()
        if account is not None and _can_run(account, programs / "initdb"):
            return account
    raise ServerError(
        "Postgres does not run as root, and here root can neither map itself to another user "
        f"(unshare -U) nor start {programs} as `{DEDICATED_USER}`. Start as a user other than "
        "root, or set DATABASE_URL to a Postgres that runs already."
    )


def _mapped_account() -> Account | None:
    """Root in a user namespace where it looks like another user: all files stay root's."""
    unshare = shutil.which("unshare")
    # Postgres looks the user up, so it must be one that exists.
    user = next((user for user in pwd.getpwall() if user.pw_uid), None)
    if unshare is None or user is None:
        return None
    ids = (f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}")
    return Account(prefix=(unshare, "--user", *ids, "--"))


def _dedicated_account() -> Account | None:
    """Return a system user of our own, which is made when it is missing."""
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    with contextlib.suppress(KeyError):
        return Account(user=pwd.getpwnam(DEDICATED_USER).pw_uid)
    if useradd is None:
        return None
    command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    subprocess.run([*command, DEDICATED_USER], check=False)  # noqa: S603
    with contextlib.suppress(KeyError):
        return Account(user=pwd.getpwnam(DEDICATED_USER).pw_uid)
    return None


def _can_run(account: Account, program: Path) -> bool:
    try:
        tried = subprocess.run(  # noqa: S603
            [*account.prefix, program, "--version"],
            **processes.dropped_to(account.user),
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return tried.returncode == 0


def home_for(data: Path, account: Account) -> Path:
    """Return where Postgres's data is: elsewhere if its user could not enter our directory."""
    if account.user is None:
        return data
    DEDICATED_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    home = DEDICATED_DIRECTORY / sha256(os.fsencode(data)).hexdigest()[:12]
    home.mkdir(mode=0o700, exist_ok=True)
    give(home, account)
    return home


def give(path: Path, account: Account) -> None:
    if account.user is not None:
        os.chown(path, account.user, pwd.getpwuid(account.user).pw_gid)
