"""Accounts: what each has spent and reserved of which limit, and which budgets hold on it."""

from functools import partial
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import path
from django.utils import timezone

from budgets import changes
from budgets.admin import account_page, bars, closing, history, platform, resets
from budgets.admin.account_parts import (
    ModelInline,
    TotalInline,
    WindowInline,
    write_model_budgets,
    write_windows,
)
from budgets.admin.base import ServiceAdmin
from budgets.admin.closings import ClosingInline
from budgets.admin.forms import SharedBudgetsField, is_autocomplete
from budgets.admin.limits import LIMIT_FIELDS, OwnLimitColumns, PeriodTeller, TermsForm, zone_of
from budgets.admin.lists import FiguresAdmin, UsedFilter, two_lines
from budgets.models import PLATFORM, PLATFORM_KINDS, Account, AccountKind, Budget
from budgets.services import accounts


def write_limits(*, account: Account, form: Any) -> None:
    """Give an account the own limit and the shared budgets that the form says, if it says any."""
    now, terms = timezone.now(), form.changed_terms(zone=zone_of(account))
    with changes.change(scope=account.organization_id or PLATFORM):
        if terms is not None:
            accounts.set_private_budget(account=account, terms=terms, now=now)
        if "shared_budgets" in form.changed_data:
            linked = form.cleaned_data["shared_budgets"]
            accounts.link_budgets(account=account, budgets=linked, now=now)


LOOKUPS: Final = ("holder__id__exact", "budgets__id__exact")
MANY: Final = (AccountKind.END_USER, AccountKind.TAG, AccountKind.HOLDER_MODEL)
NARROWING: Final = ("q", "used", "holder__id__exact")
WITHOUT_MODELS: Final = (*PLATFORM_KINDS, AccountKind.HOLDER_MODEL)


class KindFilter(SimpleListFilter):
    """All but those of which there are many: end users, tags, models that holders have called."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*AccountKind.choices, ("any", "All")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Account]) -> QuerySet[Account]:
        if self.value() in AccountKind.values:
            return queryset.filter(kind=self.value())
        is_narrowed = any(request.GET.get(name) for name in NARROWING)
        if self.value() == "any" or is_narrowed or is_autocomplete(request):
            return queryset
        return queryset.exclude(kind__in=MANY)

    def choices(self, changelist: Any) -> Any:
        all_of_them, *others = super().choices(changelist)
        yield {**all_of_them, "display": "All but end users, tags, models of holders"}
        yield from others


class AccountForm(TermsForm):
    shared_budgets = forms.ModelMultipleChoiceField(Budget.objects.none(), required=False)

    class Meta:
        model = Account
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "shared_budgets" in self.fields:
            self.fields["shared_budgets"] = SharedBudgetsField(
                organization_id=self.instance.organization_id,
                chosen=Q(accounts=self.instance),
                label="Shared budgets",
                help_text="All of them hold, and so does the own limit.",
            )


@admin.register(Account)
class AccountAdmin(PeriodTeller, OwnLimitColumns, FiguresAdmin, ServiceAdmin):
    purpose = "Whatever can spend holds an account: organizations, teams, users, keys, models."
    form = AccountForm
    list_display = ("called", "organization", "used", "next_reset")
    list_filter = (
        UsedFilter,
        KindFilter,
        ("organization", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("organization",)
    list_fullwidth = True
    search_fields = ("label", "id")
    search_help_text = "Name or id"
    change_form_outer_before_template = "budgets/account_figures.html"
    error_fields = {"budget_id": "shared_budgets"}
    readonly_fields = ("kind", "label", "organization", "id", "created_at")

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup in LOOKUPS or super().lookup_allowed(lookup, value, request)

    def get_urls(self) -> Any:
        open_view = self.admin_site.admin_view(platform.open_view)
        reopen_view = self.admin_site.admin_view(closing.reopen_view)
        reset_view = self.admin_site.admin_view(partial(resets.reset_page, self))
        return [
            path("platform/", open_view, name=platform.OPENED_AT),
            path("<uuid:account_id>/reopen/", reopen_view, name="reopen_account"),
            path("<uuid:account_id>/reset/", reset_view, name="reset_account"),
            *super().get_urls(),
        ]

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """Leave out budgets of single models where the account is about a model or provider."""
        may_have = obj is not None and obj.kind not in WITHOUT_MODELS
        return (WindowInline, *((ModelInline,) if may_have else ()), ClosingInline, TotalInline)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        facts = (None, {"fields": (("kind", "organization"), ("id", "created_at"))})
        limits = ("Limits", {"fields": (*LIMIT_FIELDS, "shared_budgets")})
        return (limits, facts)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def update(self, request: HttpRequest, form: Any) -> None:
        write_limits(account=form.instance, form=form)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Write a table if somebody changed it."""
        account = form.instance
        if not formset.has_changed():
            return
        with changes.change(scope=account.organization_id or PLATFORM):
            if formset.fk.name == "window_of":
                write_windows(account=account, formset=formset)
            elif formset.fk.name == "holder":
                write_model_budgets(holder=account, formset=formset)

    def history_of(self, obj: Account) -> Q:
        return history.rows_of_budgets(obj)

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return account_page.shown(obj, now=timezone.now()) if obj else {}

    @column(description="Account", ordering="label")
    def called(self, obj: Account) -> str:
        return two_lines(obj.label, obj.get_kind_display())

    @column(description="Next reset")
    def next_reset(self, obj: Any) -> str:
        resets = [each.resets_at for each in obj.figures.budgets if each.resets_at]
        return bars.when(min(resets), now=timezone.now()) if resets else bars.NOTHING

    @column(description="Shared budgets")
    def shared_budgets(self, obj: Account) -> str:
        return (
            ", ".join(map(str, obj.budgets.filter(private_to=None, window_of=None))) or bars.NOTHING
        )
