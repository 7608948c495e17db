"""
Settings from the environment, checked where they are read.

Every reader names the variable, its default and its bounds; a value that does not fit ends
the start with that name. A variable ``NAME`` may also be given as ``NAME_FILE``, the path of a
file that holds it, so that secrets need not stand in the environment.
"""

import os
import re
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Final

NAMES: Final[dict[str, str]] = {}
"""Every variable that was read, with its default as text: what ``docs/reference`` must list."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


class SettingError(SystemExit):
    """Ends the process with one sentence that begins with the variable's name."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")


def given(name: str) -> str | None:
    """Return what the environment says of ``name``, or None; ``NAME_FILE`` is read and stripped."""
    value = os.environ.get(name)
    path = os.environ.get(f"{name}_FILE")
    if value is not None and path is not None:
        raise SettingError(name, f"is set, and {name}_FILE too; set one of them")
    if path is None:
        return value
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise SettingError(f"{name}_FILE", f"cannot be read: {error.strerror}") from error


def text(name: str, default: str) -> str:
    NAMES[name] = default
    value = given(name)
    return default if value is None else value


def choice(name: str, default: str, *, of: tuple[str, ...]) -> str:
    value = text(name, default)
    if value not in of:
        raise SettingError(name, f"must be one of {', '.join(of)}")
    return value


def flag(name: str, *, default: bool) -> bool:
    value = text(name, "on" if default else "off").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise SettingError(name, "must be on or off")


def integer(name: str, default: int, *, low: int, high: int) -> int:
    value = text(name, str(default)).strip()
    if not (value.isascii() and value.removeprefix("-").isdigit()):
        raise SettingError(name, "must be a whole number")
    number = int(value)
    if not low <= number <= high:
        raise SettingError(name, f"must be from {low} to {high}")
    return number


def factor(name: str, default: str, *, high: int) -> Decimal:
    """Return an exact factor above 1."""
    value = text(name, default).strip()
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value):
        raise SettingError(name, "must be a number such as 1.2")
    number = Decimal(value)
    if not 1 < number <= high:
        raise SettingError(name, f"must be above 1, and {high} at most")
    return number


def names(name: str, default: str) -> list[str]:
    """Return a comma-separated list without its blanks."""
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def testing() -> bool:
    """Return whether this process is one that a test of the project has started."""
    return flag("COSTPLATFORM_TESTING", default=False)


def data_directory() -> Path:
    return Path(text("COSTPLATFORM_DATA_DIR", "./var")).absolute()


def kept_secret(name: str, *, prefix: str = "", random_bytes: int = 32) -> str:
    """
    Return the secret ``name`` from the environment, else the one kept in the data directory,
    which is made at the first call (mode 0600) and never changed.
    """
    NAMES[name] = "made at first start, kept in the data directory"
    value = given(name)
    if value is not None:
        return value
    path = data_directory() / "secrets" / name.lower()
    if not path.exists():
        _keep(path, prefix + secrets.token_urlsafe(random_bytes))
    return path.read_text().strip()


def running_server(name: str, file: str) -> str:
    """Return the address in ``name``, else the embedded server's, else ``""`` if there is none."""
    NAMES[name] = "the embedded server's"
    value = given(name)
    if value is not None:
        return value
    path = data_directory() / "run" / file
    return path.read_text().strip() if path.exists() else ""


def _keep(path: Path, value: str) -> None:
    """Write ``value`` unless another process did so first: the link is what decides."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(value)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
