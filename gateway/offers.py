"""What a request is offered: a deployment, at which price, and what it can cost there at most."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, cached_property
from typing import Final

from django.conf import settings

from budgets import money
from budgets.money import Units
from budgets.snapshots import KeySnapshot
from gateway import identity
from gateway.catalogue import Catalogue, Target
from gateway.errors import (
    ModelForbidden,
    ModelNotFound,
    ModelUnpriced,
    NoExchangeRate,
    RouteNotServed,
    UnboundedRequest,
    UnsupportedParameter,
)
from gateway.routes.asked import Asked, Body, Together
from gateway.routes.route import Route
from spend import events, pricing
from spend.components import Component
from spend.currencies.exchange import Rate as ExchangeRate
from spend.pricing import UnboundedCost
from spend.rates import BATCH, UNPRICED, Price, Rate

BYTES_A_TOKEN: Final = 4
OUTPUT_TOKENS_ASSUMED: Final = 1_024
PERCENT: Final = Decimal("0.01")
SEARCHES_MAX: Final = 10
"""Providers bound no searches: a request that may search counts as so many."""
FREE: Final = "free"
"""The reference of what a provider does not bill."""
CEILING_UNITS_MAX: Final = 10**14
"""A hundred thousand dollars: nobody means that."""


@dataclass(frozen=True)
class Offer:
    """A deployment for the request, with what it can cost there at most."""

    target: Target
    price: Price
    rate: ExchangeRate
    """What the price's currency is worth in the organization's, at admission."""
    currency: str
    body: Body
    ceiling: Decimal
    """In the price's currency, as are all costs until they are counted."""
    prior: Decimal
    """What adaptive limits hold for such a request until its like are known."""
    tokens: int
    is_hit: bool = False
    """The deployment's answer was kept, and is given again: nothing is sent there."""
    is_batch: bool = False

    @property
    def teaches_nothing(self) -> bool:
        return self.is_hit or self.is_batch

    @property
    def flags(self) -> tuple[str, ...]:
        """What its event is marked with where nobody learns what has come of it."""
        marks = (
            (events.CACHE_HIT, self.is_hit),
            (events.RATE_STALE, self.rate.is_stale),
            (events.UNPRICED, not (self.price.is_set or self.is_hit)),
        )
        return tuple(flag for flag, is_so in marks if is_so)

    @cached_property
    def ceiling_units(self) -> Units:
        return self._at_most(self.ceiling)

    @cached_property
    def prior_units(self) -> Units:
        return self._at_most(self.prior)

    def units_of(self, cost: Decimal) -> Units:
        """Return a cost in units of the organization's currency, rounded once, half to even."""
        return money.to_units(self.rate.convert(cost), currency=self.currency)

    def cost_of(self, units: Units) -> Decimal:
        """Return the cost, in the price's currency, that counts so many units."""
        return self.rate.convert_back(money.to_decimal(units, currency=self.currency))

    def _at_most(self, cost: Decimal) -> Units:
        return money.ceiling_to_units(self.rate.convert(cost), currency=self.currency)


def deployments_for(
    asked: Asked, *, route: Route, snapshot: KeySnapshot, models: Catalogue, now: datetime
) -> list[Target]:
    """
    Return the deployments that may serve the request; there is at least one.

    :raises GatewayError: if the key may not, or there is no such model
    """
    identity.check_usable(snapshot, at=now)
    if not snapshot.may_call(asked.model):
        raise ModelForbidden(f"This key may not call {asked.model!r}.", param="model")
    group = models.group(asked.model, organization_id=snapshot.organization_id)
    if not group:
        raise ModelNotFound(f"There is no model {asked.model!r}.", param="model")
    serving = [target for target in group if target.serving.serves(route)]
    if not serving:
        raise RouteNotServed(f"{asked.model!r} does not serve {route.path}.", param="model")
    return serving


def offer_at(
    target: Target,
    *,
    asked: Asked,
    route: Route,
    snapshot: KeySnapshot,
    models: Catalogue,
    now: datetime,
) -> Offer:
    """
    Bound the request's cost at a deployment.

    :raises GatewayError: if it has no price there, or nothing bounds its cost
    """
    price = _price(target, route, snapshot, models, now)
    rate = _exchange_rate(price, target, snapshot.currency, models, now)
    _check_service_tier(asked, price)
    body = route.send(asked, target.serving.model_sent(target.upstream_model))
    size = len(body.data) if asked.text_bytes is None else asked.text_bytes
    ceiling = _ceiling(asked, target, price, size)
    _check_ceiling(rate.convert(ceiling), snapshot.currency)
    return Offer(
        target=target,
        price=price,
        rate=rate,
        currency=snapshot.currency,
        body=body,
        ceiling=ceiling,
        prior=_prior(price, ceiling, requests=asked.batch.requests if asked.batch else 1),
        tokens=_tokens(asked, target, size),
        is_batch=asked.batch is not None,
    )


@cache
def _most_there_is(currency: str) -> Decimal:
    return money.to_decimal(CEILING_UNITS_MAX, currency=currency)


def _check_ceiling(ceiling: Decimal, currency: str) -> None:
    """What no request costs is no bound, and thousands of them would not fit in 64 bits."""
    most = _most_there_is(currency)
    if ceiling > most:
        raise UnboundedRequest(
            f"This request could cost more than {money.plain(most)} {currency}: set"
            " max_completion_tokens, or have the model's limits set.",
            param="max_completion_tokens",
        )


