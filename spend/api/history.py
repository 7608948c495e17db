"""``/api/v1/history``: who changed what, when, from where and why, as the database kept it."""

import json
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets import queries
from budgets.api.answers import OrNull
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, endpoint
from budgets.api.fields import OPTIONAL, QueryWhole, Text
from budgets.api.inputs import Paged
from budgets.errors import InvalidInput
from budgets.queries import PAGE_SIZE_MAX
from spend.api.fields import Instant

KEY_LENGTH_MAX = 64


class ListHistory(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    table = Text(max_length=KEY_LENGTH_MAX, **OPTIONAL)
    object = Text(max_length=KEY_LENGTH_MAX, **OPTIONAL)
    to = Instant(**OPTIONAL)

    def get_fields(self) -> dict[str, Any]:
        """``from`` is a word of Python's own."""
        return {**super().get_fields(), "from": Instant(**OPTIONAL)}


@extend_schema_field(OpenApiTypes.OBJECT)
class RowText(serializers.Field):
    """A row as it was; numbers with a point are text, so that none of their digits is lost."""

    def to_representation(self, value: str) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(value, parse_float=str)
        return row


class ChangeAnswer(serializers.Serializer):
    """One change of one row; ``before`` is null of a new one, ``after`` of one that is gone."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    table = serializers.CharField(source="table_name")
    object = serializers.CharField(source="object_id")
    action = serializers.CharField()
    actor = serializers.CharField()
    source = OrNull()  # type: ignore[assignment]  # a column of that name, not where DRF reads it
    address = OrNull()
    reason = OrNull()
    before = RowText(source="before_text", allow_null=True)
    after = RowText(source="after_text", allow_null=True)


class History(ManagementView):
    @endpoint(takes=ListHistory, answers=ChangeAnswer, many=True)
    def get(self, asked: Asked) -> Answer:
        """List what was changed, the newest first; the headers tell how many pages there are."""
        if asked.get("object") and not asked.get("table"):
            raise InvalidInput("object", "needs the table that it is a row of")
        rows = queries.changes(
            table=asked.get("table") or "",
            object_id=asked.get("object") or "",
            since=asked.get("from"),
            until=asked.get("to"),
        )
        page = queries.page_of(rows, number=asked["page"], size=asked["size"])
        return Answer(page.rows, headers_of(page))
