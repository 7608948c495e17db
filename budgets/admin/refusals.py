"""What was refused, by account, reason and minute; written by the gateway, changed by nobody."""

from datetime import timedelta
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from budgets import display, refusals
from budgets.admin.base import ReadOnlyAdmin
from budgets.admin.lists import state, two_lines
from budgets.admin.theme import UncountedPaginator
from budgets.models import Account, AccountKind, RefusalCount

WITHIN: Final = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}
WITHIN_WORDS: Final = {"1h": "The last hour", "24h": "The last 24 hours", "7d": "The last 7 days"}


class WithinFilter(SimpleListFilter):
    title = "time"
    parameter_name = "within"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(WITHIN_WORDS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        length = WITHIN.get(self.value() or "")
        return queryset.filter(minute__gte=timezone.now() - length) if length else queryset


class ReasonFilter(SimpleListFilter):
    title = "reason"
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(refusals.REASONS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(reason=self.value()) if self.value() else queryset


class AccountKindFilter(SimpleListFilter):
    title = "kind of account"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(AccountKind.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class ObservedFilter(SimpleListFilter):
    title = "refused or only observed"
    parameter_name = "observed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("0", "Refused"), ("1", "Only observed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in {"0", "1"}:
            return queryset
        return queryset.filter(observed=self.value() == "1")


@admin.register(RefusalCount)
class RefusalCountAdmin(ReadOnlyAdmin):
    purpose = "What budgets refused, and what those that only observe would have refused."
    list_display = ("at", "account", "organization", "why", "outcome", "number")
    list_display_links = ("at",)
    list_filter = (
        WithinFilter,
        ReasonFilter,
        ObservedFilter,
        AccountKindFilter,
        ("organization", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("organization",)
    list_fullwidth = True
    search_fields = ("label", "account_id__exact")
    search_help_text = "Name of the account, or its exact id"
    ordering = ("-minute", "-id")
    paginator = UncountedPaginator
    fields = readonly_fields = (
        "at", "account", "organization", "why", "outcome", "number", "samples",
    )  # fmt: skip

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup == "account_id" or super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Tell which accounts have a page: an end user that never spent has none yet."""
        accounts = Account.objects.filter(pk=OuterRef("account_id"))
        return super().get_queryset(request).annotate(has_account=Exists(accounts))

    @column(description="Minute", ordering="minute")
    def at(self, obj: RefusalCount) -> str:
        return display.moment(obj.minute)

    @column(description="Account", ordering="label")
    def account(self, obj: Any) -> SafeString:
        kind = dict(AccountKind.choices).get(obj.kind, obj.kind)
        if not obj.has_account:
            return two_lines(obj.label, kind)
        page = reverse("admin:budgets_account_change", args=[obj.account_id])
        return two_lines(format_html('<a class="cp-link" href="{}">{}</a>', page, obj.label), kind)

    @column(description="Reason", ordering="reason")
    def why(self, obj: RefusalCount) -> str:
        return refusals.words(obj.reason)

    @column(description="What became of them", ordering="observed")
    def outcome(self, obj: RefusalCount) -> SafeString:
        if obj.observed:
            return state("fine", "visibility", "Passed, only observed")
        return state("full", "block", "Refused")

    @column(description="Requests", ordering="requests")
    def number(self, obj: RefusalCount) -> str:
        return display.count(obj.requests)

    @column(description="Some of their ids")
    def samples(self, obj: RefusalCount) -> SafeString:
        ids = ((str(id),) for id in obj.sample_ids)
        return format_html_join("", '<div class="cp-mono">{}</div>', ids)