def _prior(price: Price, ceiling: Decimal, *, requests: int) -> Decimal:
    """Return a share of the ceiling; what a request costs whatever it says counts in full."""
    request = price.rate_of(Component.REQUEST, input_tokens=0) or Decimal(0)
    fee = min(money.EXACT.multiply(money.EXACT.add(request, price.fee), requests), ceiling)
    share = money.WIDE.multiply(ceiling - fee, settings.ADAPTIVE_PRIOR_PERCENT * PERCENT)
    return money.WIDE.add(fee, share)


def _tokens(asked: Asked, target: Target, body_bytes: int) -> int:
    """
    Return how many tokens a limit on tokens counts until the answer tells how many it were: none
    of a batch, whose lines run whenever the provider likes.
    """
    if asked.batch is not None:
        return 0
    asked_for = asked.output_tokens_asked
    if asked_for is None:
        asked_for = OUTPUT_TOKENS_ASSUMED
    output = min(asked_for, target.longest_output or asked_for)
    return body_bytes // BYTES_A_TOKEN + output * asked.choices


def _check_service_tier(asked: Asked, price: Price) -> None:
    """
    :raises UnsupportedParameter: if this price has no rates for it
    """
    tier, is_known = price.tier_of(served=asked.service_tier)
    if not is_known or tier == BATCH:
        raise UnsupportedParameter(
            f"service_tier {asked.service_tier!r} has no price for {asked.model!r}.",
            param="service_tier",
        )


def _price(
    target: Target, route: Route, snapshot: KeySnapshot, models: Catalogue, now: datetime
) -> Price:
    if route.is_free:
        return Price(snapshot.currency, (), FREE)
    price = target.price_at(now, organization_id=snapshot.organization_id)
    if price is None and route.name in target.serving.free:
        return Price(snapshot.currency, (Rate(Component.REQUEST, Decimal(0)),), FREE)
    if price is None or not _prices(price, route):
        if settings.GATEWAY_ON_UNPRICED == "allow":
            return Price(snapshot.currency, (), UNPRICED)
        raise ModelUnpriced(
            f"{target.model_name!r} has no price, so nobody can say what it would cost.",
            param="model",
            provider=target.provider,
            upstream_model=target.upstream_model,
        )
    return models.adjustments.apply(
        price,
        provider=target.provider,
        organization_id=snapshot.organization_id,
        team=snapshot.team_public_id,
        at=now,
    )


def _exchange_rate(
    price: Price, target: Target, currency: str, models: Catalogue, now: datetime
) -> ExchangeRate:
    """Return the rate in force on the UTC day of admission; none is ever made up."""
    rate = models.rates.rate(
        of=price.currency, into=currency, on=now.astimezone(UTC).date(),
        stale_after_days=settings.EXCHANGE_RATE_STALE_DAYS,
    )  # fmt: skip
    if rate is None:
        raise NoExchangeRate(
            f"{target.model_name!r} is priced in {price.currency}, your budget counts in"
            f" {currency}, and there is no exchange rate.",
            param="model",
        )
    return rate


def _prices(price: Price, route: Route) -> bool:
    """A price that says nothing of a side, such as the output, would make it free."""
    priced = {rate.component for rate in price.rates}
    return all(not priced.isdisjoint(side) for side in route.priced_by)


def output_tokens_max(asked: Asked, target: Target) -> int | None:
    """Return how many tokens all choices together can have, or None where nothing bounds them."""
    longest = target.longest_output
    output = asked.output_tokens_asked
    bound = longest if output is None else min(output, longest or output)
    return None if bound is None else bound * asked.choices


def _input_tokens_max(asked: Asked, target: Target, body_bytes: int) -> int | None:
    """A model reads no more at a time than its context window, but may read several times."""
    if not asked.bytes_bound_input:
        return target.context_window
    return body_bytes + asked.input_tokens_beyond


def batch_bounds(batch: Together, target: Target) -> pricing.Bounds:
    """Return the most that the lines of a batch use at a deployment, together and the largest."""
    window, longest = target.context_window, target.longest_output
    read, longest_read = batch.bytes_in, batch.longest_bytes_in
    unbounded_in = batch.windows > 0 and window is None
    if batch.windows and window is not None:
        read, longest_read = read + batch.windows * window, max(longest_read, window)
    written = batch.tokens_out
    if longest is not None:
        written = min(written, batch.choices_asked * longest) + batch.choices_unasked * longest
    unbounded_out = batch.choices_unasked > 0 and longest is None
    return pricing.Bounds(
        requests=batch.requests,
        input_tokens_max=None if unbounded_in else read,
        longest_input_max=None if unbounded_in else longest_read,
        output_tokens_max=None if unbounded_out else written,
        searches_max=batch.searching * SEARCHES_MAX,
    )


def _ceiling(asked: Asked, target: Target, price: Price, body_bytes: int) -> Decimal:
    try:
        if asked.batch is not None:
            bounds = batch_bounds(asked.batch, target)
            return pricing.ceiling_of_batch(price=price, bounds=bounds)
        return pricing.ceiling(
            price=price,
            input_tokens_max=_input_tokens_max(asked, target, body_bytes),
            output_tokens_max=output_tokens_max(asked, target),
            service_tiers=price.tiers_of(asked.service_tier),
            searches_max=SEARCHES_MAX if asked.may_search else 0,
            others_max=asked.others_max,
        )
    except UnboundedCost as error:
        param = "max_completion_tokens" if error.what == "output" else "messages"
        raise UnboundedRequest(
            f"Nothing bounds the {error.what} of this request: set {param}, or have the model's"
            " limits set.",
            param=param,
        ) from error
