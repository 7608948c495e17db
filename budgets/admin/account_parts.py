"""The tables of an account's page: further budgets, budgets of single models, and totals."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib.admin import display as column
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from budgets import display, money
from budgets.admin import bars, figures
from budgets.admin.figures import AccountFigures
from budgets.admin.forms import amount_field, zone_field
from budgets.admin.limits import (
    DURATIONS_SHORT,
    ZONE_OF_ORGANIZATION,
    LimitsForm,
    OwnLimitColumns,
    duration_field,
    mode_field,
    zone_of,
)
from budgets.admin.lists import link
from budgets.admin.theme import TabularInline, TextInput
from budgets.errors import InvalidInput
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import Account, Budget, PeriodTotal
from budgets.periods import FOREVER
from budgets.services import accounts
from budgets.services.accounts import Terms

TOTALS_PER_PAGE: Final = 12
MODELS_PER_PAGE: Final = 50


class PartInline(OwnLimitColumns, TabularInline):
    """A table that may be changed by whoever may change the account."""

    hide_title = True
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("budgets.change_account")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("budgets.change_account")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("budgets.change_account")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("budgets.view_account")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Leave it to the service what goes with a row that is taken out of the table."""
        formset = super().get_formset(request, obj, **kwargs)

        class Row(formset.form):  # type: ignore[misc, name-defined]  # the base is made at run time
            def hand_clean_DELETE(self) -> None:  # noqa: N802  # Django's own hook
                """Do nothing: what uses the row is unlinked with it."""

        formset.form = Row
        return formset


class WindowForm(LimitsForm):
    budget_duration = duration_field()
    max_budget = amount_field(label="Limit", help_text="")
    soft_budget = amount_field(label="Alert from", help_text="")
    enforcement = mode_field()
    budget_time_zone = zone_field(label="Days begin in", first=ZONE_OF_ORGANIZATION)

    class Meta:
        model = Budget
        fields = ()

    def budget_shown(self) -> Budget | None:
        return self.instance if self.instance.pk else None


class WindowInline(PartInline):
    """Budgets beside the own limit, such as a day's beside a month's."""

    model = Budget
    fk_name = "window_of"
    form = WindowForm
    fields = ("budget_duration", "max_budget", "soft_budget", "enforcement", "budget_time_zone")
    verbose_name = "further budget"
    verbose_name_plural = "Further budgets"
    ordering = ("id",)


class ModelForm(LimitsForm):
    called = forms.CharField(
        label="Model", max_length=NAME_LENGTH_MAX, widget=TextInput({"placeholder": "gpt-4o"})
    )
    max_budget = amount_field(label="Limit", help_text="")
    budget_duration = duration_field(choices=DURATIONS_SHORT)
    enforcement = mode_field()

    class Meta:
        model = Account
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and self.instance.model:
            self.initial["called"] = self.instance.model
            self.fields["called"].disabled = True


class ModelInline(PartInline):
    """What the account may spend on single models, by the names that requests ask for."""

    model = Account
    fk_name = "holder"
    form = ModelForm
    fields = ("called", "max_budget", "budget_duration", "enforcement", "spent")
    readonly_fields = ("spent",)
    verbose_name = "model"
    verbose_name_plural = "Budgets of single models"
    ordering = ("model",)
    per_page = MODELS_PER_PAGE
    _found: Mapping[UUID, AccountFigures] | None = None

    def get_queryset(self, request: HttpRequest) -> Any:
        limited = super().get_queryset(request).filter(private_budget__isnull=False)
        return limited.select_related("private_budget", "organization")

    @column(description="Model")
    def called(self, obj: Account) -> str:
        return obj.model

    @column(description="Spent of limit")
    def spent(self, obj: Account) -> str:
        if not obj.model:
            return bars.NOTHING
        if self._found is None:  # once for all rows: an inline lives as long as the request
            rows = Account.objects.filter(holder=obj.holder_id, private_budget__isnull=False)
            chosen = list(rows.select_related("organization"))
            self._found = figures.of_accounts(chosen, now=timezone.now())
        if obj.pk not in self._found:
            return bars.NOTHING
        found, now = self._found[obj.pk], timezone.now()
        resets = [each.resets_at for each in found.budgets if each.resets_at]
        again = f"starts again {display.relative(min(resets), now=now)} · " if resets else ""
        return format_html(
            '{}<span class="cp-quiet">{}{}</span>',
            bars.bars(found), again, link(obj, "All its limits"),
        )  # fmt: skip


class TotalInline(TabularInline):
    """What the ledger says of each period."""

    model = PeriodTotal
    fields = readonly_fields = ("period", "amount", "taken_off", "events")
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
        currency = obj.account.currency
        return bars.amount(money.to_decimal(obj.spent_units, currency=currency), currency)

    @column(description="Taken off by resets")
    def taken_off(self, obj: PeriodTotal) -> str:
        if not obj.reset_units:
            return bars.NOTHING
        currency = obj.account.currency
        return bars.amount(money.to_decimal(obj.reset_units, currency=currency), currency)


def write_windows(*, account: Account, formset: Any) -> None:
    """
    Write the further budgets that a form changed, and leave the others.

    :raises InvalidInput: if one sets no limit, or two have the same duration
    """
    rows = {row.instance.pk: row for row in _changed(formset)}
    gone = {row.instance.pk for row in formset.deleted_forms}
    kept = Budget.objects.filter(window_of=account).exclude(pk__in=gone)
    windows = [
        rows[budget.pk].terms(zone=zone_of(account))
        if budget.pk in rows
        else accounts.terms_of(budget)
        for budget in kept
    ]
    windows += [row.terms(zone=zone_of(account)) for row in _changed(formset, new=True)]
    accounts.set_windows(account=account, windows=windows, now=timezone.now())


def write_model_budgets(*, holder: Account, formset: Any) -> None:
    """
    Write the budgets of single models that a form changed, and leave the others, which may be on
    another page.

    :raises InvalidInput: naming the field that does not fit
    """
    limited = Account.objects.filter(holder=holder, private_budget__isnull=False)
    terms: dict[str, Terms] = {
        each.model: accounts.terms_of(each.private_budget)
        for each in limited.select_related("private_budget")
    }
    for row in formset.deleted_forms:
        terms.pop(row.instance.model, None)
    for row in _changed(formset):
        terms[row.instance.model] = row.terms(zone=zone_of(holder))
    for row in _changed(formset, new=True):
        name = row.cleaned_data["called"]
        if name in terms:
            raise InvalidInput("model_max_budget", f"has {name} twice")
        terms[name] = row.terms(zone=zone_of(holder))
    accounts.set_model_budgets(holder=holder, terms=terms, now=timezone.now())


def _changed(formset: Any, *, new: bool = False) -> list[Any]:
    rows = formset.extra_forms if new else formset.initial_forms
    return [row for row in rows if row.has_changed() and row not in formset.deleted_forms]
