"""Accounts: what each has spent and reserved of which limit, and which budgets hold on it."""

from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from budgets import changes, display, money
from budgets.admin import bars, figures, history
from budgets.admin.base import ServiceAdmin
from budgets.admin.forms import LIMIT_FIELDS, OwnLimitAdmin, SharedBudgetsField, TermsForm
from budgets.admin.lists import FiguresAdmin, UsedFilter, link, two_lines
from budgets.admin.theme import TabularInline
from budgets.models import (
    Account,
    AccountKind,
    ApiKey,
    Budget,
    Membership,
    Organization,
    OrganizationMembership,
    PeriodTotal,
    Team,
)
from budgets.periods import FOREVER
from budgets.services import accounts

TOTALS_PER_PAGE: Final = 12


def write_limits(*, account: Account, form: Any) -> None:
    """Give an account the own limit and the shared budgets that the form says, if it says any."""
    organization = account.organization
    assert organization is not None, "accounts with budgets belong to organizations"
    now = timezone.now()
    terms = form.changed_terms(zone=organization.time_zone)
    with changes.change(scope=organization.pk):
        if terms is not None:
            accounts.set_private_budget(account=account, terms=terms, now=now)
        if "shared_budgets" in form.changed_data:
            linked = form.cleaned_data["shared_budgets"]
            accounts.link_budgets(account=account, budgets=linked, now=now)


def holder_of(account: Account) -> Any:
    """Return what the account is of: the thing that an operator knows and changes."""
    model, through = _HOLDERS.get(AccountKind(account.kind), (None, None))
    if model is None:
        return None
    row = model.objects.filter(account=account).first()
    return getattr(row, through) if row and through else row


_HOLDERS: Final[dict[AccountKind, tuple[Any, str | None]]] = {
    AccountKind.ORGANIZATION: (Organization, None),
    AccountKind.TEAM: (Team, None),
    AccountKind.KEY: (ApiKey, None),
    AccountKind.MEMBER: (Membership, "team"),
    AccountKind.USER: (OrganizationMembership, "user"),
}


class AccountForm(TermsForm):
    shared_budgets = forms.ModelMultipleChoiceField(Budget.objects.none(), required=False)

    class Meta:
        model = Account
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "shared_budgets" in self.fields:
            self.fields["shared_budgets"] = SharedBudgetsField(account=self.instance)


class TotalInline(TabularInline):
    """What the ledger says of each period."""

    model = PeriodTotal
    fields = readonly_fields = ("period", "amount", "events")
    ordering = ("-period_start",)
    verbose_name_plural = "Spent by period, as of the ledger"
    per_page = TOTALS_PER_PAGE
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

    @column(description="Period")
    def period(self, obj: PeriodTotal) -> str:
        if obj.period_end == FOREVER.end:
            return "Whole life"
        return f"{display.moment(obj.period_start)} to {display.moment(obj.period_end)}"

    @column(description="Spent")
    def amount(self, obj: PeriodTotal) -> str:
        currency = figures.currency_of(obj.account)
        return bars.amount(money.to_decimal(obj.amount_units, currency=currency), currency)


@admin.register(Account)
class AccountAdmin(OwnLimitAdmin, FiguresAdmin, ServiceAdmin):
    purpose = "Whatever can spend holds an account: organizations, teams, users, keys."
    form = AccountForm
    inlines = (TotalInline,)
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
        return ", ".join(map(str, obj.budgets.filter(private_to=None))) or bars.NOTHING


def _shown(account: Account) -> dict[str, Any]:
    now = timezone.now()
    found = figures.of_account(account, now=now)
    holder = holder_of(account)
    return {
        "figures": found,
        "limits": [
            (
                bars.bar(each),
                None if each.budget.private_to_id else each.budget,
                each.resets_at and bars.when(each.resets_at, now=now),
            )
            for each in found.budgets
        ],
        "lifetime": bars.amount(found.lifetime, found.currency),
        "holder_link": link(holder) if holder else "",
    }
