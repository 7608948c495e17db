"""The live store's scripts, each as it is sent: the common head, then its own text."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.conf import settings

TAG: Final = "{p0}"
"""Hash tag of the partition's keys. There is one partition; every key carries it from day one."""

_FOLDER: Final = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha: str


def _read(name: str) -> Script:
    # The store's own clock rules; tests may move it, production refuses that.
    text = f"local CLOCK_OFFSET_MS = {settings.STORE_CLOCK_OFFSET_MS}\n"
    text += (_FOLDER / "common.lua").read_text() + (_FOLDER / f"{name}.lua").read_text()
    return script_of(text)


def script_of(text: str) -> Script:
    """Return a script with the hash by which a server runs it."""
    return Script(text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


RESERVE: Final = _read("reserve")
SETTLE: Final = _read("settle")
RELEASE: Final = _read("release")
LOAD: Final = _read("load")
SWEEP: Final = _read("sweep")
MIRROR: Final = _read("mirror")
RELOAD: Final = _read("reload")
RAISE_VERSIONS: Final = _read("raise_versions")
HOLD_AGAIN: Final = _read("hold_again")
DROP_OTHERS: Final = _read("drop_others")
POSITION: Final = _read("position")
CLOSE: Final = _read("close")
FORGET: Final = _read("forget")
ALL: Final = (
    RESERVE, SETTLE, RELEASE, LOAD, SWEEP, MIRROR, RELOAD, RAISE_VERSIONS, HOLD_AGAIN, DROP_OTHERS,
    POSITION,
)  # fmt: skip
