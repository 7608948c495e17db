"""``/api/v1/price-adjustments``: discounts and margins on list prices."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from budgets import queries
from budgets.api.answers import MoneyText, OrNull
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, Strict, endpoint
from budgets.api.fields import OPTIONAL, ProviderName, PublicId, QueryWhole, Text, Whole
from budgets.api.inputs import Paged
from budgets.api.label_answers import Message
from budgets.errors import InvalidInput
from budgets.queries import PAGE_SIZE_MAX
from spend.api.fields import Instant, NumberText, RateText
from spend.api.prices import ID_MAX, organization_of
from spend.models import PriceAdjustment, Provider
from spend.price_queries import adjustments_asked, find_adjustment, state_of
from spend.services import adjustments
from spend.services.adjustments import (
    DISCOUNT_MAX,
    MARGIN_MAX,
    PERCENT_DECIMALS_MAX,
    REASON_LENGTH_MAX,
    ZERO,
    Wanted,
)


class DiscountText(NumberText):
    """Per cent off the list price."""

    def __init__(self, **options: Any) -> None:
        super().__init__(most=DISCOUNT_MAX, decimals=PERCENT_DECIMALS_MAX, **options)


class MarginText(NumberText):
    """Per cent on top."""

    def __init__(self, **options: Any) -> None:
        super().__init__(most=MARGIN_MAX, decimals=PERCENT_DECIMALS_MAX, **options)


class NewAdjustment(Strict):
    """A discount or margin from ``effective_from`` on, which is now if it is left out."""

    provider = ProviderName(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    team_id = PublicId(**OPTIONAL)
    discount_percent = DiscountText(**OPTIONAL)
    margin_percent = MarginText(**OPTIONAL)
    margin_per_request = RateText(**OPTIONAL)
    effective_from = Instant(**OPTIONAL)
    effective_until = Instant(**OPTIONAL)
    reason = Text(max_length=REASON_LENGTH_MAX, **OPTIONAL)


class EndAdjustment(Strict):
    adjustment_id = Whole(min_value=1, max_value=ID_MAX)
    effective_until = Instant(**OPTIONAL)


class OneAdjustment(Strict):
    adjustment_id = Whole(min_value=1, max_value=ID_MAX)


class AdjustmentQuery(Paged):
    """Which discounts and margins are wanted; with ``at`` only those in force then."""

    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    provider = ProviderName(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    team_id = PublicId(**OPTIONAL)
    at = Instant(**OPTIONAL)


@dataclass(frozen=True, slots=True)
class AdjustmentView:
    row: PriceAdjustment
    at: datetime

    @property
    def state(self) -> str:
        return state_of(self.row, now=self.at)


class AdjustmentRow(serializers.Serializer):
    """A discount or margin; null is: every provider, organization, team. ``state`` as of prices."""

    adjustment_id = serializers.IntegerField(source="row.pk")
    provider = OrNull(source="row.provider.slug", default=None)
    organization_id = OrNull(source="row.organization.public_id", default=None)
    team_id = OrNull(source="row.team.public_id", default=None)
    discount_percent = MoneyText(source="row.discount_percent")
    margin_percent = MoneyText(source="row.margin_percent")
    margin_per_request = MoneyText(source="row.margin_per_request")
    effective_from = serializers.DateTimeField(source="row.effective_from")
    effective_until = serializers.DateTimeField(source="row.effective_until", allow_null=True)
    state = serializers.CharField()
    reason = OrNull(source="row.reason")
    created_at = serializers.DateTimeField(source="row.created_at")


class Adjustments(ManagementView):
    @endpoint(takes=AdjustmentQuery, answers=AdjustmentRow, many=True)
    def get(self, asked: Asked) -> Answer:
        """List discounts and margins, the newest first."""
        now = timezone.now()
        found = adjustments_asked(
            provider=asked.get("provider") or "",
            organization=organization_of(asked),
            team_id=asked.get("team_id") or "",
            at=asked.get("at"),
        )
        page = queries.page_of(found, number=asked["page"], size=asked["size"])
        return Answer([AdjustmentView(each, now) for each in page.rows], headers_of(page))

    @endpoint(takes=NewAdjustment, answers=AdjustmentRow, operation_id="price_adjustment_create")
    def post(self, asked: Asked) -> AdjustmentView:
        """Add a discount or margin; the most particular one that is in force applies, alone."""
        now = timezone.now()
        team_id = asked.get("team_id")
        made = adjustments.create_adjustment(
            wanted=Wanted(
                provider=_provider(asked),
                organization=organization_of(asked),
                team=queries.find_team(team_id) if team_id else None,
                discount_percent=_or_zero(asked, "discount_percent"),
                margin_percent=_or_zero(asked, "margin_percent"),
                margin_per_request=_or_zero(asked, "margin_per_request"),
                effective_from=asked.get("effective_from") or now,
                effective_until=asked.get("effective_until"),
                reason=asked.get("reason") or "",
            )
        )
        return AdjustmentView(made, now)


class AdjustmentEnd(ManagementView):
    @endpoint(takes=EndAdjustment, answers=AdjustmentRow)
    def post(self, asked: Asked) -> AdjustmentView:
        """Let a discount or margin end, now or later; what is less particular applies then."""
        now = timezone.now()
        row = find_adjustment(asked["adjustment_id"])
        adjustments.end_adjustment(adjustment=row, at=asked.get("effective_until") or now, now=now)
        return AdjustmentView(row, now)


class AdjustmentDelete(ManagementView):
    @endpoint(takes=OneAdjustment, answers=Message)
    def post(self, asked: Asked) -> dict[str, str]:
        """Remove a discount or margin that has not begun."""
        row = find_adjustment(asked["adjustment_id"])
        adjustments.delete_adjustment(adjustment=row, now=timezone.now())
        return {"message": f"Adjustment {asked['adjustment_id']} deleted"}


def _or_zero(asked: Asked, name: str) -> object:
    value = asked.get(name)
    return ZERO if value is None else value


def _provider(asked: Asked) -> Provider | None:
    slug = asked.get("provider")
    if slug is None:
        return None
    found = Provider.objects.filter(slug=slug).first()
    if found is None:
        raise InvalidInput("provider", f"{slug} is not in the price book")
    return found
