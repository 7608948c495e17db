"""``/api/v1/prices``: what models cost, from when on, for whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets import queries
from budgets.api.answers import MoneyText, OrNull
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, Strict, endpoint
from budgets.api.fields import (
    OPTIONAL,
    ByName,
    Currency,
    Flag,
    OneOf,
    ProviderName,
    PublicId,
    QueryWhole,
    Text,
    Whole,
)
from budgets.api.inputs import Paged
from budgets.api.label_answers import Message
from budgets.models import Organization
from budgets.queries import PAGE_SIZE_MAX
from spend import price_terms, pricebook
from spend.api.fields import FactorText, Instant, RateText
from spend.components import Component
from spend.models import PriceVersion
from spend.price_queries import find_price, prices_asked, state_of
from spend.price_samples import sample_cost
from spend.services import prices
from spend.services.prices import Wanted

REASON_LENGTH_MAX: Final = 500
FEW: Final[Mapping[str, Any]] = {"max_length": price_terms.RATES_MAX, "allow_empty": False}
ID_MAX: Final = 2**63 - 1
COMPONENTS: Final = tuple(each.value for each in Component)


class NewRate(Strict):
    """What so many units of a class of usage cost, and under which conditions."""

    component = OneOf(COMPONENTS)
    rate = RateText()
    per = Whole(min_value=1, max_value=price_terms.PER_MAX)
    tier_from = Whole(max_value=price_terms.TIER_MAX, **OPTIONAL)
    service_tier = Text(max_length=24, **OPTIONAL)
    variant = Text(max_length=price_terms.VARIANT_LENGTH_MAX, **OPTIONAL)
    window = Text(**OPTIONAL)


class PriceTerms(Strict):
    currency = Currency(**OPTIONAL)
    effective_from = Instant(**OPTIONAL)
    effective_until = Instant(**OPTIONAL)
    region_factors = ByName(child=FactorText(), **OPTIONAL)
    rates = NewRate(many=True, **FEW)
    confirm = Flag(**OPTIONAL)
    reason = Text(max_length=REASON_LENGTH_MAX, **OPTIONAL)


class NewPrice(PriceTerms):
    """
    A price from ``effective_from`` on, which is now if it is left out.

    ``confirm`` lets a rate pass that is more than ten times the one before, or less than a tenth;
    ``create_model`` adds the model to the price book if it is not there.
    """

    provider = ProviderName()
    model = Text()
    organization_id = PublicId(**OPTIONAL)
    create_model = Flag(**OPTIONAL)


class CorrectPrice(PriceTerms):
    """What is left out of a price's own terms stays; its rates are given anew, all of them."""

    price_id = Whole(min_value=1, max_value=ID_MAX)


class EndPrice(Strict):
    price_id = Whole(min_value=1, max_value=ID_MAX)
    effective_until = Instant(**OPTIONAL)


class OnePrice(Strict):
    price_id = Whole(min_value=1, max_value=ID_MAX)


