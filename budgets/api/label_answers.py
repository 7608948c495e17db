"""What is answered about end users and tags."""

from dataclasses import dataclass
from typing import Any

from rest_framework import serializers

from budgets import models
from budgets.api.answers import Budget, Limited, OrNull
from budgets.figures import Figures
from budgets.models import Organization


class Governed(Limited):
    """Whose budget is told as such, whether it is its own, linked, or of a template."""

    organization_id = serializers.CharField(source="organization.public_id")
    budget_id = OrNull(source="figures.governing.budget.public_id")
    litellm_budget_table = Budget(source="figures.governing", allow_null=True)


@dataclass(frozen=True, slots=True)
class CustomerView:
    end_user: models.EndUser
    organization: Organization
    figures: Figures


class Customer(Governed):
    user_id = serializers.CharField(source="end_user.external_id")
    alias = OrNull(source="end_user.alias")
    blocked = serializers.BooleanField(source="end_user.blocked")
    models = serializers.ListField(source="end_user.allowed_models", child=serializers.CharField())
    created_at = serializers.DateTimeField(source="end_user.created_at")


class DeletedCustomers(serializers.Serializer):
    deleted_customers = serializers.IntegerField()
    message = serializers.CharField()


class BlockedCustomers(serializers.Serializer):
    blocked_users = Customer(many=True)


class StillBlocked(serializers.Serializer):
    """Ids of end users of the organization that are still blocked, of the first thousand."""

    blocked_users = serializers.ListField(child=serializers.CharField())


@dataclass(frozen=True, slots=True)
class TagView:
    tag: models.Tag
    organization: Organization
    figures: Figures


class Tag(Governed):
    name = serializers.CharField(source="tag.name")
    description = OrNull(source="tag.description")
    created_at = serializers.DateTimeField(source="tag.created_at")


class ChangedTag(serializers.Serializer):
    message = serializers.CharField()
    tag = Tag()


class Message(serializers.Serializer):
    message = serializers.CharField()


class TagsByName(serializers.Serializer):
    """An object of tags by their names."""

    def to_representation(self, instance: dict[str, TagView]) -> dict[str, Any]:
        return {name: Tag(view).data for name, view in instance.items()}
