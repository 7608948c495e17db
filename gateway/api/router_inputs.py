"""What LiteLLM's router settings may be sent as: what is not obeyed is not accepted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets.api.endpoints import Asked, Defaults, Strict, StrictQuery
from budgets.api.fields import (
    LIST_LENGTH_MAX,
    OPTIONAL,
    ByName,
    Flag,
    OneOf,
    ProviderName,
    Text,
    TextList,
    Whole,
)
from budgets.api.limits import terms_of_model
from budgets.api.platform_inputs import ProviderLimit
from budgets.errors import InvalidInput
from budgets.services.accounts import Terms
from gateway.models import FALLBACK_FIELDS
from gateway.router_settings import STRATEGIES, RouterSettings
from gateway.routing.causes import Cause
from gateway.routing.fallbacks import EVERY_MODEL, HOPS_MAX, RETRIES_MAX

UNSUPPORTED_SETTINGS: Final[Defaults] = {
    "allowed_fails": None,
    "allowed_fails_policy": None,
    "cooldown_time": None,
    "default_litellm_params": None,
    "default_max_parallel_requests": None,
    "disable_cooldowns": False,
    "enable_pre_call_checks": False,
    "max_fallbacks": HOPS_MAX,
    "max_retries": None,
    "model_group_alias": {},
    "model_group_retry_policy": {},
    "optional_pre_call_checks": None,
    "retry_after": 0,
    "retry_policy": None,
    "routing_groups": [],
    "routing_strategy_args": {},
    "set_verbose": False,
    "stream_timeout": None,
    "timeout": None,
}
UNSUPPORTED_SECTIONS: Final[Defaults] = {
    "environment_variables": {},
    "general_settings": {},
    "model_list": [],
}
SHARED: Final = ("num_retries", "fallbacks", "context_window_fallbacks",
                 "content_policy_fallbacks", "default_fallbacks")  # fmt: skip
"""What LiteLLM's users write into either of its two sections."""
FALLBACK_TYPES: Final[Mapping[str, Cause]] = {
    "general": Cause.DEFAULT,
    "context_window": Cause.CONTEXT_WINDOW,
    "content_policy": Cause.CONTENT_POLICY,
}


@extend_schema_field(
    {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    }
)
class FallbackLists(serializers.Field):
    """LiteLLM's list of objects, such as ``[{"gpt-4o": ["claude"]}]``, as one mapping."""

    default_error_messages = {
        "type": 'must be a list of objects such as {{"model": ["another"]}}',
        "length": f"must not have more than {LIST_LENGTH_MAX} items",
        "twice": "names {name} twice",
    }

    def to_internal_value(self, data: Any) -> dict[str, list[str]]:
        if not isinstance(data, list) or not all(isinstance(each, Mapping) for each in data):
            self.fail("type")
        if len(data) > LIST_LENGTH_MAX:
            self.fail("length")
        lists: dict[str, list[str]] = {}
        for each in data:
            for name, models in ByName(child=TextList()).run_validation(each).items():
                if name in lists:
                    self.fail("twice", name=name[:64])
                lists[name] = models
        return lists


class SharedSettings(Strict):
    """What may stand in either section."""

    num_retries = Whole(max_value=RETRIES_MAX, **OPTIONAL)
    fallbacks = FallbackLists(**OPTIONAL)
    context_window_fallbacks = FallbackLists(**OPTIONAL)
    content_policy_fallbacks = FallbackLists(**OPTIONAL)
    default_fallbacks = TextList(**OPTIONAL)


class RouterSection(SharedSettings):
    """
    The settings of the router. Tags always route, so that ``enable_tag_filtering`` changes nothing.
    """

    unsupported = UNSUPPORTED_SETTINGS

    routing_strategy = OneOf(tuple(STRATEGIES), **OPTIONAL)
    budget_fallbacks = FallbackLists(**OPTIONAL)
    provider_budget_config = ByName(
        child=ProviderLimit(allow_null=True), names=ProviderName(), **OPTIONAL
    )
    enable_tag_filtering = Flag(**OPTIONAL)


class ConfigUpdate(Strict):
    """The sections of LiteLLM's configuration that are about routing; what is left out stays."""

    unsupported = UNSUPPORTED_SECTIONS

    router_settings = RouterSection(**OPTIONAL)
    litellm_settings = SharedSettings(**OPTIONAL)


class NewFallback(Strict):
    model = Text()
    fallback_models = TextList(allow_empty=False)
    fallback_type = OneOf(tuple(FALLBACK_TYPES), **OPTIONAL)


class FallbackQuery(StrictQuery):
    fallback_type = OneOf(tuple(FALLBACK_TYPES), **OPTIONAL)


class Nothing(StrictQuery):
    pass


@dataclass(frozen=True, slots=True)
class Placed:
    """The settings that are wanted, and in which section each of them stands."""

    settings: RouterSettings
    sections: Mapping[str, str]

    def in_its_section(self, error: InvalidInput) -> InvalidInput:
        """Return the error with the place of its setting in the body."""
        section = self.sections.get(error.field, "router_settings")
        return InvalidInput(f"{section}.{error.field}", error.problem)


def placed(asked: Asked) -> Placed:
    """
    Return what a configuration says.

    :raises InvalidInput: if it says a thing in two places
    """
    router, shared = asked.get("router_settings") or {}, asked.get("litellm_settings") or {}
    for name in shared.keys() & router.keys():
        raise InvalidInput(f"litellm_settings.{name}", "is in router_settings too")
    sections = dict.fromkeys(router, "router_settings") | dict.fromkeys(shared, "litellm_settings")
    return Placed(_settings({**router, **shared}, sections), sections)


def _settings(said: Asked, sections: Mapping[str, str]) -> RouterSettings:
    lists = {cause: said[name] or {} for cause, name in FALLBACK_FIELDS.items() if name in said}
    if "default_fallbacks" in said and EVERY_MODEL in lists.get(Cause.DEFAULT, {}):
        field = f"{sections['default_fallbacks']}.default_fallbacks"
        raise InvalidInput(field, f"is said by the {EVERY_MODEL} of fallbacks too")
    strategy = said.get("routing_strategy")
    return RouterSettings(
        said=frozenset(said),
        strategy=None if strategy is None else STRATEGIES[strategy],
        retries=said.get("num_retries"),
        fallbacks=lists,
        default_fallbacks=said.get("default_fallbacks"),
        provider_budgets={
            name: Terms() if each is None else terms_of_model(each, general=Terms())
            for name, each in (said.get("provider_budget_config") or {}).items()
        },
    )