class PriceQuery(Paged):
    """Which prices are wanted; with ``at`` only those that are in force then."""

    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    provider = ProviderName(**OPTIONAL)
    model = Text(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    at = Instant(**OPTIONAL)


class RateRow(serializers.Serializer):
    component = serializers.CharField()
    rate = MoneyText()
    per = serializers.IntegerField()
    tier_from = serializers.IntegerField()
    service_tier = OrNull()
    variant = OrNull()
    window = OrNull()


@extend_schema_field(OpenApiTypes.OBJECT)
class Factors(serializers.Field):
    """Factors by region, as texts."""

    def to_representation(self, value: Mapping[str, str]) -> dict[str, str]:
        return dict(value)


@dataclass(frozen=True, slots=True)
class PriceView:
    price: PriceVersion
    at: datetime

    @property
    def state(self) -> str:
        return state_of(self.price, now=self.at)

    @property
    def rates(self) -> list[Any]:
        return list(self.price.rates.all())

    @property
    def sample(self) -> Decimal | None:
        return sample_cost(
            [pricebook.rate_of(each) for each in self.price.rates.all()],
            currency=self.price.currency,
        )


class PriceRow(serializers.Serializer):
    """
    A price. ``state``: ``now`` (it has begun and not ended), ``later``, ``ended``, ``replaced``.

    ``sample_cost`` is what 1,000 tokens of input and 500 of output cost at it, if it prices them.
    """

    price_id = serializers.IntegerField(source="price.pk")
    provider = serializers.CharField(source="price.model.provider.slug")
    model = serializers.CharField(source="price.model.name")
    organization_id = OrNull(source="price.organization.public_id", default=None)
    currency = serializers.CharField(source="price.currency")
    effective_from = serializers.DateTimeField(source="price.effective_from")
    effective_until = serializers.DateTimeField(source="price.effective_until", allow_null=True)
    state = serializers.CharField()
    replaced_by = serializers.IntegerField(source="price.replaced_by_id", allow_null=True)
    region_factors = Factors(source="price.region_factors")
    rates = RateRow(many=True)
    sample_cost = MoneyText(source="sample", allow_null=True)
    source = serializers.CharField(source="price.source")  # type: ignore[assignment]  # a field
    source_version = OrNull(source="price.source_version")
    created_at = serializers.DateTimeField(source="price.created_at")


class Prices(ManagementView):
    @endpoint(takes=PriceQuery, answers=PriceRow, many=True)
    def get(self, asked: Asked) -> Answer:
        """List prices: those for everybody, and with an organization also its own."""
        now = timezone.now()
        found = prices_asked(
            provider=asked.get("provider") or "",
            model=asked.get("model") or "",
            organization=organization_of(asked),
            at=asked.get("at"),
        )
        page = queries.page_of(found, number=asked["page"], size=asked["size"])
        return Answer([PriceView(each, now) for each in page.rows], headers_of(page))

    @endpoint(takes=NewPrice, answers=PriceRow, operation_id="price_create")
    def post(self, asked: Asked) -> PriceView:
        """Add a price of a model; it applies from the next request on, or from its date."""
        now = timezone.now()
        with transaction.atomic():  # a model without its price would be of no use
            version = prices.create_version(
                wanted=_wanted(asked, now=now),
                confirm=bool(asked.get("confirm")),
                reason=asked.get("reason") or "",
            )
        return PriceView(find_price(version.pk), now)


class PriceCorrect(ManagementView):
    @endpoint(takes=CorrectPrice, answers=PriceRow)
    def post(self, asked: Asked) -> PriceView:
        """
        Put other rates in a price's place, from now on.

        One that has begun stays as it is, replaced by a new one: what was charged at it stays.
        """
        now = timezone.now()
        version = find_price(asked["price_id"])
        made = prices.correct_version(
            version=version,
            wanted=_corrected(version, asked),
            now=now,
            confirm=bool(asked.get("confirm")),
            reason=asked.get("reason") or "",
        )
        return PriceView(find_price(made.pk), now)


class PriceEnd(ManagementView):
    @endpoint(takes=EndPrice, answers=PriceRow)
    def post(self, asked: Asked) -> PriceView:
        """Let a price end, now or later; the model is refused then unless another price holds."""
        now = timezone.now()
        version = find_price(asked["price_id"])
        prices.end_version(version=version, at=asked.get("effective_until") or now, now=now)
        return PriceView(find_price(version.pk), now)


class PriceDelete(ManagementView):
    @endpoint(takes=OnePrice, answers=Message)
    def post(self, asked: Asked) -> dict[str, str]:
        """Remove a price that has not begun."""
        version = find_price(asked["price_id"])
        prices.delete_version(version=version, now=timezone.now())
        return {"message": f"Price {asked['price_id']} deleted"}


def _wanted(asked: Asked, *, now: datetime) -> Wanted:
    return Wanted(
        model=prices.model_for_price(
            provider=asked["provider"], name=asked["model"], make=bool(asked.get("create_model"))
        ),
        organization=organization_of(asked),
        effective_from=asked.get("effective_from") or now,
        effective_until=asked.get("effective_until"),
        currency=asked.get("currency") or "USD",
        region_factors=asked.get("region_factors") or {},
        rates=asked["rates"],
    )


def _corrected(version: PriceVersion, asked: Asked) -> Wanted:
    """Return a price with what was asked for; null takes its end away."""
    ends = "effective_until" in asked
    factors = asked.get("region_factors")
    return Wanted(
        model=version.model,
        organization=version.organization,
        effective_from=asked.get("effective_from") or version.effective_from,
        effective_until=asked["effective_until"] if ends else version.effective_until,
        currency=asked.get("currency") or version.currency,
        region_factors=version.region_factors if factors is None else factors,
        rates=asked["rates"],
    )


def organization_of(asked: Asked) -> Organization | None:
    """
    :raises NotFound: if an organization is asked for that there is not
    """
    public_id = asked.get("organization_id")
    return queries.find_organization(public_id) if public_id else None
