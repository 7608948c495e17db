"""Which price applies to a model of a provider, for whom and when."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import product
from typing import Final

from django.db.models import F, Prefetch, prefetch_related_objects
from django.db.models.functions import Length

from budgets.money import EXACT
from spend import windows
from spend.components import Component
from spend.models import Model, PriceAdjustment, PriceRate, PriceVersion
from spend.rates import RATE_MAX as RATE_MAX
from spend.rates import Price, Rate, adjusted

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
PERCENT: Final = Decimal("0.01")

Scope = tuple[str | None, int | None, str | None]
"""Team, organization and provider, the most particular first; None stands for every one."""


@dataclass(frozen=True, slots=True)
class Version:
    """The rates of a model in force in [start, end), for one organization or for all."""

    start: datetime
    end: datetime | None
    organization_id: int | None
    currency: str
    rates: tuple[Rate, ...]
    reference: str
    region_factors: Mapping[str, Decimal] = field(default_factory=dict)
    _compiled: dict[frozenset[str], Price] = field(default_factory=dict, compare=False, repr=False)

    def holds(self, at: datetime) -> bool:
        return self.start <= at and (self.end is None or at < self.end)

    def price_at(self, at: datetime) -> Price:
        """Return its rates at a time of day; those of a window go before those that always hold."""
        open_windows = frozenset(
            rate.window for rate in self.rates if rate.window and windows.holds(rate.window, at)
        )
        price = self._compiled.get(open_windows)
        if price is None:
            price = self._compiled[open_windows] = self._price(open_windows)
        return price

    def _price(self, open_windows: frozenset[str]) -> Price:
        special = [rate for rate in self.rates if rate.window in open_windows]
        replaced = {(rate.key, rate.service_tier) for rate in special}
        plain = [
            rate
            for rate in self.rates
            if not rate.window and (rate.key, rate.service_tier) not in replaced
        ]
        rates = (*plain, *(replace(rate, window="") for rate in special))
        return Price(self.currency, rates, self.reference, self.region_factors)


@dataclass(frozen=True, slots=True)
class Listed:
    """A model of the price book with all its versions, the newest start first."""

    context_window: int | None
    output_tokens_max: int | None
    versions: tuple[Version, ...]

    def price_at(self, at: datetime, *, organization_id: int | None = None) -> Price | None:
        """Return the organization's own price, else everybody's, else None: it is unpriced."""
        version = self.version_at(at, organization_id=organization_id)
        return None if version is None else version.price_at(at)

    def version_at(self, at: datetime, *, organization_id: int | None = None) -> Version | None:
        """Return what was set for the organization, else for everybody."""
        for wanted in (organization_id, None) if organization_id is not None else (None,):
            for version in self.versions:
                if version.organization_id == wanted and version.holds(at):
                    return version
        return None


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A discount or margin in force in [start, end); None stands for every one of them."""

    reference: str
    provider: str | None
    organization_id: int | None
    team: str | None
    factor: Decimal
    fee: Decimal
    start: datetime
    end: datetime | None

    def holds(self, at: datetime) -> bool:
        return self.start <= at and (self.end is None or at < self.end)


class Adjustments:
    """All discounts and margins; a price that was adjusted once is kept."""

    def __init__(self, adjustments: Sequence[Adjustment] = ()) -> None:
        self._by_scope: dict[Scope, list[Adjustment]] = {}
        for each in sorted(adjustments, key=lambda each: each.start, reverse=True):
            scope = (each.team, each.organization_id, each.provider)
            self._by_scope.setdefault(scope, []).append(each)
        self._kept: dict[tuple[str, str], tuple[Price, Price]] = {}

    def apply(
        self, price: Price, *, provider: str, organization_id: int, team: str, at: datetime
    ) -> Price:
        """Return the price as it is charged to this team of this organization."""
        adjustment = self._in_force(team, organization_id, provider, at)
        if adjustment is None:
            return price
        key = (price.reference, adjustment.reference)
        kept = self._kept.get(key)
        if kept is None or kept[0] is not price:
            charged = adjusted(
                price, factor=adjustment.factor, fee=adjustment.fee, reference=adjustment.reference
            )
            kept = self._kept[key] = (price, charged)
        return kept[1]

    def _in_force(
        self, team: str, organization_id: int, provider: str, at: datetime
    ) -> Adjustment | None:
        """Return the most particular one; of one scope the one that began last."""
        if not self._by_scope:
            return None
        for scope in product((team, None), (organization_id, None), (provider, None)):
            for adjustment in self._by_scope.get(scope, ()):
                if adjustment.holds(at):
                    return adjustment
        return None


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
    prefetch_related_objects([model], _all_prices())
    return _listed(model)


