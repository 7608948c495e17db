"""The cache's scripts, each as it is sent: the common head, then its own text."""

from pathlib import Path
from typing import Final

from budgets.scripts import Script, script_of

TAG: Final = "{rc}"
"""Hash tag of the cache's keys, which are not the live store's own."""
ENTRY: Final = f"{TAG}e:"

_FOLDER: Final = Path(__file__).parent / "lua"


def _read(name: str) -> Script:
    return script_of((_FOLDER / "index.lua").read_text() + (_FOLDER / f"{name}.lua").read_text())


KEEP: Final = _read("keep")
DROP: Final = _read("drop")
