"""Changes as a proposal keeps them: JSON that says all that applying needs, without the list."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from budgets import money
from spend.catalogues.checks import rounded
from spend.catalogues.diff import Change, Kind, Line
from spend.catalogues.listing import ListedModel, ListedPrice
from spend.components import Component
from spend.rates import Rate, UnitRate

COUNTED: Final = ("new_models", "new_prices", "corrections", "kept", "jumps")

Recorded = dict[str, Any]


def recorded(change: Change, *, provider_name: str) -> Recorded:
    """Return a change as JSON can hold it; amounts are text."""
    model, price = change.model, change.price
    return {
        "kind": change.kind.value,
        "provider": model.provider,
        "provider_name": provider_name,
        "model": model.name,
        "other_names": list(model.other_names),
        "prefixes": list(model.prefixes),
        "context_window": model.context_window,
        "output_tokens_max": model.output_tokens_max,
        "effective_from": None if change.starts_when_applied else price.effective_from.isoformat(),
        "currency": price.currency,
        "region_factors": {name: str(each) for name, each in price.region_factors.items()},
        "rates": [_rate(rate) for rate in price.rates],
        "lines": [_line(line) for line in change.lines] if change.held else [],
        "held": change.held.id if change.held else None,
        "held_source": change.held.source if change.held else "",
        "held_currency": change.held.currency if change.held else "",
        "needs_confirmation": change.needs_confirmation,
    }


def called(change: Recorded) -> str:
    return f"{change['provider']}/{change['model']}"


def model_of(change: Recorded) -> ListedModel:
    return ListedModel(
        provider=change["provider"],
        name=change["model"],
        prices=(),
        other_names=tuple(change["other_names"]),
        prefixes=tuple(change["prefixes"]),
        context_window=change["context_window"],
        output_tokens_max=change["output_tokens_max"],
    )


def start_of(change: Recorded, *, now: datetime) -> datetime:
    """Return from when on the change holds if it is applied now."""
    said = change["effective_from"]
    return datetime.fromisoformat(said) if said else now


def price_of(change: Recorded, *, now: datetime) -> ListedPrice:
    """Return the price that applying the change now would make."""
    return ListedPrice(
        start_of(change, now=now),
        tuple(map(rate_of, change["rates"])),
        {name: Decimal(text) for name, text in change["region_factors"].items()},
        change["currency"],
    )


def rate_of(values: Sequence[Any]) -> Rate:
    component, rate, per, tier_from, service_tier, variant, window = values
    return Rate(Component(component), Decimal(rate), tier_from, per, service_tier, variant, window)


def counts_of(changes: Iterable[Recorded]) -> dict[str, int]:
    """Return how many changes there are of each kind, and how many need a second look."""
    counts = dict.fromkeys(COUNTED, 0)
    names = {
        Kind.NEW_MODEL: "new_models",
        Kind.NEW_PRICE: "new_prices",
        Kind.CORRECTION: "corrections",
        Kind.KEPT: "kept",
    }
    for change in changes:
        kind = Kind(change["kind"])
        counts[names[kind]] += 1
        counts["jumps"] += kind is not Kind.KEPT and change["needs_confirmation"]
    return counts


def digest_of(source: str, changes: Sequence[Recorded]) -> str:
    """Return what is equal for the same changes of the same prices."""
    text = json.dumps([source, changes], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _rate(rate: Rate) -> list[Any]:
    return [
        rate.component.value, money.plain(rounded(rate.rate)), rate.per,
        rate.tier_from, rate.service_tier, rate.variant, rate.window,
    ]  # fmt: skip


def _line(line: Line) -> dict[str, Any]:
    return {
        "component": line.component,
        "tier_from": line.tier_from,
        "service_tier": line.service_tier,
        "variant": line.variant,
        "window": line.window,
        "old": _unit(line.old),
        "new": _unit(line.new),
        "factor": None if line.factor is None else money.plain(line.factor),
        "jump": line.is_jump,
    }


def _unit(rate: UnitRate | None) -> Mapping[str, Any] | None:
    return None if rate is None else {"rate": money.plain(rate.value), "per": rate.per}
