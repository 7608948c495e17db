"""What is answered of a report: money as text, and how it was converted."""

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from budgets.api.answers import MoneyText
from spend.reporting.report_figures import POLICY, POLICY_WORDS, Figures, RateUsed, minor_unit
from spend.reporting.report_sums import Group
from spend.reporting.reports import Report, Row


class CurrencyAmount(serializers.Serializer):
    currency = serializers.CharField()
    amount = MoneyText()


class Spent(serializers.Serializer):
    """``amount`` is rounded to minor units, ``exact_amount`` is not; the rest is not converted."""

    amount = serializers.CharField()
    exact_amount = MoneyText()
    original = CurrencyAmount(many=True)
    not_converted = CurrencyAmount(many=True)
    stale_rate = serializers.BooleanField()
    events = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    saved = CurrencyAmount(many=True)


class SpentGroup(serializers.Serializer):
    """By id and name; the id is empty where spend has no such group, as a key without a team."""

    id = serializers.CharField()
    name = serializers.CharField()


class SpentRow(Spent):
    groups = serializers.DictField(child=SpentGroup())


class RateOfDays(serializers.Serializer):
    """What one unit of a currency was worth from ``first_day`` to ``last_day``, by which rate."""

    currency = serializers.CharField()
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    rate = MoneyText()
    rate_date = serializers.DateField(allow_null=True)
    stale = serializers.BooleanField()


class NotConverted(serializers.Serializer):
    """What is in no total, since ``days`` of these days have no rate."""

    currency = serializers.CharField()
    amount = MoneyText()
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    days = serializers.IntegerField()


class Conversion(serializers.Serializer):
    policy = serializers.CharField()
    description = serializers.CharField()
    minor_unit = serializers.CharField()
    rounding = serializers.CharField()
    rates = RateOfDays(many=True)
    not_converted = NotConverted(many=True)


class SpendReport(serializers.Serializer):
    """The amounts of all rows and ``conversion.rounding`` add up to the total's."""

    first_day = serializers.DateField()
    last_day = serializers.DateField()
    group_by = serializers.ListField(child=serializers.CharField())
    currency = serializers.CharField()
    rows = SpentRow(many=True)
    total = Spent()
    conversion = Conversion()


def told(report: Report) -> dict[str, Any]:
    """Return a report as :class:`SpendReport` writes it."""
    return {
        "first_day": report.first_day,
        "last_day": report.last_day,
        "group_by": report.group_by,
        "currency": report.currency,
        "rows": [_row(row, report.group_by) for row in report.rows],
        "total": _figures(report.total),
        "conversion": {
            "policy": POLICY,
            "description": POLICY_WORDS,
            "minor_unit": f"{minor_unit(report.currency):f}",
            "rounding": f"{report.rounding:f}",
            "rates": [_rate(used) for used in report.rates],
            "not_converted": report.not_converted,
        },
    }


def _row(row: Row, group_by: Iterable[Group]) -> dict[str, Any]:
    groups = dict(zip(group_by, row.groups, strict=True))
    return {"groups": groups, **_figures(row.figures)}


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "amount": f"{figures.amount:f}",
        "exact_amount": figures.exact,
        "original": figures.original,
        "not_converted": figures.not_converted,
        "stale_rate": figures.is_stale,
        "events": figures.events,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "saved": figures.saved,
    }


def _rate(used: RateUsed) -> dict[str, Any]:
    return {
        "currency": used.currency,
        "first_day": used.first_day,
        "last_day": used.last_day,
        "rate": used.rate.value,
        "rate_date": used.rate.day,
        "stale": used.rate.is_stale,
    }
