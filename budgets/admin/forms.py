"""What several admin forms share: lists of names, time zones, and an account's own limit."""

from decimal import Decimal
from typing import Any, Final
from zoneinfo import available_timezones

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest
from django.urls import reverse

from budgets import display, money
from budgets.admin import bars
from budgets.admin.figures import currency_of
from budgets.admin.theme import DecimalInput, ModelAdmin, SearchableSelect, Select, TextArea
from budgets.models import Account, AccountBudget, Budget, Organization
from budgets.services.accounts import Terms

LIST_LENGTH_MAX: Final = 1_000
DURATIONS: Final = (
    ("", "For its whole life"),
    ("1d", "A day"),
    ("1w", "A week, from Monday"),
    ("1mo", "A month, from the 1st"),
    ("1y", "A year, from 1 January"),
)
ZONE_OF_ORGANIZATION: Final = ("", "The organization's")
_ANY_DECIMAL: Final = {"step": "any", "inputmode": "decimal"}
TERMS: Final = ("max_budget", "soft_budget", "budget_duration", "budget_time_zone")
LIMIT_FIELDS: Final = (("max_budget", "soft_budget"), ("budget_duration", "budget_time_zone"))


class LinesField(forms.CharField):
    """A list of names, one a line."""

    widget = TextArea

    def __init__(self, *, length_max: int, **options: Any) -> None:
        super().__init__(required=False, strip=True, **options)
        self._length_max = length_max

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != (initial or []))

    def to_python(self, value: Any) -> Any:
        lines = [line.strip() for line in (value or "").splitlines()]
        return list(dict.fromkeys(line for line in lines if line))

    def validate(self, value: Any) -> None:
        if len(value) > LIST_LENGTH_MAX:
            raise forms.ValidationError(f"At most {LIST_LENGTH_MAX} names.")
        if any(len(line) > self._length_max for line in value):
            raise forms.ValidationError(f"A name has at most {self._length_max} characters.")

    def run_validators(self, value: Any) -> None:
        """Do nothing: the validators of text do not fit a list."""


def models_field() -> LinesField:
    return LinesField(
        length_max=255,
        label="Allowed models",
        help_text="One name a line. Empty: every model that the organization has.",
    )


def zone_field(
    *, label: str = "Time zone", first: tuple[str, str] | None = None
) -> forms.ChoiceField:
    zones = [(name, name) for name in sorted(available_timezones())]
    return forms.ChoiceField(
        label=label,
        choices=[*([first] if first else []), *zones],
        required=first is None,
        initial="" if first else "UTC",
        widget=SearchableSelect,
    )


class ExactDecimalField(forms.DecimalField):
    """A decimal that is shown without an exponent and needless zeros."""

    widget = DecimalInput

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, widget=DecimalInput(_ANY_DECIMAL), **options)

    def prepare_value(self, value: Any) -> Any:
        return money.plain(value) if isinstance(value, Decimal) else value


def amount_field(*, label: str, help_text: str) -> forms.DecimalField:
    return ExactDecimalField(
        label=label,
        help_text=help_text,
        required=False,
        max_value=money.LIMIT_MAX,
        max_digits=19,
        decimal_places=money.LIMIT_DECIMALS,
    )


class ServiceForm(forms.ModelForm):
    """A form whose constraints are left to the service, which names the field that does not fit."""

    def _update_errors(self, errors: Any) -> None:
        """Take what the model says of single fields; of a constraint it only tells the name."""
        of_fields = {
            name: told for name, told in errors.error_dict.items() if name != NON_FIELD_ERRORS
        }
        if of_fields:
            super()._update_errors(forms.ValidationError(of_fields))  # type: ignore[misc]  # Django's own hook, not in the stubs


