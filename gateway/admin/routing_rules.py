"""Routing rules: which deployments are tried, and which models instead, said in words."""

from dataclasses import replace
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import F
from django.http import HttpRequest

from budgets.admin.base import ServiceAdmin, chosen
from budgets.admin.forms import LinesField, ServiceForm
from budgets.admin.lists import two_lines
from budgets.admin.theme import Select
from budgets.fields import NAME_LENGTH_MAX
from gateway import routing_rules
from gateway.admin.suggestions import WithSuggestions, known_models
from gateway.catalogue import EMPTY
from gateway.models import RoutingRule, StrategyChoice
from gateway.routing.fallbacks import EVERY_MODEL, FALLBACKS_MAX, RETRIES_MAX, Override
from gateway.routing.words import what_happens

FIELDS: Final = ("model_name", "organization", *routing_rules.FIELDS)
NOBODY: Final = 0
"""The id of no organization."""
NOTHING: Final = "-"
"""The line that says: nothing else is tried."""
THOSE_ABOVE: Final = "Where no rule names any: those that are tried when none answers."
AS_GENERAL: Final = ("", "As the more general rule says")


class FallbacksField(LinesField):
    """Models, one a line; no line is None, as the more general rule; a hyphen is an empty list."""

    def __init__(self, *, label: str, help_text: str = "") -> None:
        super().__init__(length_max=NAME_LENGTH_MAX, label=label, help_text=help_text)
        self.widget.attrs["rows"] = 2

    def prepare_value(self, value: Any) -> Any:
        return NOTHING if value == [] else super().prepare_value(value)

    def to_python(self, value: Any) -> Any:
        names = super().to_python(value)
        return [] if names == [NOTHING] else names or None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != initial)

    def validate(self, value: Any) -> None:
        if value is not None:
            super().validate(value)


class RuleForm(ServiceForm):
    model_name = forms.CharField(
        label="Model",
        max_length=NAME_LENGTH_MAX,
        widget=WithSuggestions(list_id="known-models", known=known_models),
        help_text=f"The name that is asked for; {EVERY_MODEL}: every model without a rule.",
    )
    strategy = forms.TypedChoiceField(
        label="Deployments in this order",
        choices=[AS_GENERAL, *StrategyChoice.choices],
        required=False,
        empty_value=None,
        widget=Select,
    )
    retries = forms.TypedChoiceField(
        choices=[AS_GENERAL, *((str(n), str(n)) for n in range(RETRIES_MAX + 1))],
        coerce=int,
        required=False,
        empty_value=None,
        widget=Select,
        help_text="How many further deployments of the model are tried after a failure.",
    )
    fallbacks = FallbacksField(label="When none of them answers, try")
    context_window_fallbacks = FallbacksField(
        label="When a request is too long for it, try", help_text=THOSE_ABOVE
    )
    content_policy_fallbacks = FallbacksField(
        label="When its provider refuses the content, try", help_text=THOSE_ABOVE
    )
    budget_fallbacks = FallbacksField(
        label="When a budget has no room for it, try",
        help_text="Where no rule names any, the request is refused.",
    )

    class Meta:
        model = RoutingRule
        fields = FIELDS


@admin.register(RoutingRule)
class RoutingRuleAdmin(ServiceAdmin):
    purpose = "A rule says which deployments of a model are tried first, and which models instead."
    form = RuleForm
    list_display = ("called", "happens", "whose")
    list_filter = ("strategy", ("organization", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("organization",)
    search_fields = ("model_name",)
    search_help_text = "Model"
    autocomplete_fields = ("organization",)
    ordering = ("model_name", F("organization_id").asc(nulls_first=True))
    readonly_fields = ("happens", "in_effect")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        about = ("model_name", "organization", *(("happens", "in_effect") if obj else ()))
        return (
            (None, {"fields": about}),
            ("Deployments", {"fields": ("strategy", "retries")}),
            ("Other models", {
                "fields": (
                    "fallbacks", "context_window_fallbacks", "content_policy_fallbacks",
                    "budget_fallbacks",
                ),
                "description": (
                    f"One a line, in this order, {FALLBACKS_MAX} at most. Empty: as the more"
                    f" general rule says. A single {NOTHING} is: nothing else is tried."
                ),
            }),
        )  # fmt: skip

    def create(self, request: HttpRequest, form: Any) -> RoutingRule:
        return routing_rules.create_rule(values=chosen(form, FIELDS))

    def update(self, request: HttpRequest, form: Any) -> None:
        routing_rules.update_rule(rule=form.instance, values=chosen(form, FIELDS))

    def delete_model(self, request: HttpRequest, obj: RoutingRule) -> None:
        routing_rules.delete_rule(rule=obj)

    @column(description="Model", ordering="model_name")
    def called(self, obj: RoutingRule) -> str:
        if obj.model_name == EVERY_MODEL:
            return two_lines("Every other model", "what has no rule of its own")
        return two_lines(obj.model_name, "")

    @column(description="What happens")
    def happens(self, obj: RoutingRule) -> str:
        return _sentence(obj.override())

    @column(description="With more general rules")
    def in_effect(self, obj: RoutingRule) -> str:
        about = RoutingRule.objects.filter(model_name__in=(obj.model_name, EVERY_MODEL))
        rules = {(each.organization_id, each.model_name): each.override() for each in about}
        rule = replace(EMPTY, rules=rules).rule_for(obj.model_name, obj.organization_id or NOBODY)
        return _sentence(Override(rule.strategy, rule.retries, rule.fallbacks))

    @column(description="For", ordering="organization")
    def whose(self, obj: RoutingRule) -> str:
        return str(obj.organization) if obj.organization else "every organization"


def _sentence(override: Override) -> str:
    words = what_happens(override)
    return words[:1].upper() + words[1:]
