"""Which price applies to a model of a provider at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db.models import F, Prefetch
from django.db.models.functions import Length

from spend.models import Model, PriceRate, PriceVersion
from spend.pricing import Component, Price, Rate

OVERRIDE_FIELDS: Final[Mapping[str, Component]] = {
    "input_cost_per_token": Component.INPUT,
    "output_cost_per_token": Component.OUTPUT,
    "cache_read_input_token_cost": Component.CACHED_READ,
    "cache_creation_input_token_cost": Component.CACHE_WRITE_5M,
    "cache_creation_input_token_cost_above_1hr": Component.CACHE_WRITE_1H,
    "input_cost_per_audio_token": Component.INPUT_AUDIO,
    "output_cost_per_audio_token": Component.OUTPUT_AUDIO,
    "output_cost_per_reasoning_token": Component.REASONING,
    "input_cost_per_request": Component.REQUEST,
}
"""LiteLLM's price fields that a deployment may carry, in US dollars a unit."""
OVERRIDE_CURRENCY: Final = "USD"
RATE_MAX: Final = Decimal(10**6)


@dataclass(frozen=True, slots=True)
class Listed:
    """A model of the price book with the prices that apply from an instant on, oldest first."""

    context_window: int | None
    output_tokens_max: int | None
    prices: tuple[tuple[datetime, Price], ...]

    def price_at(self, at: datetime) -> Price | None:
        in_force = [price for start, price in self.prices if start <= at]
        return in_force[-1] if in_force else None


def overriding(fields: Mapping[str, str], *, reference: str) -> Price | None:
    """Return the price that a deployment's own price fields make, or None if it has none."""
    rates = [Rate(OVERRIDE_FIELDS[name], Decimal(text)) for name, text in fields.items()]
    return Price(OVERRIDE_CURRENCY, tuple(rates), reference) if rates else None


def find_model(*, provider: str, name: str) -> Model | None:
    """Return the model of that name, else of that other name, else of its longest prefix."""
    of_provider = Model.objects.filter(provider__slug=provider)
    exact = of_provider.filter(name=name).first()
    if exact is not None:
        return exact
    alias = of_provider.filter(other_names__contains=[name]).order_by(Length("name")).first()
    return alias or _by_prefix(provider, name)


def listed(*, provider: str, name: str) -> Listed | None:
    """Return the model's bounds and all its prices, future ones too, or None if it is unknown."""
    model = find_model(provider=provider, name=name)
    if model is None:
        return None
    rates = Prefetch("rates", PriceRate.objects.order_by("component", "tier_from"))
    versions = PriceVersion.objects.filter(model=model).order_by("effective_from")
    return Listed(
        context_window=model.context_window,
        output_tokens_max=model.output_tokens_max,
        prices=tuple(
            (version.effective_from, _price(version))
            for version in versions.prefetch_related(rates)
        ),
    )


def _by_prefix(provider: str, name: str) -> Model | None:
    candidates = Model.objects.filter(provider__slug=provider).exclude(prefixes=[])
    matches = [
        (len(prefix), model)
        for model in candidates.order_by(F("id"))
        for prefix in model.prefixes
        if name.startswith(prefix)
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _price(version: PriceVersion) -> Price:
    return Price(
        currency=version.currency,
        rates=tuple(
            Rate(Component(rate.component), rate.rate, rate.tier_from)
            for rate in version.rates.all()
        ),
        reference=f"price:{version.pk}",
    )
