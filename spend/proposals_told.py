"""Price changes in words, for the command line and the admin."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from budgets import money
from spend import units
from spend.catalogues import recorded
from spend.catalogues.diff import Change, Difference, Kind
from spend.catalogues.listing import BEGINNING
from spend.components import TOKENS, Component
from spend.jumps import is_dear
from spend.rates import UnitRate

LINES_MAX: Final = 500
COUNT_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "new_models": ("new model", "new models"),
    "new_prices": ("new price", "new prices"),
    "corrections": ("correction", "corrections"),
    "kept": ("kept as made by hand", "kept as made by hand"),
    "jumps": ("to be confirmed", "to be confirmed"),
    "withdrawn": ("withdrawn", "withdrawn"),
    "unchanged": ("unchanged", "unchanged"),
}
"""What is counted, in words for one and for several."""
KIND_WORDS: Final[Mapping[Kind, str]] = {
    Kind.NEW_MODEL: "new model",
    Kind.NEW_PRICE: "new price",
    Kind.CORRECTION: "correction",
    Kind.KEPT: "kept: made by hand",
}


def counts(counted: Mapping[str, int]) -> str:
    """Return what there is how often, without what there is not."""
    parts = [
        f"{counted[name]:,} {one if counted[name] == 1 else several}"
        for name, (one, several) in COUNT_WORDS.items()
        if counted.get(name)
    ]
    return ", ".join(parts) or "nothing"


def amount(component: str, rate: Mapping[str, Any] | None) -> str:
    """Return a rate as price pages say it: for a million tokens, a second, or one."""
    if rate is None:
        return "no rate"
    units_told = units.default_per(Component(component))
    return money.plain(_for(Decimal(rate["rate"]) * units_told, rate["per"]))


def unit_words(component: str) -> str:
    """Return for what a class is priced where people read it: ``1M tokens``, ``search``."""
    unit = units.unit_of(Component(component))
    return f"1M {unit.many}" if unit.default_per == units.MILLION else unit.one


def class_words(line: Mapping[str, Any]) -> str:
    """Return a class under its conditions."""
    name = units.name_of(Component(line["component"]))
    above = f"over {line['tier_from']:,} tokens" if line["tier_from"] else ""
    parts = filter(None, (above, line["service_tier"], line["variant"], line["window"]))
    conditions = ", ".join(parts)
    return f"{name} ({conditions})" if conditions else name


def lines_of(change: recorded.Recorded) -> list[dict[str, Any]]:
    """Return the lines of a change; those of a model that is new are its rates."""
    if change["held"] is not None:
        return list(change["lines"])
    currency = change["currency"]
    return [
        {
            "component": component, "tier_from": tier_from, "service_tier": service_tier,
            "variant": variant, "window": window, "old": None, "factor": None,
            "new": {"rate": rate, "per": per}, "jump": _is_dear(component, rate, per, currency),
        }
        for component, rate, per, tier_from, service_tier, variant, window in change["rates"]
    ]  # fmt: skip


def lines(found: Difference) -> Iterator[str]:
    """Yield a difference a line, the first ones only, and then its sums."""
    told = [line for change in found.changes for line in _told(change)]
    yield from told[:LINES_MAX]
    if len(told) > LINES_MAX:
        yield f"… and {len(told) - LINES_MAX:,} more lines"
    for name in found.withdrawn:
        yield f"{name}: withdrawn; its price stays"
    kept = [recorded.recorded(each, provider_name="") for each in found.changes]
    sums = recorded.counts_of(kept)
    sums |= {"withdrawn": found.withdrawn_count, "unchanged": found.unchanged_count}
    yield counts(sums)


def start_words(effective_from: datetime | None) -> str:
    """Return from when on a change holds; None is the moment at which it is applied."""
    if effective_from is None:
        return "from when it is applied"
    is_dated = effective_from > BEGINNING
    return f"from {effective_from:%Y-%m-%d %H:%M} UTC" if is_dated else "from the beginning"


def _told(change: Change) -> Iterator[str]:
    start = start_words(None if change.starts_when_applied else change.price.effective_from)
    jump = "; needs confirmation" if change.needs_confirmation else ""
    yield f"{change.called}: {KIND_WORDS[change.kind]}, {start}{jump}"
    for line in lines_of(recorded.recorded(change, provider_name="")):
        component = line["component"]
        old, new = amount(component, line["old"]), amount(component, line["new"])
        factor = f"  ×{line['factor']}" if line["factor"] else ""
        mark = "  !" if line["jump"] else ""
        per = f"{change.price.currency} per {unit_words(component)}"
        told = f"{old} {per} → {new}" if line["new"] is None else f"{new} {per}"
        before = f"{old} → " if change.held and line["new"] is not None else ""
        yield f"    {class_words(line)}: {before}{told}{factor}{mark}"


def _is_dear(component: str, rate: str, per: int, currency: str) -> bool:
    return component in TOKENS and is_dear(UnitRate(Decimal(rate), per), currency=currency)


def _for(value: Decimal, per: int) -> Decimal:
    return money.WIDE.divide(value, Decimal(per))
