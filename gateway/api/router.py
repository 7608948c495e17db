"""
``/fallback``, ``/router/*`` and ``/config/update`` as LiteLLM's clients call them.

They read and write the rules that are everybody's; see routing_rules.py for those of organizations.
"""

from collections.abc import Mapping
from typing import Any, Final

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets.api.answers import Anything
from budgets.api.endpoints import Asked, ManagementView, endpoint
from budgets.api.label_answers import Message
from budgets.errors import InvalidInput, NotFound
from budgets.services.accounts import Terms
from gateway import router_settings
from gateway.api import router_inputs
from gateway.api.router_inputs import FALLBACK_TYPES
from gateway.models import FALLBACK_FIELDS
from gateway.routing.causes import Cause
from gateway.routing.fallbacks import EVERY_MODEL, HOPS_MAX
from gateway.routing.strategies import Strategy
from gateway.routing.words import STRATEGIES as IN_WORDS
from gateway.routing_rules import set_rule

GENERAL: Final = "general"
_NAMES: Final = {
    "model_name": "model",
    **dict.fromkeys(FALLBACK_FIELDS.values(), "fallback_models"),
}
"""What the fields of a rule are called here."""
FIELDS: Final[tuple[tuple[str, str, str, Any], ...]] = (
    ("routing_strategy", "String", "In which order deployments are tried.", "simple-shuffle"),
    ("num_retries", "Integer", "How many further deployments are tried after a failure.", 2),
    ("max_fallbacks", "Integer", "How many other models a request tries at most.", HOPS_MAX),
    ("fallbacks", "List", "Models to try when none of a model's deployments answers.", []),
    ("default_fallbacks", "List", "The same, of models without a list of their own.", []),
    ("context_window_fallbacks", "List", "Models to try when a request is too long.", []),
    ("content_policy_fallbacks", "List", "Models to try when content is refused.", []),
    ("budget_fallbacks", "List", "Models to try when a budget has no room.", []),
    ("provider_budget_config", "Dictionary", "What may be spent at each provider.", {}),
    ("enable_tag_filtering", "Boolean", "Requests go to deployments with their tags.", True),
)
"""Name, type, meaning and default of each setting that there is."""


class Fallback(serializers.Serializer):
    model = serializers.CharField()
    fallback_models = serializers.ListField(child=serializers.CharField())
    fallback_type = serializers.CharField()


class SetFallback(Fallback):
    message = serializers.CharField()


class DeletedFallback(serializers.Serializer):
    model = serializers.CharField()
    fallback_type = serializers.CharField()
    message = serializers.CharField()


@extend_schema_field({})
class AnyValue(Anything):
    """A value of whichever type the setting has."""


class RouterField(serializers.Serializer):
    field_name = serializers.CharField()  # type: ignore[assignment]  # a field, which DRF takes out
    field_type = serializers.CharField()
    field_value = AnyValue(allow_null=True)
    field_description = serializers.CharField()
    field_default = AnyValue(allow_null=True)
    options = serializers.ListField(child=serializers.CharField(), allow_null=True)
    ui_field_name = serializers.CharField()
    link = serializers.CharField(allow_null=True)


class RouterFields(serializers.Serializer):
    fields = RouterField(many=True)  # type: ignore[assignment]  # a field, which DRF takes out
    routing_strategy_descriptions = serializers.DictField(child=serializers.CharField())
    routing_group_strategies = serializers.ListField(child=serializers.CharField())


class RouterValues(RouterFields):
    current_values = Anything()
    source = serializers.DictField(  # type: ignore[assignment]  # as above
        child=serializers.CharField()
    )


class FallbackNew(ManagementView):
    @endpoint(takes=router_inputs.NewFallback, answers=SetFallback)
    def post(self, asked: Asked) -> dict[str, Any]:
        """Say which models are tried instead of a model, for everybody."""
        kind = asked.get("fallback_type") or GENERAL
        model, models = asked["model"], asked["fallback_models"]
        _write(model, kind, models)
        return {
            "model": model, "fallback_models": models, "fallback_type": kind,
            "message": "Fallback configuration set successfully",
        }  # fmt: skip


class FallbackOf(ManagementView):
    @endpoint(takes=router_inputs.FallbackQuery, answers=Fallback)
    def get(self, asked: Asked, *, model: str) -> dict[str, Any]:
        """Tell which models are tried instead: those of the model itself, else of every model."""
        kind = asked.get("fallback_type") or GENERAL
        models = _read(model, kind) or _read(EVERY_MODEL, kind)
        if not models:
            raise NotFound("model", model)
        return {"model": model, "fallback_models": models, "fallback_type": kind}

    @endpoint(takes=router_inputs.FallbackQuery, answers=DeletedFallback)
    def delete(self, asked: Asked, *, model: str) -> dict[str, str]:
        """Take a list of fallbacks away; the rest of the model's rule stays."""
        kind = asked.get("fallback_type") or GENERAL
        if _read(model, kind) is None:
            raise NotFound("model", model)
        _write(model, kind, None)
        message = "Fallback configuration deleted successfully"
        return {"model": model, "fallback_type": kind, "message": message}


