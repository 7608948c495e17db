"""``/api/v1/closings``: what was spent in periods that are over."""

from decimal import Decimal
from uuid import UUID

from rest_framework import serializers

from budgets import money, queries
from budgets.api.answers import MoneyText, OrNull
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, endpoint
from budgets.api.fields import OPTIONAL, Parsed, PublicId, QueryWhole
from budgets.api.inputs import Paged
from budgets.models import Closing
from budgets.queries import PAGE_SIZE_MAX


class AccountId(Parsed):
    """The id of an account, as a UUID."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{"max_length": 36} | options)

    def parse(self, text: str) -> UUID:
        try:
            return UUID(text)
        except ValueError:
            raise ValueError("must be the id of an account, a UUID") from None


class ClosingQuery(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    account = AccountId()
    budget_id = PublicId(**OPTIONAL)


class ClosingView:
    """A closing with its amounts in the account's currency."""

    def __init__(self, row: Closing) -> None:
        self.row = row
        self.currency = row.account.currency
        self.spent = self._amount(row.spent_units)
        self.late = self._amount(row.late_units)
        self.total = self._amount(row.spent_units + row.late_units)

    def _amount(self, units: int) -> Decimal:
        return money.to_decimal(units, currency=self.currency)


class ClosingRow(serializers.Serializer):
    """
    A period that is over. ``spent`` and ``events`` are as of ``closed_at`` and stay so; ``late``
    and ``late_events`` came after it; ``total`` is both. ``budget_id`` is null once it is deleted.
    """

    account_id = serializers.UUIDField(source="row.account_id")
    account = serializers.CharField(source="row.account.label")
    budget_id = OrNull(source="row.budget.public_id", default=None)
    budget = serializers.CharField(source="row.budget_name")
    period_start = serializers.DateTimeField(source="row.period_start")
    period_end = serializers.DateTimeField(source="row.period_end")
    budget_time_zone = serializers.CharField(source="row.time_zone")
    currency = serializers.CharField()
    limit = MoneyText(source="row.limit", allow_null=True)
    spent = MoneyText()
    events = serializers.IntegerField(source="row.events")
    late = MoneyText()
    late_events = serializers.IntegerField(source="row.late_events")
    total = MoneyText()
    closed_at = serializers.DateTimeField(source="row.closed_at")


class Closings(ManagementView):
    @endpoint(takes=ClosingQuery, answers=ClosingRow, many=True)
    def get(self, asked: Asked) -> Answer:
        """List the closed periods of an account, the newest first."""
        rows = queries.closings_of(asked["account"], budget=asked.get("budget_id"))
        page = queries.page_of(rows, number=asked["page"], size=asked["size"])
        return Answer([ClosingView(each) for each in page.rows], headers_of(page))