class TermsForm(ServiceForm):
    """A form that also says how much may be spent, in which period."""

    max_budget = amount_field(
        label="Limit", help_text="Requests are refused above it. Empty: no limit of its own."
    )
    soft_budget = amount_field(
        label="Alert from", help_text="Nothing is refused; must not be above the limit."
    )
    budget_duration = forms.ChoiceField(
        label="Every",
        choices=DURATIONS,
        required=False,
        widget=Select,
        help_text="What is spent counts from the start of the running period.",
    )
    budget_time_zone = zone_field(label="Days begin in", first=ZONE_OF_ORGANIZATION)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        budget = self.budget_shown()
        if budget is not None:
            self.initial.update(
                max_budget=budget.max_budget,
                soft_budget=budget.soft_budget,
                budget_duration=budget.duration,
                budget_time_zone=budget.time_zone,
            )

    def budget_shown(self) -> Budget | None:
        """Return the budget whose terms the form shows: the own one of the holder's account."""
        return own_budget(self.instance)

    def terms(self, *, zone: str) -> Terms:
        """Return what the form says; ``zone`` is the organization's, where it names none."""
        kept = self.budget_shown()
        return Terms(
            max_budget=self.cleaned_data.get("max_budget"),
            soft_budget=self.cleaned_data.get("soft_budget"),
            duration=self.cleaned_data.get("budget_duration") or "",
            time_zone=self.cleaned_data.get("budget_time_zone") or zone,
            enforcement=kept.enforcement if kept else Terms().enforcement,
        )

    def changed_terms(self, *, zone: str) -> Terms | None:
        """Return the terms if somebody changed them, else None: they stay."""
        return self.terms(zone=zone) if set(TERMS) & set(self.changed_data) else None

    def clean(self) -> Any:
        cleaned = super().clean()
        limit, alert = self.cleaned_data.get("max_budget"), self.cleaned_data.get("soft_budget")
        if None not in {limit, alert} and alert > limit:  # type: ignore[operator]  # neither is None
            self.add_error("soft_budget", "Must not be above the limit.")
        return cleaned


def account_of(holder: Any) -> Account | None:
    """Return the account of whatever holds one, or the account itself."""
    if isinstance(holder, Account):
        return holder
    return holder.account if holder.account_id else None


def own_budget(holder: Any) -> Budget | None:
    account = account_of(holder)
    return None if account is None else Budget.objects.filter(private_to=account).first()


class OwnLimitAdmin(ModelAdmin):
    """Shows an account's own limit to those who may look but not change."""

    @column(description="Limit")
    def max_budget(self, obj: Any) -> str:
        return self._amount(obj, "max_budget")

    @column(description="Alert from")
    def soft_budget(self, obj: Any) -> str:
        return self._amount(obj, "soft_budget")

    @column(description="Every")
    def budget_duration(self, obj: Any) -> str:
        budget = own_budget(obj)
        return display.DURATION_WORDS[budget.duration] if budget else bars.NOTHING

    @column(description="Days begin in")
    def budget_time_zone(self, obj: Any) -> str:
        budget = own_budget(obj)
        return budget.time_zone if budget else bars.NOTHING

    def _amount(self, obj: Any, name: str) -> str:
        budget, account = own_budget(obj), account_of(obj)
        value = getattr(budget, name) if budget else None
        if value is None or account is None:
            return bars.NOTHING
        return display.exact(value, currency_of(account))


class BudgetsWidget(AutocompleteSelectMultiple):
    """Finds shared budgets of one organization while one types."""

    def __init__(self, *, organization_id: int | None) -> None:
        super().__init__(AccountBudget._meta.get_field("budget"), admin.site)
        self._organization_id = organization_id

    def get_url(self) -> str:
        return f"{super().get_url()}?organization={self._organization_id}"


class SharedBudgetsField(forms.ModelMultipleChoiceField):
    """The shared budgets of an account, among those of its organization."""

    def __init__(self, *, account: Account) -> None:
        shared = Budget.objects.filter(organization=account.organization_id, private_to=None)
        super().__init__(
            queryset=shared,
            required=False,
            initial=shared.filter(accounts=account),
            label="Shared budgets",
            help_text="All of them hold, and so does the own limit.",
            widget=BudgetsWidget(organization_id=account.organization_id),
        )


def organization_from(request: HttpRequest) -> int | None:
    """Return the organization to which an autocomplete is bound, if it is."""
    text = request.GET.get("organization", "")
    return int(text) if text.isdecimal() and len(text) < len(str(2**63)) else None


def is_autocomplete(request: HttpRequest) -> bool:
    return request.path == reverse("admin:autocomplete")


def only_organization() -> int | None:
    """Return the organization that a new thing belongs to, where there is only one."""
    ids = list(Organization.objects.values_list("pk", flat=True)[:2])
    return ids[0] if len(ids) == 1 else None
