"""Accounts: what each has spent and reserved of which limit, and which budgets hold on it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from budgets import changes
from budgets.admin import bars, figures, history
from budgets.admin.account_parts import (
    ModelInline,
    TotalInline,
    WindowInline,
    write_model_budgets,
    write_windows,
)
from budgets.admin.base import ServiceAdmin
from budgets.admin.forms import SharedBudgetsField
from budgets.admin.holders import holder_of
from budgets.admin.limits import LIMIT_FIELDS, OwnLimitColumns, TermsForm, zone_of
from budgets.admin.lists import FiguresAdmin, UsedFilter, link, two_lines
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


WITHOUT_MODELS = (*PLATFORM_KINDS, AccountKind.HOLDER_MODEL)


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
class AccountAdmin(OwnLimitColumns, FiguresAdmin, ServiceAdmin):
    purpose = "Whatever can spend holds an account: organizations, teams, users, keys, models."
    form = AccountForm
    list_display = ("holder", "organization", "used", "next_reset")
    list_filter = (
        UsedFilter,
        "kind",
        ("organization", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("organization",)
    list_fullwidth = True
    search_fields = ("label", "id")
    search_help_text = "Name or id"
    change_form_outer_before_template = "budgets/account_figures.html"
    error_fields = {"budget_id": "shared_budgets"}
    readonly_fields = ("kind", "label", "organization", "id", "created_at")

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """Leave out budgets of single models where the account is about a model or provider."""
        may_have = obj is not None and obj.kind not in WITHOUT_MODELS
        return (WindowInline, *((ModelInline,) if may_have else ()), TotalInline)

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
        return _shown(obj) if obj else {}

    @column(description="Account", ordering="label")
    def holder(self, obj: Account) -> str:
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


def _shown(account: Account) -> dict[str, Any]:
    now = timezone.now()
    found = figures.of_account(account, now=now)
    holder = holder_of(account)
    return {
        "figures": found,
        "limits": [
            (
                bars.bar(each),
                each.budget,
                each.resets_at and bars.when(each.resets_at, now=now),
            )
            for each in found.budgets
        ],
        "lifetime": bars.amount(found.lifetime, found.currency),
        "holder_link": link(holder) if holder else "",
    }
