"""What is answered about the budgets of models, providers and deployments."""

from dataclasses import dataclass

from rest_framework import serializers

from budgets.api.answers import Count, Money, MoneyText, OrNull, WeekdayName
from budgets.figures import Figures


class ProviderBudget(serializers.Serializer):
    """LiteLLM's four fields, and what else there is to tell of the budget."""

    account_id = serializers.CharField()
    budget_limit = Money(source="governing.budget.max_budget", allow_null=True)
    limit = Money(source="standing.limit", allow_null=True)
    limit_increased_until = serializers.DateTimeField(
        source="standing.increased_until", allow_null=True
    )
    time_period = OrNull(source="governing.budget.duration")
    spend = Money()
    budget_reset_at = serializers.DateTimeField(source="resets_at", allow_null=True)
    spend_as_of = serializers.DateTimeField(allow_null=True)
    currency = serializers.CharField()
    budget_time_zone = OrNull(source="governing.budget.time_zone")
    budget_anchor = serializers.DateTimeField(source="governing.budget.anchor", allow_null=True)
    rpm_limit = Count(source="governing.budget.rpm_limit")
    tpm_limit = Count(source="governing.budget.tpm_limit")
    max_parallel_requests = Count(source="governing.budget.max_parallel_requests")
    enforcement = OrNull(source="governing.budget.enforcement")


class ProviderBudgets(serializers.Serializer):
    providers = serializers.DictField(child=ProviderBudget())


@dataclass(frozen=True, slots=True)
class PlatformView:
    """A model, provider or deployment by the name under which it is limited."""

    name: str
    figures: Figures


class PlatformBudget(serializers.Serializer):
    """What all organizations together may spend there, in the platform's currency."""

    account_id = serializers.CharField(source="figures.account_id")
    max_budget = MoneyText(source="figures.governing.budget.max_budget", allow_null=True)
    limit = MoneyText(source="figures.standing.limit", allow_null=True)
    limit_increased_until = serializers.DateTimeField(
        source="figures.standing.increased_until", allow_null=True
    )
    soft_budget = MoneyText(source="figures.governing.budget.soft_budget", allow_null=True)
    budget_duration = OrNull(source="figures.governing.budget.duration")
    budget_time_zone = OrNull(source="figures.governing.budget.time_zone")
    budget_anchor = serializers.DateTimeField(
        source="figures.governing.budget.anchor", allow_null=True
    )
    budget_reset_time = OrNull(source="figures.governing.budget.reset_time")
    budget_week_start = WeekdayName(source="figures.governing.budget.week_start", allow_null=True)
    budget_year_start = Count(source="figures.governing.budget.year_start")
    rollover_max = MoneyText(source="figures.governing.budget.rollover_max", allow_null=True)
    rpm_limit = Count(source="figures.governing.budget.rpm_limit")
    tpm_limit = Count(source="figures.governing.budget.tpm_limit")
    max_parallel_requests = Count(source="figures.governing.budget.max_parallel_requests")
    enforcement = OrNull(source="figures.governing.budget.enforcement")
    budget_reset_at = serializers.DateTimeField(source="figures.resets_at", allow_null=True)
    spend = MoneyText(source="figures.spend")
    total_spend = MoneyText(source="figures.total_spend")
    spend_as_of = serializers.DateTimeField(source="figures.spend_as_of", allow_null=True)
    currency = serializers.CharField(source="figures.currency")


class ModelBudget(PlatformBudget):
    model = serializers.CharField(source="name")


class DeploymentBudget(PlatformBudget):
    deployment_id = serializers.CharField(source="name")
