"""Budgets: terms that accounts share, and the own limits of single accounts."""

from calendar import month_name
from datetime import time
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from budgets import display
from budgets.admin import bars, figures
from budgets.admin.base import ServiceAdmin
from budgets.admin.forms import amount_field, is_autocomplete, only_organization, organization_from
from budgets.admin.limits import (
    LIMIT_FIELDS,
    PLATFORM_ZONE,
    OwnLimitColumns,
    PeriodTeller,
    TermsForm,
)
from budgets.admin.lists import link, two_lines
from budgets.admin.theme import Select, TextInput
from budgets.models import Account, Budget, BudgetTemplate
from budgets.periods import WEEKDAYS
from budgets.services import budgets as services

ACCOUNTS_SHOWN_MAX: Final = 50
LAYOUT_FIELDS: Final = (
    ("budget_reset_time", "budget_week_start"), ("budget_year_start", "budget_anchor"),
    "rollover_max",
)  # fmt: skip
BEYOND_TERMS: Final = "Where periods begin, and what they hand on"
OF_NONE: Final = "Without an organization it is for models, providers and deployments."


class BudgetForm(TermsForm):
    """Terms, and where their periods begin: what few budgets need."""

    budget_reset_time = forms.TimeField(
        label="Days begin at", initial=time(), widget=TextInput,
        help_text="By the local clock, such as 06:30. Hours and shorter periods do not care.",
    )  # fmt: skip
    budget_week_start = forms.TypedChoiceField(
        label="Weeks begin on", coerce=int, initial=0, widget=Select,
        choices=[(n, name.capitalize()) for n, name in enumerate(WEEKDAYS)],
    )  # fmt: skip
    budget_year_start = forms.TypedChoiceField(
        label="Years begin in", coerce=int, initial=1, widget=Select,
        choices=[(n, month_name[n]) for n in range(1, 13)], help_text="Quarters, too.",
    )  # fmt: skip
    budget_anchor = forms.DateTimeField(
        label="Or: a period begins at",
        required=False,
        widget=TextInput,
        help_text="In UTC, such as 2026-12-15 00:00. All others then lie whole durations from it.",
    )
    rollover_max = amount_field(
        label="Carried over at most",
        help_text="Of what a period has left, into the next one. Empty: nothing is.",
    )
    public_id = forms.CharField(
        label="Id",
        max_length=255,
        required=False,
        help_text="Under which programs know it. Empty: a random one.",
        widget=TextInput,
    )

    class Meta:
        model = Budget
        fields = ("organization", "name", "public_id")

    def budget_shown(self) -> Budget | None:
        return self.instance if self.instance.pk else None


