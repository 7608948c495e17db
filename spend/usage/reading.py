"""What was read out of an answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from spend.components import OUTPUT_COMPONENTS, Component, Usage, total_of
from spend.usage.counts import Counts


@dataclass(frozen=True, slots=True)
class Reading:
    """
    The classes of usage, and what else decides the price; empty where nothing was told.

    ``service_tier`` is the one that served, ``variant`` what was made ("high/1024x1536",
    "1080p") or how ("fast"), ``region`` where it was made.
    """

    usage: Usage
    was_clamped: bool
    service_tier: str = ""
    variant: str = ""
    region: str = ""


def reading(
    counts: Counts,
    usage: Mapping[Component, int],
    *,
    service_tier: str = "",
    variant: str = "",
    region: str = "",
) -> Reading:
    """Return the reading of one answered request: classes without a count are left out."""
    counted = {component: n for component, n in usage.items() if n} | {Component.REQUEST: 1}
    return Reading(
        usage=counted,
        was_clamped=counts.clamped,
        service_tier=service_tier,
        variant=variant,
        region=region,
    )


def larger(told: Usage, seen: Usage) -> Usage:
    """Return ``told``, its output raised to what was seen of it: the telling was cut off."""
    missing = total_of(seen, OUTPUT_COMPONENTS) - total_of(told, OUTPUT_COMPONENTS)
    return {**told, Component.OUTPUT: told.get(Component.OUTPUT, 0) + max(0, missing)}
