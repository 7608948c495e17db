"""Lists of the models that somebody may call: names, or beginnings of names followed by ``*``."""

from collections.abc import Collection, Iterable
from typing import Final

WILDCARD: Final = "*"


def allows(allowed: Collection[str], model: str) -> bool:
    """Return whether a list has this model; an empty one has all."""
    if not allowed or model in allowed:
        return True
    return any(each.endswith(WILDCARD) and model.startswith(each[:-1]) for each in allowed)


def common(lists: Iterable[Collection[str]]) -> list[str] | None:
    """Return what all lists allow, as they name it; None where none of them says anything."""
    saying = [each for each in lists if each]
    if not saying:
        return None
    named = {name for each in saying for name in each}
    return sorted(name for name in named if all(allows(each, name) for each in saying))
