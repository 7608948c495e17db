"""``/spend/logs``: rows of the ledger, and sums of them, as LiteLLM's clients read them."""

from typing import Any, Final
from uuid import UUID

from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework import serializers

from budgets import money
from budgets.api.answers import Anything, Money
from budgets.api.endpoints import Answer, ManagementView, StrictQuery, endpoint
from budgets.api.fields import OPTIONAL, Day, PublicId, QueryFlag, Text
from budgets.errors import InvalidInput
from budgets.keys import LENGTH_MAX as SECRET_LENGTH_MAX
from budgets.queries import key_digests
from spend import events, queries
from spend.models import SpendEvent
from spend.queries import DAYS_SUMMARIZED_MAX, ROWS_MAX, Asked, Sums

FAILED_FROM_STATUS: Final = 400


class SpendLogsQuery(StrictQuery):
    api_key = Text(max_length=SECRET_LENGTH_MAX, **OPTIONAL)
    user_id = PublicId(**OPTIONAL)
    request_id = Text(**OPTIONAL)
    start_date = Day(**OPTIONAL)
    end_date = Day(**OPTIONAL)
    summarize = QueryFlag(default=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        first, last = attrs.get("start_date"), attrs.get("end_date")
        if first and last and last < first:
            raise InvalidInput("end_date", "is before start_date")
        is_long = first and last and (last - first).days >= DAYS_SUMMARIZED_MAX
        if is_long and attrs["summarize"]:
            raise InvalidInput("end_date", f"must be within {DAYS_SUMMARIZED_MAX} days")
        return attrs


class SpendLog(serializers.Serializer):
    """A row of the ledger. ``api_key`` is the key's token; prompts and answers are not kept."""

    request_id = serializers.CharField()
    call_type = serializers.CharField()
    api_key = serializers.CharField()
    spend = Money()
    currency = serializers.CharField()
    total_tokens = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    startTime = serializers.DateTimeField()  # noqa: N815  # LiteLLM's name
    endTime = serializers.DateTimeField()  # noqa: N815  # LiteLLM's name
    model = serializers.CharField()
    model_group = serializers.CharField()
    model_id = serializers.CharField()
    custom_llm_provider = serializers.CharField()
    user = serializers.CharField()
    team_id = serializers.CharField()
    organization_id = serializers.CharField(allow_null=True)
    end_user = serializers.CharField()
    request_tags = serializers.ListField(child=serializers.CharField())
    cache_hit = serializers.CharField()
    status = serializers.CharField()
    metadata = Anything()
    messages = Anything()
    response = Anything()


class SpendDay(serializers.Serializer):
    """
    What was spent on a UTC day in one currency.

    Beside these, the token of every key that spent is a name, with what it spent.
    """

    startTime = serializers.DateField()  # noqa: N815  # LiteLLM's name
    spend = Money()
    currency = serializers.CharField()
    users = serializers.DictField(child=Money())
    models = serializers.DictField(child=Money())


class AsBuilt(serializers.BaseSerializer):
    """Answers what it is given: there may be thousands, and the names of some are data."""

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        return instance


class SpendLogs(ManagementView):
    @endpoint(
        takes=SpendLogsQuery,
        answers=AsBuilt,
        many=True,
        described_as=PolymorphicProxySerializer(
            component_name="SpendLogOrDay",
            serializers=[SpendLog, SpendDay],
            resource_type_field_name=None,
            many=True,
        ),
    )
    def get(self, asked: dict[str, Any]) -> Answer:
        """
        Give rows of the ledger, the newest first, or between two dates the sums of each day.

        Of more than 10,000 rows the newest are given; the header ``x-rows-cut`` says so.
        """
        wanted = _wanted(asked)
        if wanted is None:
            return Answer([], {"x-rows-max": str(ROWS_MAX), "x-rows-cut": "false"})
        if wanted.first_day and wanted.last_day and asked["summarize"]:
            return Answer([_day(sums) for sums in queries.sums_by_day(wanted)])
        found = queries.rows(wanted)
        is_cut = len(found) > ROWS_MAX
        headers = {"x-rows-max": str(ROWS_MAX), "x-rows-cut": str(is_cut).lower()}
        organizations = queries.organization_ids(found)
        return Answer([_row(row, organizations) for row in found[:ROWS_MAX]], headers)


def _wanted(asked: dict[str, Any]) -> Asked | None:
    """Return what is asked for, or None where the id is of a form that no request has."""
    request_id = None
    if text := asked.get("request_id"):
        try:
            request_id = UUID(text)
        except ValueError:
            return None
    return Asked(
        key_digests=key_digests(asked["api_key"]) if asked.get("api_key") else (),
        user=asked.get("user_id") or "",
        request_id=request_id,
        first_day=asked.get("start_date"),
        last_day=asked.get("end_date"),
    )


def _row(row: SpendEvent, organizations: dict[int, str]) -> dict[str, Any]:
    return {
        "request_id": str(row.request_id),
        "call_type": row.route,
        "api_key": row.key_digest,
        "spend": money.to_decimal(row.amount_units, currency=row.currency),
        "currency": row.currency,
        "total_tokens": row.input_tokens + row.output_tokens,
        "prompt_tokens": row.input_tokens,
        "completion_tokens": row.output_tokens,
        "startTime": row.admitted_at,
        "endTime": row.settled_at,
        "model": row.upstream_model,
        "model_group": row.model,
        "model_id": row.deployment,
        "custom_llm_provider": row.provider,
        "user": row.user,
        "team_id": row.team,
        "organization_id": organizations.get(row.organization_id),
        "end_user": row.end_user,
        "request_tags": row.tags,
        "cache_hit": str(events.CACHE_HIT in row.flags),
        "status": "failure" if row.status >= FAILED_FROM_STATUS else "success",
        "metadata": _metadata(row),
        "messages": {},
        "response": {},
    }


def _metadata(row: SpendEvent) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "flags": row.flags,
        "http_status": row.status,
        "streamed": row.streamed,
        "usage": row.usage,
        "cost_lines": row.lines,
        "cost": row.cost,
        "cost_currency": row.cost_currency,
        "exchange_rate": row.exchange_rate,
        "exchange_rate_date": row.exchange_rate_date,
        "price": row.price_reference,
        "rerating_id": row.rerating_id,
        "reserved": money.to_decimal(row.reserved_units, currency=row.currency),
        "saved": money.to_decimal(row.saved_units, currency=row.currency),
        "recorded_at": row.recorded_at,
    }


def _day(sums: Sums) -> dict[str, Any]:
    return {
        **sums.keys,
        "startTime": sums.day,
        "spend": sums.spend,
        "currency": sums.currency,
        "users": sums.users,
        "models": sums.models,
    }
