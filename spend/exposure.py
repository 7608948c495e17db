"""
What requests that wait for a price may cost: an upper estimate, never a charge.

Their tokens at the dearest plain rates of input and output that the same provider has in force,
for each currency in which it has any.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from budgets import money
from spend.components import Component
from spend.models import PriceRate, PriceVersion, UnpricedModel

PLAIN: Final = (Component.INPUT, Component.OUTPUT)
Rates = dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class Exposure:
    amount: Decimal
    currency: str


def of_models(rows: Iterable[UnpricedModel], *, at: datetime) -> dict[int, list[Exposure]]:
    """Return the exposures of each by its key: two queries, however many they are."""
    listed = list(rows)
    dearest = _dearest_rates({each.provider for each in listed}, at)
    return {each.pk: _exposures(each, dearest.get(each.provider, {})) for each in listed}


def _exposures(row: UnpricedModel, dearest: dict[str, Rates]) -> list[Exposure]:
    tokens = {Component.INPUT: row.input_tokens, Component.OUTPUT: row.output_tokens}
    if not any(tokens.values()):
        return []
    return [Exposure(_cost(tokens, rates), currency) for currency, rates in sorted(dearest.items())]


def _cost(tokens: dict[Component, int], rates: Rates) -> Decimal:
    return sum(
        (money.WIDE.multiply(rates.get(name, Decimal(0)), n) for name, n in tokens.items()),
        Decimal(0),
    )


def _dearest_rates(providers: set[str], at: datetime) -> dict[str, dict[str, Rates]]:
    """Return the highest rate of each plain class, by provider and currency."""
    rates = PriceRate.objects.plain().filter(
        component__in=PLAIN, version__in=[each.pk for each in _in_force(providers, at)]
    )
    found: dict[str, dict[str, Rates]] = {}
    for rate in rates.select_related("version__model__provider"):
        version = rate.version
        of_provider = found.setdefault(version.model.provider.slug, {})
        known = of_provider.setdefault(version.currency, {})
        known[rate.component] = max(known.get(rate.component, Decimal(0)), rate.for_units(1))
    return found


def _in_force(providers: set[str], at: datetime) -> Sequence[PriceVersion]:
    versions = PriceVersion.objects.for_everybody().holding_at(at)
    of_providers = versions.filter(model__provider__slug__in=providers)
    return list(of_providers.order_by("model_id", "-effective_from").distinct("model_id"))