class KindFilter(SimpleListFilter):
    """Shared budgets first of all: there is an own limit for nearly every key."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("own", "Own limits"), ("any", "All")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Budget]) -> QuerySet[Budget]:
        if is_autocomplete(request) or self.value() == "any":
            return queryset
        shared = Q(private_to=None, window_of=None)
        return queryset.filter(~shared if self.value() == "own" else shared)

    def choices(self, changelist: Any) -> Any:
        all_of_them, *others = super().choices(changelist)
        yield {**all_of_them, "display": "Shared"}
        yield from others


@admin.register(Budget)
class BudgetAdmin(PeriodTeller, OwnLimitColumns, ServiceAdmin):
    purpose = "A shared budget is a limit with a period, put on as many accounts as you like."
    form = BudgetForm
    list_display = ("called", "organization", "limit", "alert", "zone", "mode", "users")
    list_filter = (
        KindFilter,
        "duration",
        "enforcement",
        ("organization", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("organization", "private_to", "window_of")
    search_fields = ("name", "public_id", "private_to__label", "window_of__label")
    search_help_text = "Name, id or account"
    autocomplete_fields = ("organization",)
    ordering = ("name", "id")
    change_form_outer_after_template = "budgets/budget_accounts.html"
    error_fields = {
        "budget_id": "public_id",
        "budget_reset_at": "budget_anchor",
    }

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(
                accounts_count=Count("accounts"),
                is_template=Exists(BudgetTemplate.objects.filter(budget=OuterRef("pk"))),
            )
        )

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        if is_autocomplete(request):
            found = found.filter(private_to=None, window_of=None)
            if (organization := organization_from(request)) is not None:
                found = found.filter(organization=organization or None)
        return found, has_duplicates

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        about = ("account_link",) if obj and _holder_of(obj) else ("name", "public_id")
        return (
            (None, {"fields": ("organization", *about), "description": None if obj else OF_NONE}),
            ("Terms", {"fields": LIMIT_FIELDS}),
            (
                BEYOND_TERMS,
                {"fields": LAYOUT_FIELDS, "classes": ("collapse",)},
            ),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("organization", "public_id", "account_link") if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"organization": only_organization()} | (
            super().get_changeform_initial_data(request)
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_shared = not isinstance(obj, Budget) or _holder_of(obj) is None
        return is_shared and super().has_delete_permission(request, obj)

    def create(self, request: HttpRequest, form: Any) -> Budget:
        organization = form.cleaned_data["organization"]
        return services.create_budget(
            organization=organization,
            terms=form.terms(zone=organization.time_zone if organization else PLATFORM_ZONE),
            public_id=form.cleaned_data["public_id"] or None,
            name=form.cleaned_data["name"],
        )

    def update(self, request: HttpRequest, form: Any) -> None:
        budget = form.instance
        zone = budget.organization.time_zone if budget.organization else PLATFORM_ZONE
        services.update_budget(
            budget=budget,
            terms=form.terms(zone=zone),
            name=form.cleaned_data.get("name"),
            now=timezone.now(),
        )

    def delete_model(self, request: HttpRequest, obj: Budget) -> None:
        services.delete_budget(budget=obj)

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return _shown(obj) if obj else {}

    @column(description="Budget", ordering="name")
    def called(self, obj: Budget) -> str:
        if (holder := _holder_of(obj)) is not None:
            which = "own limit" if obj.private_to else "further limit"
            return two_lines(holder.label, f"{holder.get_kind_display()}: {which}")
        return two_lines(obj.name or obj.public_id, obj.public_id if obj.name else "")

    @column(description="Limit", ordering="max_budget")
    def limit(self, obj: Budget) -> str:
        rates = bars.rates(obj)
        if obj.max_budget is None and rates:
            return rates
        return two_lines(display.limit_terms(obj.max_budget, obj.currency, obj.duration), rates)

    @column(description="Alert from", ordering="soft_budget")
    def alert(self, obj: Budget) -> str:
        if obj.soft_budget is None:
            return bars.NOTHING
        return bars.amount(obj.soft_budget, obj.currency)

    @column(description="Days begin in", ordering="time_zone")
    def zone(self, obj: Budget) -> str:
        return obj.time_zone if obj.duration else bars.NOTHING

    @column(description="How strictly", ordering="enforcement")
    def mode(self, obj: Budget) -> str:
        return obj.enforcement.capitalize()

    @column(description="Accounts")
    def users(self, obj: Any) -> str:
        number = display.count(obj.accounts_count)
        return two_lines(number, "and by template") if obj.is_template else number

    @column(description="Limit of")
    def account_link(self, obj: Budget) -> str:
        return link(_holder_of(obj))


def _holder_of(budget: Budget) -> Account | None:
    """Return the one account that has the budget, unless it is a shared one."""
    return budget.private_to or budget.window_of


def _shown(budget: Budget) -> dict[str, Any]:
    """Return the accounts that have the budget, each with its bar, and how many more there are."""
    chosen = list(
        Account.objects.filter(budgets=budget).select_related("organization")[:ACCOUNTS_SHOWN_MAX]
    )
    found = figures.of_accounts(chosen, now=timezone.now())
    return {
        "accounts": [
            (link(account), bars.bar(each))
            for account in chosen
            for each in found[account.id].budgets
            if each.budget.pk == budget.pk
        ],
        "templates": [
            (f"each {each.get_applies_to_display().lower().removesuffix('s')}", link(each.holder))
            for each in budget.templates.select_related("holder")[:ACCOUNTS_SHOWN_MAX]
        ],
        "accounts_shown_max": ACCOUNTS_SHOWN_MAX,
        "is_as_of_ledger": not all(each.is_live for each in found.values()),
    }
