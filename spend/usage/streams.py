"""What the streams of several shapes have in common."""

from collections.abc import Mapping
from typing import Final, Protocol

from spend.usage.counts import inner, whole
from spend.usage.reading import Reading

DEPTH_MAX: Final = 6
NAMES_MAX: Final = 100
"""How many fields of one object are kept: a stream must not fill the memory."""


class Read(Protocol):
    """Reads a whole answer."""

    def __call__(
        self, answer: Mapping[str, object], /, *, request: Mapping[str, object]
    ) -> Reading | None: ...


class LastTold:
    """Reads each event as if it were a whole answer; the last one that tells a usage counts."""

    def __init__(self, read: Read, *, request: Mapping[str, object]) -> None:
        self._read = read
        self._request = request
        self._reading: Reading | None = None

    def add(self, event: object) -> None:
        """Take over what an event tells."""
        self._reading = self._read(inner(event), request=self._request) or self._reading

    def reading(self) -> Reading | None:
        """Return what the events so far tell."""
        return self._reading


class Merged:
    """A report that is told in pieces: the last value of each field is kept."""

    def __init__(self) -> None:
        self.report: dict[str, object] = {}

    def add(self, piece: Mapping[str, object]) -> None:
        """Take over what is told; null, 0 and what is no count never replace a count."""
        _merge(self.report, piece, depth=DEPTH_MAX)

    def forget(self, part: str, name: str) -> None:
        """Forget a field of a part of the report."""
        kept = self.report.get(part)
        if isinstance(kept, dict):
            kept.pop(name, None)


def _merge(into: dict[str, object], piece: Mapping[str, object], *, depth: int) -> None:
    for name, value in piece.items():
        before = into.get(name)
        is_full = before is None and len(into) >= NAMES_MAX
        if value is None or is_full or not _may_replace(before, value):
            continue
        if isinstance(value, Mapping) and depth > 1:
            kept = before if isinstance(before, dict) else {}
            into[name] = kept
            _merge(kept, value, depth=depth - 1)
        else:
            into[name] = value


def _may_replace(before: object, value: object) -> bool:
    if isinstance(before, dict):
        return isinstance(value, Mapping)
    return whole(before) is None or bool(whole(value))
