"""
``/config/cost_discount_config`` and ``/config/cost_margin_config``, in LiteLLM's shapes.

They are the discounts and margins for every organization: fractions by provider, of margins also
under ``global`` for every other one. What is sent replaces all that was there of its kind.
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from django.utils import timezone
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets import money
from budgets.api.endpoints import NON_FIELD_ERRORS_KEY, Asked, ManagementView, Strict, endpoint
from budgets.api.fields import OPTIONAL, Amount, ByName, ProviderName
from budgets.api.platform_inputs import Nothing
from spend.price_terms import RATE_DECIMALS_MAX, RATE_MAX
from spend.services import adjustments
from spend.services.adjustments import PERCENT_DECIMALS_MAX, ZERO, Terms

GLOBAL: Final = "global"
HUNDRED: Final = Decimal(100)
FRACTION_DECIMALS_MAX: Final = PERCENT_DECIMALS_MAX + 2
MARGIN_MAX: Final = Decimal(10)
DONE: Final = "success"
Scope = str | None


class Fraction(Amount):
    """A share of the price: 0.05 is 5 per cent."""

    def __init__(self, *, most: Decimal = Decimal(1), **options: Any) -> None:
        super().__init__(max_value=most, decimals=FRACTION_DECIMALS_MAX, **options)


class MarginParts(Strict):
    """A margin as a share of the price, as an amount for each request, or both."""

    percentage = Fraction(most=MARGIN_MAX, **OPTIONAL)
    fixed_amount = Amount(max_value=RATE_MAX, decimals=RATE_DECIMALS_MAX, **OPTIONAL)


@extend_schema_field({"oneOf": [{"type": "number"}, {"type": "object"}]})
class Margin(serializers.Field):
    """A margin: a number is a share of the price; else its parts."""

    default_error_messages = {"empty": "must have a percentage or a fixed_amount"}

    def to_internal_value(self, data: Any) -> dict[str, Decimal | None]:
        if isinstance(data, Mapping):
            parts = MarginParts(data=data)
            parts.is_valid(raise_exception=True)
            if not parts.validated_data:
                self.fail("empty")
            return dict(parts.validated_data)
        return {"percentage": Fraction(most=MARGIN_MAX).run_validation(data)}


class ByProvider(Strict):
    """Values by the providers' names."""

    @classmethod
    def by_name(cls) -> ByName:
        raise NotImplementedError

    def to_internal_value(self, data: Any) -> Asked:
        try:
            return {"values": self.by_name().run_validation(data)}
        except serializers.ValidationError as error:
            if isinstance(error.detail, dict):
                raise
            raise serializers.ValidationError({NON_FIELD_ERRORS_KEY: error.detail}) from error


class SetDiscounts(ByProvider):
    @classmethod
    def by_name(cls) -> ByName:
        return ByName(child=Fraction(), names=ProviderName())


class SetMargins(ByProvider):
    @classmethod
    def by_name(cls) -> ByName:
        return ByName(child=Margin(), names=ProviderName())


class ByProviderInSchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # theirs
    """How the API's description shows names that are the caller's."""

    target_class = ByProvider
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        margin = {"oneOf": [{"type": "number"}, {"type": "object"}]}
        is_margin = isinstance(self.target, SetMargins)
        return {
            "type": "object",
            "additionalProperties": margin if is_margin else {"type": "number"},
        }


