"""Requests that carry tags go to the deployments that carry one of them."""

from collections.abc import Collection, Sequence
from typing import Final, Protocol, TypeVar

DEFAULT: Final = "default"
"""A deployment with this tag also takes what fits no other."""


class Tagged(Protocol):
    @property
    def tags(self) -> Sequence[str]: ...


T = TypeVar("T", bound=Tagged)


def fitting(candidates: Sequence[T], *, tags: Collection[str]) -> list[T]:
    """
    Return the deployments that carry one of a request's tags; if none does, those without tags
    or with the tag ``default``. It may be that none fits.
    """
    wanted = frozenset(tags)
    if wanted and (matching := [each for each in candidates if not wanted.isdisjoint(each.tags)]):
        return matching
    return [each for each in candidates if not each.tags or DEFAULT in each.tags]