def listed_all(names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Listed]:
    """Return what :func:`listed` returns for each (provider, name): four queries for all."""
    wanted = set(names)
    of_provider: dict[str, list[Model]] = {}
    known = Model.objects.filter(provider__slug__in={provider for provider, _ in wanted})
    for model in known.select_related("provider").order_by("id"):
        of_provider.setdefault(model.provider.slug, []).append(model)
    found = {pair: best_match(of_provider.get(pair[0], []), pair[1]) for pair in wanted}
    matched = {pair: model for pair, model in found.items() if model is not None}
    prefetch_related_objects(
        list({id(each): each for each in matched.values()}.values()), _all_prices()
    )
    return {pair: _listed(model) for pair, model in matched.items()}


def _all_prices() -> "Prefetch[str]":
    rates = Prefetch("rates", PriceRate.objects.order_by("component", "tier_from"))
    versions = PriceVersion.objects.filter(replaced_by=None).order_by("-effective_from")
    return Prefetch("prices", versions.prefetch_related(rates))


def _listed(model: Model) -> Listed:
    """Return a model with its prices, which have been read."""
    return Listed(
        context_window=model.context_window,
        output_tokens_max=model.output_tokens_max,
        versions=tuple(map(version_of, model.prices.all())),
    )


def best_match(models: Sequence[Model], name: str) -> Model | None:
    """Return the model of that name, else of that other name, else of its longest prefix."""
    for is_named in (lambda model: model.name == name, lambda model: name in model.other_names):
        if named := sorted(filter(is_named, models), key=lambda model: len(model.name)):
            return named[0]
    prefixes = [
        (len(prefix), model)
        for model in models
        for prefix in model.prefixes
        if name.startswith(prefix)
    ]
    return max(prefixes, key=lambda match: match[0])[1] if prefixes else None


def version_of(version: PriceVersion) -> Version:
    return Version(
        start=version.effective_from,
        end=version.effective_until,
        organization_id=version.organization_id,
        currency=version.currency,
        rates=tuple(map(rate_of, version.rates.all())),
        reference=f"price:{version.pk}",
        region_factors={name: Decimal(text) for name, text in version.region_factors.items()},
    )


def rate_of(rate: PriceRate) -> Rate:
    return Rate(
        Component(rate.component), rate.rate, rate.tier_from, rate.per,
        rate.service_tier, rate.variant, rate.window,
    )  # fmt: skip


def adjustments() -> Adjustments:
    """Return every discount and margin, past and future ones too."""
    rows = PriceAdjustment.objects.select_related("provider", "team")
    return Adjustments([_adjustment(row) for row in rows])


def _adjustment(row: PriceAdjustment) -> Adjustment:
    return Adjustment(
        reference=f"adjustment:{row.pk}",
        provider=row.provider.slug if row.provider else None,
        organization_id=row.organization_id,
        team=row.team.public_id if row.team else None,
        factor=factor_of(discount=row.discount_percent, margin=row.margin_percent),
        fee=row.margin_per_request,
        start=row.effective_from,
        end=row.effective_until,
    )


def factor_of(*, discount: Decimal, margin: Decimal) -> Decimal:
    """Return by what a list price is multiplied: the discount first, the margin on the rest."""
    kept = EXACT.subtract(Decimal(1), EXACT.multiply(discount, PERCENT))
    return EXACT.multiply(kept, EXACT.add(Decimal(1), EXACT.multiply(margin, PERCENT)))


def _by_prefix(provider: str, name: str) -> Model | None:
    candidates = Model.objects.filter(provider__slug=provider).exclude(prefixes=[])
    matches = [
        (len(prefix), model)
        for model in candidates.order_by(F("id"))
        for prefix in model.prefixes
        if name.startswith(prefix)
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None
