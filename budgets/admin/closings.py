"""Closed periods: what each budget of each account had spent when its period was over."""

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from budgets import display, money, periods
from budgets.admin import bars
from budgets.admin.base import ReadOnlyAdmin
from budgets.admin.lists import link, two_lines
from budgets.admin.theme import TabularInline, UncountedPaginator
from budgets.models import AccountKind, Closing

CLOSINGS_PER_PAGE: Final = 12


class KindFilter(SimpleListFilter):
    title = "kind of account"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(AccountKind.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(account__kind=self.value()) if self.value() else queryset


class ClosingColumns:
    """Amounts in the account's currency, times in the budget's zone."""

    @column(description="Period")
    def period(self, obj: Closing) -> str:
        try:
            zone = periods.zone_of(obj.time_zone)
        except periods.UnknownZone:  # the host's tables have changed since
            zone = periods.zone_of("UTC")
        start, end = (at.astimezone(zone) for at in (obj.period_start, obj.period_end))
        return f"{start:%Y-%m-%d %H:%M} to {display.moment(end)}"

    @column(description="Limit")
    def limit_told(self, obj: Closing) -> str:
        return bars.NOTHING if obj.limit is None else bars.amount(obj.limit, obj.account.currency)

    @column(description="Spent")
    def spent(self, obj: Closing) -> str:
        return self._amount(obj, obj.spent_units)

    @column(description="Came late")
    def late(self, obj: Closing) -> str:
        has_late = obj.late_units or obj.late_events
        return self._amount(obj, obj.late_units) if has_late else bars.NOTHING

    def _amount(self, obj: Closing, units: int) -> str:
        currency = obj.account.currency
        return bars.amount(money.to_decimal(units, currency=currency), currency)


@admin.register(Closing)
class ClosingAdmin(ClosingColumns, ReadOnlyAdmin):
    purpose = "What was spent in periods that are over; written when their books are closed."
    list_display = (
        "period",
        "account_told",
        "budget_told",
        "limit_told",
        "spent",
        "late",
        "closed",
    )
    list_display_links = ("period",)
    list_filter = (KindFilter, "account__organization")
    list_select_related = ("account__organization", "budget")
    list_fullwidth = True
    search_fields = ("account__id__exact", "account__label")
    search_help_text = "Name of the account, or its exact id"
    ordering = ("-period_end", "-id")
    paginator = UncountedPaginator
    fields = readonly_fields = (
        "period", "account_told", "budget_told", "limit_told", "spent", "events", "late",
        "late_events", "closed",
    )  # fmt: skip

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup == "account_id" or super().lookup_allowed(lookup, value, request)

    @column(description="Account")
    def account_told(self, obj: Closing) -> SafeString:
        return two_lines(link(obj.account), obj.account.get_kind_display())

    @column(description="Budget")
    def budget_told(self, obj: Closing) -> str:
        if obj.budget_id is None:
            return f"{obj.budget_name} (deleted)"
        page = reverse("admin:budgets_budget_change", args=[obj.budget_id])
        return format_html('<a class="cp-link" href="{}">{}</a>', page, obj.budget_name)

    @column(description="Closed at", ordering="closed_at")
    def closed(self, obj: Closing) -> str:
        return display.moment(obj.closed_at)


class ClosingInline(ClosingColumns, TabularInline):
    """The last closed periods of an account."""

    model = Closing
    fields = readonly_fields = ("period", "budget_name", "limit_told", "spent", "late")
    ordering = ("-period_end", "-id")
    verbose_name_plural = "Closed periods"
    per_page = CLOSINGS_PER_PAGE
    hide_title = True
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("account__organization")
