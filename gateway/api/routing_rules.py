"""``/api/v1/routing-rules``: which deployments are tried, and which models instead, for whom."""

from typing import Any, Final

from django.db import transaction
from django.db.models import F, QuerySet
from rest_framework import serializers

from budgets import queries
from budgets.api.answers import Count, OrNull
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, Strict, endpoint
from budgets.api.fields import OPTIONAL, OneOf, PublicId, QueryWhole, Text, TextList, Whole
from budgets.api.inputs import Paged
from budgets.api.label_answers import Message
from budgets.errors import InvalidInput, NotFound
from budgets.models import Organization
from budgets.queries import PAGE_SIZE_MAX
from gateway import routing_rules
from gateway.models import RoutingRule
from gateway.routing.fallbacks import RETRIES_MAX
from gateway.routing.strategies import Strategy

_NAMES: Final = {"model_name": "model"}
"""What the fields of a rule are called here, where that is something else."""


class ListRules(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    model = Text(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)


class OneRule(Strict):
    """The rule of an organization, or everybody's; ``*`` is the rule for every model."""

    model = Text()
    organization_id = PublicId(**OPTIONAL)


class SetRule(OneRule):
    """What a rule says; an empty list of models is: nothing else is tried."""

    strategy = OneOf(tuple(Strategy), **OPTIONAL)
    retries = Whole(max_value=RETRIES_MAX, **OPTIONAL)
    fallbacks = TextList(**OPTIONAL)
    context_window_fallbacks = TextList(**OPTIONAL)
    content_policy_fallbacks = TextList(**OPTIONAL)
    budget_fallbacks = TextList(**OPTIONAL)


class Models(serializers.ListField):
    """Names of models in the order in which they are tried; null: as the more general rule."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=serializers.CharField(), **{"allow_null": True} | options)


class RuleRow(serializers.Serializer):
    model = serializers.CharField(source="model_name")
    organization_id = OrNull(source="organization.public_id", default=None)
    strategy = OrNull()
    retries = Count()
    fallbacks = Models()
    context_window_fallbacks = Models()
    content_policy_fallbacks = Models()
    budget_fallbacks = Models()
    in_words = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class RoutingRules(ManagementView):
    @endpoint(takes=ListRules, answers=RuleRow, many=True)
    def get(self, asked: Asked) -> Answer:
        """List routing rules by model, those for everybody first."""
        rows = RoutingRule.objects.select_related("organization")
        if model := asked.get("model"):
            rows = rows.filter(model_name=model)
        if organization := _organization(asked):
            rows = rows.filter(organization=organization)
        page = queries.page_of(_in_order(rows), number=asked["page"], size=asked["size"])
        return Answer(page.rows, headers_of(page))

    @endpoint(takes=SetRule, answers=RuleRow, operation_id="routing_rule_set")
    def post(self, asked: Asked) -> RoutingRule:
        """Make a rule or change it: what is left out stays, null is as the more general rule."""
        values = {name: asked[name] for name in routing_rules.FIELDS if name in asked}
        with transaction.atomic():
            try:
                rule = routing_rules.set_rule(
                    model_name=asked["model"], organization=_organization(asked), values=values
                )
            except InvalidInput as error:
                raise InvalidInput(_NAMES.get(error.field, error.field), error.problem) from error
            if rule is None:
                raise InvalidInput("strategy", "is needed, or another field: delete it to end it")
        return rule


class RoutingRuleDelete(ManagementView):
    @endpoint(takes=OneRule, answers=Message)
    def post(self, asked: Asked) -> dict[str, str]:
        """Take a rule away: its model is routed as the more general one says."""
        rule = RoutingRule.objects.filter(
            model_name=asked["model"], organization=_organization(asked)
        ).first()
        if rule is None:
            raise NotFound("model", asked["model"])
        routing_rules.delete_rule(rule=rule)
        return {"message": f"Rule for {asked['model']} deleted successfully"}


def _organization(asked: Asked) -> Organization | None:
    public_id = asked.get("organization_id")
    return queries.find_organization(public_id) if public_id else None


def _in_order(rows: QuerySet[RoutingRule]) -> QuerySet[RoutingRule]:
    return rows.order_by("model_name", F("organization_id").asc(nulls_first=True))
