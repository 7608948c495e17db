"""Writes the price book out: as the CSV that is read here, or as LiteLLM's price map."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from budgets import money
from spend.catalogues.csv_list import COLUMNS
from spend.catalogues.diff import HeldModel, HeldPrice
from spend.catalogues.listing import BEGINNING
from spend.catalogues.litellm import FIELDS
from spend.rates import BATCH, Rate

FIELD_OF: Final = {(component, per): name for name, (component, per) in FIELDS.items()}
THOUSAND: Final = 1_000
TIERS: Final[Mapping[str, str]] = {BATCH: "batches"}
LITELLM_TIERS: Final = frozenset(
    {"", BATCH, "flex", "priority", "balanced", "ultrafast", "decisions"}
)


def as_csv(models: Iterable[HeldModel]) -> str:
    """Return every price of the models, later and earlier ones too, a rate a row."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for model in models:
        for price in reversed(model.prices):
            writer.writerows(_row(model, price, rate) for rate in price.rates)
    return out.getvalue()


def as_litellm(models: Iterable[HeldModel], *, at: datetime) -> tuple[str, int]:
    """
    Return the prices in force as a LiteLLM map, and how many rates have no place in it.

    Those are rates in other currencies, of classes or tiers that it does not know, of variants
    and of times of day.
    """
    rows: dict[str, dict[str, Any]] = {}
    lost = 0
    for model in models:
        price = model.at(at)
        if price is None:
            continue
        fields = dict(filter(None, (_field(price, rate) for rate in price.rates)))
        lost += len(price.rates) - len(fields)
        if fields:
            rows[f"{model.provider}/{model.name}"] = {**_bounds(model), **fields}
    return _json(rows), lost


def _row(model: HeldModel, price: HeldPrice, rate: Rate) -> dict[str, object]:
    is_dated = price.start > BEGINNING
    return {
        "provider": model.provider,
        "model": model.name,
        "component": rate.component.value,
        "rate": money.plain(rate.rate),
        "per": rate.per,
        "currency": price.currency,
        "tier_from": rate.tier_from,
        "service_tier": rate.service_tier,
        "variant": rate.variant,
        "window": rate.window,
        "effective_from": price.start.astimezone(UTC).isoformat() if is_dated else "",
    }


def _bounds(model: HeldModel) -> dict[str, Any]:
    return {"litellm_provider": model.provider}


def _field(price: HeldPrice, rate: Rate) -> tuple[str, Decimal] | None:
    is_sayable = not (rate.variant or rate.window or rate.tier_from % THOUSAND)
    if price.currency != "USD" or rate.service_tier not in LITELLM_TIERS or not is_sayable:
        return None
    per = THOUSAND if (rate.component, THOUSAND) in FIELD_OF else 1
    name = FIELD_OF.get((rate.component, per))
    if name is None:
        return None
    value = money.WIDE.divide(rate.rate * per, Decimal(rate.per))
    above = f"_above_{rate.tier_from // THOUSAND}k_tokens" if rate.tier_from else ""
    tier = TIERS.get(rate.service_tier, rate.service_tier)
    return f"{name}{above}{tier and f'_{tier}'}", value


def _json(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return JSON in which decimals are number literals with all their digits."""
    lines = (f"  {json.dumps(name)}: {_object(row)}" for name, row in rows.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _object(row: Mapping[str, Any]) -> str:
    pairs = (f"{json.dumps(name)}: {_value(each)}" for name, each in row.items())
    return "{" + ", ".join(pairs) + "}"


def _value(value: object) -> str:
    return money.plain(value) if isinstance(value, Decimal) else json.dumps(value)
