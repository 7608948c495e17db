"""What the endpoints of platform budgets may be sent."""

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from rest_framework import serializers

from budgets.api.endpoints import NON_FIELD_ERRORS_KEY, Asked, Strict, StrictQuery
from budgets.api.fields import (
    OPTIONAL,
    AmountText,
    BudgetDuration,
    ByName,
    EnforcementMode,
    LocalTime,
    Moment,
    ProviderName,
    PublicId,
    QueryWhole,
    Rate,
    Text,
    TimeZone,
    Weekday,
    Whole,
)
from budgets.api.inputs import ModelLimit, Paged
from budgets.durations import MONTHS_A_YEAR
from budgets.queries import PAGE_SIZE_MAX


class Nothing(StrictQuery):
    pass


class ProviderLimit(ModelLimit):
    budget_time_zone = TimeZone(**OPTIONAL)


class SetProviderBudgets(Strict):
    """Budgets by the providers' names: null takes one away, who is not named keeps its own."""

    @classmethod
    def by_name(cls) -> ByName:
        return ByName(child=ProviderLimit(allow_null=True), names=ProviderName())

    def to_internal_value(self, data: Any) -> Asked:
        try:
            return {"providers": self.by_name().run_validation(data)}
        except serializers.ValidationError as error:
            if isinstance(error.detail, dict):
                raise
            raise serializers.ValidationError({NON_FIELD_ERRORS_KEY: error.detail}) from error


class SetProviderBudgetsInSchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # theirs
    """How the API's description shows names that are the caller's."""

    target_class = SetProviderBudgets

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        limit = auto_schema.resolve_serializer(ProviderLimit, direction)
        return {"type": "object", "additionalProperties": limit.ref}


class PlatformLimits(Strict):
    """A budget's terms, with amounts as text."""

    max_budget = AmountText(**OPTIONAL)
    soft_budget = AmountText(**OPTIONAL)
    budget_duration = BudgetDuration(**OPTIONAL)
    budget_time_zone = TimeZone(**OPTIONAL)
    budget_reset_at = Moment(**OPTIONAL)
    budget_reset_time = LocalTime(**OPTIONAL)
    budget_week_start = Weekday(**OPTIONAL)
    budget_year_start = Whole(min_value=1, max_value=MONTHS_A_YEAR, **OPTIONAL)
    rollover_max = AmountText(**OPTIONAL)
    rpm_limit = Rate(**OPTIONAL)
    tpm_limit = Rate(**OPTIONAL)
    max_parallel_requests = Rate(**OPTIONAL)
    enforcement = EnforcementMode(**OPTIONAL)


class SetModelBudget(PlatformLimits):
    model = Text()


class OneModel(Strict):
    model = Text()


class SetDeploymentBudget(PlatformLimits):
    deployment_id = PublicId()


class OneDeployment(Strict):
    deployment_id = PublicId()


class ListPlatformBudgets(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