class RouterFieldList(ManagementView):
    @endpoint(takes=router_inputs.Nothing, answers=RouterFields)
    def get(self, asked: Asked) -> dict[str, Any]:
        """Tell which settings there are."""
        return _described({})


class RouterSettingsNow(ManagementView):
    @endpoint(takes=router_inputs.Nothing, answers=RouterValues)
    def get(self, asked: Asked) -> dict[str, Any]:
        """Tell the settings as they are: everybody's rules, and the budgets of providers."""
        values, from_rules = _current_values()
        source = {name: "db" if name in from_rules else "default" for name in values}
        return {**_described(values), "current_values": values, "source": source}


class ConfigUpdate(ManagementView):
    @endpoint(takes=router_inputs.ConfigUpdate, answers=Message)
    def post(self, asked: Asked) -> dict[str, str]:
        """Change settings for everybody: what is left out stays, null takes away."""
        wanted = router_inputs.placed(asked)
        try:
            router_settings.apply(wanted=wanted.settings, now=timezone.now())
        except InvalidInput as error:
            raise wanted.in_its_section(error) from error
        return {"message": "Config updated successfully"}


def _field_of(kind: str) -> str:
    return FALLBACK_FIELDS[FALLBACK_TYPES[kind]]


def _write(model: str, kind: str, models: list[str] | None) -> None:
    try:
        set_rule(model_name=model, organization=None, values={_field_of(kind): models})
    except InvalidInput as error:
        raise InvalidInput(_NAMES.get(error.field, error.field), error.problem) from error


def _read(model: str, kind: str) -> list[str] | None:
    override = router_settings.everybodys_rules().get(model)
    models = None if override is None else override.fallbacks.get(FALLBACK_TYPES[kind])
    return None if models is None else list(models)


def _described(values: Mapping[str, Any]) -> dict[str, Any]:
    strategies = list(router_settings.STRATEGIES)
    return {
        "fields": [_field(*each, strategies=strategies, values=values) for each in FIELDS],
        "routing_strategy_descriptions": {
            name: IN_WORDS[strategy] for name, strategy in router_settings.STRATEGIES.items()
        },
        "routing_group_strategies": strategies,
    }


def _field(
    name: str, kind: str, meaning: str, default: Any, *, strategies: list[str],
    values: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    return {
        "field_name": name,
        "field_type": kind,
        "field_value": values.get(name),
        "field_description": meaning,
        "field_default": default,
        "options": strategies if name == "routing_strategy" else None,
        "ui_field_name": name.replace("_", " ").capitalize(),
        "link": None,
    }


def _current_values() -> tuple[dict[str, Any], set[str]]:
    """Return every setting as LiteLLM writes it, and the names of those that rules have set."""
    rules = router_settings.everybodys_rules()
    default, for_all = router_settings.default_rule(), rules.get(EVERY_MODEL)
    lists = {name: _lists(rules, cause) for cause, name in FALLBACK_FIELDS.items()}
    budgets = {name: _budget(each) for name, each in router_settings.provider_terms().items()}
    values = {
        "routing_strategy": _litellms_name(default.strategy),
        "num_retries": default.retries,
        "max_fallbacks": HOPS_MAX,
        **lists,
        "default_fallbacks": list(default.fallbacks.get(Cause.DEFAULT, ())),
        "provider_budget_config": budgets,
        "enable_tag_filtering": True,
    }
    told = {
        name for name in (*lists, "default_fallbacks", "provider_budget_config") if values[name]
    }
    if for_all is not None:
        told |= {"routing_strategy"} if for_all.strategy else set()
        told |= {"num_retries"} if for_all.retries is not None else set()
    return values, told


def _lists(rules: Mapping[str, Any], cause: Cause) -> list[dict[str, list[str]]]:
    """Return the lists of one cause; the default's list of general fallbacks stands by itself."""
    return [
        {model: list(rule.fallbacks[cause])}
        for model, rule in rules.items()
        if cause in rule.fallbacks and not (model == EVERY_MODEL and cause is Cause.DEFAULT)
    ]


def _litellms_name(strategy: Strategy) -> str:
    """Return LiteLLM's name of a strategy; ours, where it has none."""
    return next(name for name, each in router_settings.STRATEGIES.items() if each is strategy)


def _budget(terms: Terms) -> dict[str, Any]:
    return {"budget_limit": terms.max_budget, "time_period": terms.duration or None}
