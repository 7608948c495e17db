"""``/cost/estimate``, ``/spend/calculate`` and ``/utils/token_counter``: what things would cost."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets.api.answers import Money, OrNull
from budgets.api.endpoints import Asked, ManagementView, Strict, endpoint
from budgets.api.fields import OPTIONAL, PublicId, Text, Whole
from budgets.api.limits import wanted_organization
from budgets.errors import InvalidInput
from budgets.money import EXACT
from budgets.services.tenancy import DEFAULT_ORGANIZATION
from gateway import quotes
from gateway.callers import AnyKeyAuthentication, Caller
from gateway.quotes import Payer, Quote, Quoted
from spend.components import Component, Usage
from spend.counting import prompt_tokens, tokens
from spend.counting.tokens import TEXT_CHARS_MAX, Count
from spend.rates import Conditions
from spend.usage import TOKENS_MAX, openai_chat

REQUESTS_MAX: Final = 10**9
PARTS: Final[Mapping[str, tuple[Component, ...]]] = {
    "cache_read": (Component.CACHED_READ,),
    "cache_creation": (Component.CACHE_WRITE_5M,),
    "reasoning": (Component.REASONING,),
}
COSTS: Final = (
    "cost", "input_cost", "output_cost", "margin_cost", "cache_read_cost", "cache_creation_cost",
    "reasoning_cost",
)  # fmt: skip
RATES: Final[Mapping[str, Component]] = {
    "input_cost_per_token": Component.INPUT,
    "output_cost_per_token": Component.OUTPUT,
    "cache_read_input_token_cost": Component.CACHED_READ,
    "cache_creation_input_token_cost": Component.CACHE_WRITE_5M,
    "output_cost_per_reasoning_token": Component.REASONING,
}
LOCAL: Final = "local_estimate"
"""LiteLLM's word for a count that no provider was asked for."""


