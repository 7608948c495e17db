"""What a caller wants of the response cache: the field ``cache``, as LiteLLM's clients send it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.routes import fields as read
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers

FIELD: Final = "cache"
SECONDS_MAX: Final = 30 * 24 * 3_600
NAMESPACE_BYTES_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Controls:
    reads: bool = True
    """Whether a kept answer will do."""
    keeps: bool = True
    """Whether the answer may be kept."""
    seconds: int | None = None
    """How long it is kept; None: as long as usual."""
    age_seconds_max: int | None = None
    """A kept answer that is older will not do."""
    namespace: str = ""


USUAL: Final = Controls()


def controls_of(asked: Asked, headers: Headers) -> Controls:
    """
    Return what the request's body and its header ``cache-control`` say, together.

    :raises InvalidRequest: naming what does not fit
    """
    header = headers.get("cache-control", "")
    said = None if asked.form is not None else read.typed(asked.fields, FIELD, dict)
    if not header and said is None:
        return USUAL
    said, directives = said or {}, {part.strip().lower() for part in header.split(",")}
    _check(said)
    is_used = said.get("use-cache") is not False
    return Controls(
        reads=is_used and not said.get("no-cache") and "no-cache" not in directives,
        keeps=is_used and not said.get("no-store") and "no-store" not in directives,
        seconds=said.get("ttl"),
        age_seconds_max=said.get("s-maxage"),
        namespace=said.get("namespace") or "",
    )


def _check(said: Mapping[str, Any]) -> None:
    for name, value in said.items():
        known = _KNOWN.get(name)
        if known is None:
            raise InvalidRequest(f"{FIELD} has no field {name[:64]!r}.", param=FIELD)
        fits, must_be = known
        if value is not None and not fits(value):
            raise InvalidRequest(f"{FIELD}.{name} must be {must_be}.", param=f"{FIELD}.{name}")


def _is_seconds(value: object, *, at_least: int) -> bool:
    # True is an int, and no number of seconds.
    return type(value) is int and at_least <= value <= SECONDS_MAX


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and read.fits(value, NAMESPACE_BYTES_MAX)


_FLAG: Final = (_is_flag, "true or false")
_KNOWN: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "ttl": (
        lambda value: _is_seconds(value, at_least=1),
        f"a whole number of seconds from 1 to {SECONDS_MAX}",
    ),
    "s-maxage": (
        lambda value: _is_seconds(value, at_least=0),
        f"a whole number of seconds from 0 to {SECONDS_MAX}",
    ),
    "no-cache": _FLAG,
    "no-store": _FLAG,
    "use-cache": _FLAG,
    "namespace": (_is_name, f"text of at most {NAMESPACE_BYTES_MAX} bytes"),
}
