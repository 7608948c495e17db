"""``/api/v1/spend``: what was spent between two days, by up to two groups, in any currency."""

from typing import Any, Final

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework import serializers

from budgets import queries
from budgets.api.endpoints import Asked, ManagementView, StrictQuery, endpoint
from budgets.api.fields import (
    OPTIONAL,
    Currency,
    Day,
    OneOf,
    ProviderName,
    PublicId,
    QueryList,
    Text,
)
from budgets.models import Organization
from spend.reporting import report_answers, report_csv, reports
from spend.reporting.report_sums import Group

FORMATS: Final = ("json", "csv")


class SpendQuery(StrictQuery):
    to = Day()
    group_by = QueryList(child=OneOf(tuple(Group)), default=[Group.DAY.value])
    currency = Currency(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    model = Text(**OPTIONAL)
    provider = ProviderName(**OPTIONAL)
    format = OneOf(FORMATS, default=FORMATS[0])

    def get_fields(self) -> dict[str, serializers.Field]:
        # A word of Python's own cannot stand above.
        return {"from": Day(), **super().get_fields()}


class Spend(ManagementView):
    @endpoint(takes=SpendQuery, answers=report_answers.SpendReport)
    def get(self, asked: Asked) -> dict[str, Any] | HttpResponse:
        """
        Report what was spent, in any currency, and how it was converted.

        Days are those of each organization's time zone. With ``format=csv`` it is a table.
        """
        report = reports.read(_wanted(asked))
        return (
            report_csv.file_of(report) if asked["format"] == "csv" else report_answers.told(report)
        )


def _wanted(asked: Asked) -> reports.Asked:
    return reports.Asked(
        organizations=_organizations(asked.get("organization_id")),
        first_day=asked["from"],
        last_day=asked["to"],
        group_by=tuple(map(Group, asked["group_by"])),
        currency=asked.get("currency") or "",
        model=asked.get("model") or "",
        provider=asked.get("provider") or "",
    )


def _organizations(public_id: str | None) -> QuerySet[Organization]:
    """
    Return one organization, or all, which the holder of the master key may see.

    :raises NotFound: if there is no such one
    """
    if not public_id:
        return Organization.objects.all()
    return Organization.objects.filter(pk=queries.find_organization(public_id).pk)