@extend_schema_field({"type": "object", "additionalProperties": {}})
class Values(serializers.Field):
    def to_representation(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return dict(value)


class CostConfig(serializers.Serializer):
    values = Values()


class ChangedCostConfig(CostConfig):
    message = serializers.CharField()
    status = serializers.CharField()


class DiscountConfig(ManagementView):
    @endpoint(takes=Nothing, answers=CostConfig)
    def get(self, asked: Asked) -> dict[str, Any]:
        """Tell the discounts for every organization, by provider."""
        return {"values": _discounts()}

    @endpoint(takes=SetDiscounts, answers=ChangedCostConfig)
    def patch(self, asked: Asked) -> dict[str, Any]:
        """Replace the discounts of all providers; margins stay."""
        held, now = _held(), timezone.now()
        others = held.get(None, Terms())
        of_rest = others.discount_percent
        wanted = {scope: replace(each, discount_percent=of_rest) for scope, each in held.items()}
        for name, share in asked["values"].items():
            base = wanted.get(name, others)
            wanted[name] = replace(base, discount_percent=share * HUNDRED)
        adjustments.replace_for_all(wanted=_needed(wanted), now=now)
        return _changed("Cost discount", _discounts())


class MarginConfig(ManagementView):
    @endpoint(takes=Nothing, answers=CostConfig)
    def get(self, asked: Asked) -> dict[str, Any]:
        """Tell the margins for every organization, by provider; ``global``: of all others."""
        return {"values": _margins()}

    @endpoint(takes=SetMargins, answers=ChangedCostConfig)
    def patch(self, asked: Asked) -> dict[str, Any]:
        """Replace the margins of all providers; discounts stay."""
        held, now = _held(), timezone.now()
        given = {_scope(name): _margin(parts) for name, parts in asked["values"].items()}
        others, margin_of_rest = held.get(None, Terms()), given.get(None, Terms())
        wanted: dict[Scope, Terms] = {
            scope: replace(
                given.get(scope, margin_of_rest),
                discount_percent=held.get(scope, others).discount_percent,
            )
            for scope in held.keys() | given.keys()
        }
        adjustments.replace_for_all(wanted=_needed(wanted), now=now)
        return _changed("Cost margin", _margins())


def _held() -> dict[Scope, Terms]:
    found = adjustments.in_force_for_all(now=timezone.now())
    return {scope: adjustments.terms_of(row) for scope, row in found.items()}


def _needed(wanted: Mapping[Scope, Terms]) -> dict[Scope, Terms]:
    """Leave out providers that have what the rest has, and the rest if that is nothing."""
    others = wanted.get(None, Terms())
    return {
        scope: each
        for scope, each in wanted.items()
        if each != (Terms() if scope is None else others)
    }


def _discounts() -> dict[str, Decimal]:
    held = _held()
    of_rest = held.get(None, Terms()).discount_percent
    return {
        scope: _share(terms.discount_percent)
        for scope, terms in sorted(held.items(), key=lambda item: item[0] or "")
        if scope is not None and terms.discount_percent != of_rest
    }


def _margins() -> dict[str, Any]:
    held = _held()
    others = replace(held.get(None, Terms()), discount_percent=ZERO)
    told: dict[str, Any] = {}
    for scope, terms in sorted(held.items(), key=lambda item: item[0] or ""):
        margin = replace(terms, discount_percent=ZERO)
        if margin != (Terms() if scope is None else others):
            told[GLOBAL if scope is None else scope] = _parts(margin)
    return told


def _parts(terms: Terms) -> Any:
    """Return a margin as LiteLLM writes it: a number if it is a share only."""
    share = _share(terms.margin_percent)
    if not terms.margin_per_request:
        return share
    fixed = {"fixed_amount": _plain(terms.margin_per_request)}
    return {"percentage": share, **fixed} if share else fixed


def _margin(parts: Mapping[str, Decimal | None]) -> Terms:
    return Terms(
        margin_percent=(parts.get("percentage") or ZERO) * HUNDRED,
        margin_per_request=parts.get("fixed_amount") or ZERO,
    )


def _scope(name: str) -> Scope:
    return None if name == GLOBAL else name


def _share(percent: Decimal) -> Decimal:
    return _plain(percent / HUNDRED)


def _plain(value: Decimal) -> Decimal:
    return Decimal(money.plain(value))


def _changed(what: str, values: Mapping[str, Any]) -> dict[str, Any]:
    message = f"{what} configuration updated successfully"
    return {"message": message, "status": DONE, "values": values}
