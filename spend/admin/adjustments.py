"""Discounts and margins: made and ended here, never edited."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from budgets.admin.base import ServiceAdmin, chosen
from budgets.admin.theme import action
from spend.admin.ending import end_page
from spend.admin.price_forms import DatedForm, NumberField
from spend.admin.price_words import EVERYBODY, adjustment_told, state_told
from spend.models import PriceAdjustment
from spend.price_queries import state_of
from spend.services import adjustments
from spend.services.adjustments import Wanted

FIELDS: Final = (
    "provider", "organization", "team", "discount_percent", "margin_percent",
    "margin_per_request", "effective_until", "reason",
)  # fmt: skip
END_WORDS: Final = (
    "Requests that come later are charged at what is less particular and holds then, or at list"
    " prices."
)


class AdjustmentForm(DatedForm):
    discount_percent = NumberField(
        initial="0", label="Discount, %", help_text="Off the list price."
    )
    margin_percent = NumberField(
        initial="0", label="Margin, %", help_text="On top, after the discount."
    )
    margin_per_request = NumberField(
        initial="0",
        label="Margin for each request",
        help_text="On top, in the currency of the price.",
    )

    class Meta:
        model = PriceAdjustment
        fields = ("effective_from", *FIELDS)


class StateFilter(SimpleListFilter):
    title = "in force"
    parameter_name = "in_force"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "Now"), ("future", "Later"), ("past", "No longer")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        over = Q(effective_until__isnull=False, effective_until__lte=now)
        wanted = {
            "now": Q(effective_from__lte=now) & ~over,
            "future": Q(effective_from__gt=now),
            "past": over,
        }.get(self.value() or "")
        return queryset if wanted is None else queryset.filter(wanted)


@admin.register(PriceAdjustment)
class PriceAdjustmentAdmin(ServiceAdmin):
    form = AdjustmentForm
    purpose = (
        "A discount or margin on list prices. The most particular one in force applies, alone: a"
        " team's before its organization's before everybody's."
    )
    list_display = (
        "whose", "of_provider", "told", "effective_from", "effective_until", "in_force", "reason",
    )  # fmt: skip
    list_filter = (
        StateFilter,
        ("provider", admin.RelatedOnlyFieldListFilter),
        ("organization", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("provider", "organization", "team")
    search_fields = ("provider__slug", "organization__name", "team__name", "reason")
    search_help_text = "Provider, organization, team or reason"
    autocomplete_fields = ("provider", "organization", "team")
    ordering = ("-effective_from", "-pk")
    actions_detail = ("end",)
    error_fields = {"team_id": "team", "adjustment_id": "effective_from"}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        what = ("told",) if obj else ("discount_percent", "margin_percent", "margin_per_request")
        return (
            ("For", {"fields": ("provider", ("organization", "team"))}),
            ("What", {"fields": (*what, "reason")}),
            ("When", {"fields": ("effective_from", "effective_until")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("told",) if obj else ()

    def create(self, request: HttpRequest, form: Any) -> PriceAdjustment:
        at = form.cleaned_data["effective_from"] or timezone.now()
        wanted = Wanted(effective_from=at, **chosen(form, FIELDS))
        return adjustments.create_adjustment(wanted=wanted)

    def delete_model(self, request: HttpRequest, obj: PriceAdjustment) -> None:
        adjustments.delete_adjustment(adjustment=obj, now=timezone.now())

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        has_begun = obj is not None and obj.effective_from <= timezone.now()
        return not has_begun and bool(super().has_delete_permission(request, obj))

    def has_replace_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Return whether this user may end what has begun, and put another in its place."""
        return bool(self.has_add_permission(request))

    @action(description="End", icon="event_busy", permissions=("replace",))
    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def ends(row: Any) -> Callable[[datetime, datetime], object]:
            return lambda at, now: adjustments.end_adjustment(adjustment=row, at=at, now=now)

        return end_page(self, request, object_id, end=ends, words=END_WORDS)

    @column(description="For")
    def whose(self, obj: PriceAdjustment) -> str:
        inside = f" · {obj.team}" if obj.team else ""
        return f"{obj.organization or EVERYBODY}{inside}"

    @column(description="Provider", ordering="provider__slug")
    def of_provider(self, obj: PriceAdjustment) -> str:
        return obj.provider.slug if obj.provider else "every provider"

    @column(description="What")
    def told(self, obj: PriceAdjustment) -> str:
        return adjustment_told(obj)

    @column(description="In force")
    def in_force(self, obj: PriceAdjustment) -> str:
        return state_told(state_of(obj, now=timezone.now()))