@extend_schema_field({"type": "array", "items": {"type": "object"}})
class Objects(serializers.Field):
    """A list of objects that a model would read; what is in them is not looked into."""

    default_error_messages = {"type": "must be a list of objects", "empty": "must not be empty"}

    def __init__(self, *, allow_empty: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.allow_empty = allow_empty

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
            self.fail("type")
        if not data and not self.allow_empty:
            self.fail("empty")
        return data


@extend_schema_field(OpenApiTypes.OBJECT)
class Reply(serializers.Field):
    """A chat completion as a provider answered it."""

    default_error_messages = {"type": "must be an object"}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("type")
        return data


class Priced(Strict):
    organization_id = PublicId(**OPTIONAL)


class EstimateCost(Priced):
    """``input_tokens`` include those of the cache, ``output_tokens`` those of reasoning."""

    model = Text()
    input_tokens = Whole(max_value=TOKENS_MAX)
    output_tokens = Whole(max_value=TOKENS_MAX)
    cache_read_input_tokens = Whole(max_value=TOKENS_MAX, **OPTIONAL)
    cache_creation_input_tokens = Whole(max_value=TOKENS_MAX, **OPTIONAL)
    reasoning_tokens = Whole(max_value=TOKENS_MAX, **OPTIONAL)
    num_requests_per_day = Whole(max_value=REQUESTS_MAX, **OPTIONAL)
    num_requests_per_month = Whole(max_value=REQUESTS_MAX, **OPTIONAL)


class CalculateSpend(Priced):
    model = Text(**OPTIONAL)
    messages = Objects(**OPTIONAL)
    completion_response = Reply(**OPTIONAL)


class CountTokens(Priced):
    unsupported = {"contents": None}

    model = Text()
    prompt = Text(max_length=TEXT_CHARS_MAX, allow_blank=True, **OPTIONAL)
    messages = Objects(**OPTIONAL)
    tools = Objects(allow_empty=True, **OPTIONAL)
    system = Text(max_length=TEXT_CHARS_MAX, allow_blank=True, **OPTIONAL)


class EstimatedCost(serializers.Serializer):
    """
    The parts are at the listed price, and ``margin_cost_per_request`` is what margins add to it
    (or discounts take off); only the sums have a fee for each request.
    """

    model = serializers.CharField()
    provider = serializers.CharField()
    currency = serializers.CharField()
    price_reference = serializers.CharField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cache_read_input_tokens = serializers.IntegerField()
    cache_creation_input_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    num_requests_per_day = serializers.IntegerField(allow_null=True)
    num_requests_per_month = serializers.IntegerField(allow_null=True)

    def get_fields(self) -> dict[str, Any]:
        costs = {name: Money() for name in _named(dict.fromkeys(COSTS), "{}_per_request")}
        many = {
            name: Money(allow_null=True)
            for period in ("daily", "monthly")
            for name in _named(dict.fromkeys(COSTS), f"{period}_{{}}")
        }
        rates = {name: Money(allow_null=True) for name in RATES}
        return {**super().get_fields(), **costs, **many, **rates}


class Calculated(serializers.Serializer):
    cost = Money()


class Counted(serializers.Serializer):
    """``is_exact``: whether the provider would count the same."""

    total_tokens = serializers.IntegerField()
    request_model = serializers.CharField()
    model_used = serializers.CharField()
    tokenizer_type = serializers.CharField()
    is_exact = serializers.BooleanField()
    count_source = serializers.CharField()
    original_response = OrNull()
    error = serializers.BooleanField()
    error_message = OrNull()
    status_code = serializers.IntegerField(allow_null=True)


class CostView(ManagementView):
    """Reads that any key may ask: they cost nothing and tell of no spend."""

    authentication_classes = (AnyKeyAuthentication,)

    def payer(self, asked: Asked) -> Payer:
        """
        Return on whose behalf it is asked: a virtual key's, or that of the named organization.

        :raises InvalidInput: if a virtual key names another organization than its own
        """
        caller: Caller = self.request.user  # type: ignore[assignment]  # as authenticated above
        snapshot, named = caller.snapshot, asked.get("organization_id")
        if snapshot is None:
            return Payer(wanted_organization(asked, default=DEFAULT_ORGANIZATION).pk)
        if named and named != snapshot.organization_public_id:
            raise InvalidInput("organization_id", "must be the key's own")
        return Payer(snapshot.organization_id, snapshot.team_public_id)


class CostEstimate(CostView):
    @endpoint(takes=EstimateCost, answers=EstimatedCost)
    def post(self, asked: Asked) -> dict[str, Any]:
        """Tell what requests of so many tokens cost, each and in a day or month."""
        usage = _usage(asked)
        quote = quotes.find_quote(model=asked["model"], payer=self.payer(asked), at=timezone.now())
        return _estimated(asked, quote, quotes.cost_of(quote, usage=usage), usage)


class SpendCalculate(CostView):
    @endpoint(takes=CalculateSpend, answers=Calculated)
    def post(self, asked: Asked) -> dict[str, Decimal]:
        """Tell what a prompt costs, or what an answer has cost by the usage that it reports."""
        model, answer = asked.get("model"), asked.get("completion_response")
        if not answer and not asked.get("messages"):
            raise InvalidInput("messages", "or completion_response is needed")
        model = model or _model_of(answer or {})
        quote = quotes.find_quote(model=model, payer=self.payer(asked), at=timezone.now())
        if answer:
            return {"cost": _cost_of_reply(answer, quote)}
        counted = prompt_tokens.count_messages(
            messages=asked["messages"], model=quote.upstream_model
        )
        usage = {Component.INPUT: counted.tokens, Component.REQUEST: 1}
        return {"cost": quotes.cost_of(quote, usage=usage).total}


class TokenCounter(CostView):
    @endpoint(takes=CountTokens, answers=Counted)
    def post(self, asked: Asked) -> dict[str, Any]:
        """Count the tokens of a text or of messages; no provider is asked."""
        model = quotes.used_model(model=asked["model"], payer=self.payer(asked))
        counted = _counted(asked, model)
        return {
            "total_tokens": counted.tokens,
            "request_model": asked["model"],
            "model_used": model,
            "tokenizer_type": counted.tokenizer,
            "is_exact": counted.is_exact,
            "count_source": LOCAL,
            "original_response": None,
            "error": False,
            "error_message": None,
            "status_code": None,
        }


def _usage(asked: Asked) -> dict[Component, int]:
    read, written = (
        _number(asked, "cache_read_input_tokens"),
        _number(asked, "cache_creation_input_tokens"),
    )
    reasoning = _number(asked, "reasoning_tokens")
    if read + written > asked["input_tokens"]:
        raise InvalidInput("input_tokens", "must include the tokens that the cache has")
    if reasoning > asked["output_tokens"]:
        raise InvalidInput("output_tokens", "must include the tokens of reasoning")
    usage = {
        Component.INPUT: asked["input_tokens"] - read - written,
        Component.CACHED_READ: read,
        Component.CACHE_WRITE_5M: written,
        Component.OUTPUT: asked["output_tokens"] - reasoning,
        Component.REASONING: reasoning,
        Component.REQUEST: 1,
    }
    return {component: number for component, number in usage.items() if number}


def _number(asked: Asked, name: str) -> int:
    return asked.get(name) or 0


def _estimated(asked: Asked, quote: Quote, quoted: Quoted, usage: Usage) -> dict[str, Any]:
    optional = ("cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_tokens")
    a_day, a_month = asked.get("num_requests_per_day"), asked.get("num_requests_per_month")
    costs = _costs(quoted)
    input_tokens = asked["input_tokens"]
    return {
        "model": asked["model"],
        "provider": quote.provider,
        "currency": quote.charged.currency,
        "price_reference": quote.charged.reference,
        "input_tokens": input_tokens,
        "output_tokens": asked["output_tokens"],
        **{name: _number(asked, name) for name in optional},
        "num_requests_per_day": a_day,
        "num_requests_per_month": a_month,
        **_named(costs, "{}_per_request"),
        **_named(_times(costs, a_day), "daily_{}"),
        **_named(_times(costs, a_month), "monthly_{}"),
        **{
            name: quote.listed.rate_of(
                component, input_tokens=input_tokens, conditions=quote.conditions()
            )
            for name, component in RATES.items()
        },
    }


def _costs(quoted: Quoted) -> dict[str, Decimal | None]:
    parts = {f"{name}_cost": quoted.part(components) for name, components in PARTS.items()}
    return {
        "cost": quoted.total,
        "input_cost": quoted.input,
        "output_cost": quoted.output,
        "margin_cost": quoted.margin,
        **parts,
    }


def _times(costs: Mapping[str, Decimal | None], requests: int | None) -> dict[str, Decimal | None]:
    return {
        name: None if requests is None or cost is None else EXACT.multiply(cost, requests)
        for name, cost in costs.items()
    }


def _named(costs: Mapping[str, Decimal | None], pattern: str) -> dict[str, Decimal | None]:
    return {pattern.format(name): cost for name, cost in costs.items()}


def _model_of(answer: Mapping[str, Any]) -> str:
    try:
        return str(Text().run_validation(answer.get("model")))
    except serializers.ValidationError as error:
        raise InvalidInput("model", "is needed, here or in completion_response") from error


def _cost_of_reply(answer: Mapping[str, Any], quote: Quote) -> Decimal:
    reading = openai_chat.read(answer)
    if reading is None:
        raise InvalidInput("completion_response.usage", "tells no tokens")
    served = answer.get("service_tier")
    tier, _ = quote.charged.tier_of(served=served if isinstance(served, str) else None)
    conditions = Conditions(tier, reading.variant, reading.region)
    return quotes.cost_of(quote, usage=reading.usage, conditions=conditions).total


def _counted(asked: Asked, model: str) -> Count:
    messages, system = asked.get("messages"), asked.get("system")
    if messages is None and asked.get("prompt") is None:
        raise InvalidInput("prompt", "or messages is needed")
    if messages is None:
        return tokens.count_text(text=asked["prompt"], model=model)
    if system:
        messages = [{"role": "system", "content": system}, *messages]
    return prompt_tokens.count_messages(messages=messages, model=model, tools=asked.get("tools"))
