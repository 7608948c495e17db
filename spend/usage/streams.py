"""Keeps the last value of each field of what a stream reports."""

from collections.abc import Mapping
from typing import Final

from spend.usage.counts import whole

DEPTH_MAX: Final = 6
NAMES_MAX: Final = 100
"""How many fields of one object are kept: a stream must not fill the memory."""


class Merged:
    """A report that is told in pieces."""

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
