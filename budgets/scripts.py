"""The live store's scripts, each as it is sent: the common head, then its own text."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TAG: Final = "{p0}"
"""Hash tag of the partition's keys. There is one partition; every key carries it from day one."""

_FOLDER: Final = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha: str


def _read(name: str) -> Script:
    text = (_FOLDER / "common.lua").read_text() + (_FOLDER / f"{name}.lua").read_text()
    return Script(text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


RESERVE: Final = _read("reserve")
SETTLE: Final = _read("settle")
RELEASE: Final = _read("release")
LOAD: Final = _read("load")
SWEEP: Final = _read("sweep")
MIRROR: Final = _read("mirror")
RELOAD: Final = _read("reload")
RAISE_VERSIONS: Final = _read("raise_versions")
ALL: Final = (RESERVE, SETTLE, RELEASE, LOAD, SWEEP, MIRROR, RELOAD, RAISE_VERSIONS)
