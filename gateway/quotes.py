"""What usage of a model costs somebody, without any request: by the prices that apply now."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import reduce
from typing import Final

from budgets.money import EXACT
from gateway.catalogue import deployments_of, find_target
from gateway.errors import ModelNotFound, ModelUnpriced
from spend import pricebook, pricing
from spend.components import INPUT_COMPONENTS, OUTPUT_COMPONENTS, Component, Usage
from spend.pricing import NOTHING, Cost
from spend.rates import PLAIN, Conditions, Price

PROVIDERS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Payer:
    """On whose behalf it is asked: prices and margins may be theirs alone."""

    organization_id: int
    team: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """A model with its price as it is listed, and as it is charged."""

    provider: str
    upstream_model: str
    listed: Price
    charged: Price
    region: str = ""
    """Where the deployment serves; an answer may know better."""

    def conditions(self, conditions: Conditions = PLAIN) -> Conditions:
        """Return these conditions, in the deployment's region where they name none."""
        return conditions._replace(region=conditions.region or self.region)


@dataclass(frozen=True, slots=True)
class Quoted:
    """What one request costs: its parts at the listed price, and the sum as it is charged."""

    total: Decimal
    listed: Cost

    @property
    def margin(self) -> Decimal:
        """What margins add and discounts take off."""
        return EXACT.subtract(self.total, self.listed.amount)

    @property
    def input(self) -> Decimal:
        return self.part(INPUT_COMPONENTS)

    @property
    def output(self) -> Decimal:
        return self.part(OUTPUT_COMPONENTS)

    def part(self, components: Iterable[Component]) -> Decimal:
        wanted = frozenset(components)
        amounts = (line.amount for line in self.listed.lines if line.component in wanted)
        return reduce(EXACT.add, amounts, NOTHING)


def find_quote(*, model: str, payer: Payer, at: datetime) -> Quote:
    """
    Return the price of a model: of the deployments of that name, else of those that ask their
    upstream for it, else of the price book, where it may be named with its provider.

    :raises ModelNotFound: if none of them knows it
    :raises ModelUnpriced: if it has no price
    """
    provider, upstream_model, price, region = _found(model, payer, at)
    if price is None:
        raise ModelUnpriced(
            f"{model!r} has no price, so nobody can say what it would cost.",
            param="model",
            provider=provider,
            upstream_model=upstream_model,
        )
    charged = pricebook.adjustments().apply(
        price, provider=provider, organization_id=payer.organization_id, team=payer.team, at=at
    )
    return Quote(provider, upstream_model, price, charged, region)


def used_model(*, model: str, payer: Payer) -> str:
    """Return the upstream's name of a model; one that no deployment serves is as it was given."""
    target = find_target(name=model, organization_id=payer.organization_id)
    return model if target is None else target.upstream_model


def cost_of(quote: Quote, *, usage: Usage, conditions: Conditions = PLAIN) -> Quoted:
    """
    Return what a request of that usage costs.

    :raises ModelUnpriced: if the price says nothing of a part of it
    """
    conditions = quote.conditions(conditions)
    listed = pricing.cost(price=quote.listed, usage=usage, conditions=conditions)
    charged = pricing.cost(price=quote.charged, usage=usage, conditions=conditions)
    if listed.unpriced:
        names = ", ".join(listed.unpriced)
        raise ModelUnpriced(
            f"{quote.upstream_model!r} has no price of: {names}.",
            param="model",
            provider=quote.provider,
            upstream_model=quote.upstream_model,
        )
    return Quoted(charged.amount, listed)


def _found(model: str, payer: Payer, at: datetime) -> tuple[str, str, Price | None, str]:
    organization_id = payer.organization_id
    target = find_target(name=model, organization_id=organization_id)
    if target is not None:
        price = target.price_at(at, organization_id=organization_id)
        return target.provider, target.upstream_model, price, target.region
    for provider, name in _names(model, organization_id):
        listed = pricebook.listed(provider=provider, name=name)
        if listed is not None:
            return provider, name, listed.price_at(at, organization_id=organization_id), ""
    raise ModelNotFound(f"There is no model {model!r}.", param="model")


def _names(model: str, organization_id: int) -> list[tuple[str, str]]:
    """Return under which names, of which providers, the price book may have it."""
    prefix, slash, rest = model.partition("/")
    named = [(prefix, rest)] if slash and rest else []
    deployments = deployments_of(organization_id=organization_id)
    providers = deployments.order_by("provider").values_list("provider", flat=True).distinct()
    return named + [(provider, model) for provider in providers[:PROVIDERS_MAX]]
