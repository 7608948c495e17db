"""Takes numbers and words out of what a provider reports, mended by the rules of this package."""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

COUNT_MAX: Final = 10**9
SECONDS_MAX: Final = 10**6
ITEMS_MAX: Final = 10_000
"""How many items of a list are looked at; a longer list is cut, and that is told."""

NOTHING: Final[Mapping[str, object]] = {}
_WORD: Final = re.compile(r"[ -~]{0,64}")
_SECONDS: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")
_MILLISECOND: Final = Decimal("0.001")


class Counts:
    """Remembers whether anything that it took had to be mended."""

    def __init__(self) -> None:
        self.clamped = False

    def take(self, source: Mapping[str, object], name: str, *, at_most: int = COUNT_MAX) -> int:
        """Return the count of that name, 0 if it is not told, cut to ``at_most``."""
        value = source.get(name)
        if value is None:
            return 0
        return self.cut(self._mended(whole(value)), at_most=at_most)

    def first(
        self,
        sources: Iterable[Mapping[str, object]],
        names: Sequence[str],
        *,
        at_most: int = COUNT_MAX,
    ) -> int:
        """Return the first count above 0 that one of the sources has under one of the names."""
        for source in sources:
            for name in names:
                if count := self.take(source, name, at_most=at_most):
                    return count
        return 0

    def milliseconds(self, source: Mapping[str, object], name: str) -> int:
        """Return the seconds of that name in milliseconds, 0 if they are not told."""
        value = source.get(name)
        return 0 if value is None else self._mended(milliseconds(value))

    def word(self, source: Mapping[str, object], name: str) -> str:
        """Return the word of that name in small letters, empty if it is not told or unreadable."""
        value = source.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or not _WORD.fullmatch(value):
            self.clamped = True
            return ""
        return value.strip().lower()

    def cut(self, count: int, *, at_most: int) -> int:
        """Return ``count``, or ``at_most`` if it exceeds that."""
        self.clamped = self.clamped or count > at_most
        return min(count, at_most)

    def items(self, value: object) -> list[Mapping[str, object]]:
        """Return the objects of a list, empty if it is none."""
        if not isinstance(value, list):
            return []
        self.clamped = self.clamped or len(value) > ITEMS_MAX
        return [item for item in value[:ITEMS_MAX] if isinstance(item, Mapping)]

    def _mended(self, count: int | None) -> int:
        self.clamped = self.clamped or count is None
        return count or 0


def whole(value: object) -> int | None:
    """Return the whole number from 0 to 10⁹ that this is, else None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= COUNT_MAX else None


def milliseconds(value: object) -> int | None:
    """Return a duration in seconds as whole milliseconds, rounded half to even, else None."""
    if isinstance(value, str) and not _SECONDS.fullmatch(value):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    # An int of many digits is refused before it is written out; NaN compares as false.
    if not isinstance(value, str) and not 0 <= value <= SECONDS_MAX:
        return None
    seconds = Decimal(str(value))
    if seconds > SECONDS_MAX:
        return None
    return int(seconds.quantize(_MILLISECOND, rounding=ROUND_HALF_EVEN).scaleb(3))


def inner(source: object, *names: str) -> Mapping[str, object]:
    """Return the object at the end of that path, an empty one if there is none."""
    for name in names:
        source = source.get(name) if isinstance(source, Mapping) else None
    return source if isinstance(source, Mapping) else NOTHING
