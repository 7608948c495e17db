"""The limits of an account as a form shows them: money, rates, and how strictly they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin import display as column
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import mark_safe

from budgets import display, periods
from budgets.admin import bars
from budgets.admin.forms import ServiceForm, amount_field, zone_field
from budgets.admin.theme import IntegerInput, ModelAdmin, Select
from budgets.models import RATE_LIMIT_MAX, Account, Budget, Enforcement
from budgets.services.accounts import RATE_FIELDS, Terms, terms_of

DURATIONS: Final = (
    ("", "For its whole life"),
    ("1h", "An hour"),
    ("1d", "A day"),
    ("1w", "A week"),
    ("1mo", "A month"),
    ("quarterly", "A quarter"),
    ("1y", "A year"),
)
DURATIONS_SHORT: Final = (
    ("", "Whole life"), ("1h", "Hour"), ("1d", "Day"), ("1w", "Week"), ("1mo", "Month"),
    ("quarterly", "Quarter"), ("1y", "Year"),
)  # fmt: skip
"""For tables, where there is little room."""
ZONE_OF_ORGANIZATION: Final = ("", "The organization's")
PLATFORM_ZONE: Final = "UTC"
TERMS: Final[Mapping[str, str]] = {
    "max_budget": "max_budget",
    "soft_budget": "soft_budget",
    "budget_duration": "duration",
    "budget_time_zone": "time_zone",
    "budget_anchor": "anchor",
    "budget_reset_time": "reset_time",
    "budget_week_start": "week_start",
    "budget_year_start": "year_start",
    "rollover_max": "rollover_max",
    **{name: name for name in RATE_FIELDS},
    "enforcement": "enforcement",
}
"""What a form calls each of the terms."""
LAYOUT: Final = frozenset(
    {
        "budget_duration", "budget_time_zone", "budget_anchor", "budget_reset_time",
        "budget_week_start", "budget_year_start",
    }
)  # fmt: skip
"""Which of them say where periods lie."""
LIMIT_FIELDS: Final = (
    ("max_budget", "soft_budget"),
    ("budget_duration", "budget_time_zone"),
    ("rpm_limit", "tpm_limit"),
    "max_parallel_requests",
    "enforcement",
)
MODES: Final = (
    (Enforcement.ADAPTIVE, "Adaptive"),
    (Enforcement.STRICT, "Strict"),
    (Enforcement.OBSERVE, "Observe"),
)
MODES_TOLD: Final = mark_safe(
    "<b>Adaptive</b> holds what such requests have cost lately, and refuses once that and what is"
    " spent pass the limit: bursts get through, and may end a little above it.<br><b>Strict</b>"
    " holds the most that a request can cost, and refuses whatever might pass the limit: it never"
    " is.<br><b>Observe</b> refuses nothing, and counts what it would have refused."
)


def rate_field(*, label: str, help_text: str = "") -> forms.IntegerField:
    return forms.IntegerField(
        label=label, help_text=help_text, required=False, min_value=0, max_value=RATE_LIMIT_MAX,
        widget=IntegerInput,
    )  # fmt: skip


def duration_field(
    *, help_text: str = "", choices: Sequence[tuple[str, str]] = DURATIONS
) -> forms.ChoiceField:
    return forms.ChoiceField(
        label="Every", choices=choices, required=False, widget=Select, help_text=help_text
    )


def mode_field(*, help_text: str = "") -> forms.ChoiceField:
    return forms.ChoiceField(
        label="How strictly", choices=MODES, initial=Enforcement.ADAPTIVE, widget=Select,
        help_text=help_text,
    )  # fmt: skip


class LimitsForm(ServiceForm):
    """A form that shows some of a budget's terms, and leaves the others as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        budget = self.budget_shown()
        if budget is not None:
            self.initial.update(
                {name: getattr(budget, term) for name, term in TERMS.items() if name in self.fields}
            )
            self._offer(budget.duration)

    def _offer(self, duration: str) -> None:
        """Have the duration that there is among the choices: programs may set any."""
        field: Any = self.fields.get("budget_duration")
        if field is not None and duration not in dict(field.choices):
            words = display.per_period(duration).capitalize()
            field.choices = [*field.choices, (duration, words)]

    def budget_shown(self) -> Budget | None:
        """Return the budget whose terms the form shows: the own one of the holder's account."""
        return own_budget(self.instance)

    def terms(self, *, zone: str) -> Terms:
        """Return what the form says; ``zone`` is the organization's, where it names none."""
        kept = self.budget_shown()
        said = {
            term: self.cleaned_data[name]
            for name, term in TERMS.items()
            if name in self.cleaned_data
        }
        terms = replace(terms_of(kept) if kept else Terms(time_zone=""), **said)
        return replace(terms, time_zone=terms.time_zone or zone)

    def changed_terms(self, *, zone: str) -> Terms | None:
        """Return the terms if somebody changed them, else None: they stay."""
        return self.terms(zone=zone) if TERMS.keys() & set(self.changed_data) else None

    def clean(self) -> Any:
        cleaned = super().clean()
        limit, alert = self.cleaned_data.get("max_budget"), self.cleaned_data.get("soft_budget")
        if None not in {limit, alert} and alert > limit:  # type: ignore[operator]  # neither is None
            self.add_error("soft_budget", "Must not be above the limit.")
        return cleaned


class TermsForm(LimitsForm):
    """A form that also says how much may be spent, in which period, and how often."""

    max_budget = amount_field(label="Limit", help_text="Of money. Empty: no limit of its own.")
    soft_budget = amount_field(
        label="Alert from", help_text="Nothing is refused; must not be above the limit."
    )
    budget_duration = duration_field(
        help_text="From midnight, Monday, the 1st or January on, unless the budget's own page says"
        " otherwise. What was spent since then counts."
    )
    budget_time_zone = zone_field(label="Days begin in", first=ZONE_OF_ORGANIZATION)
    rpm_limit = rate_field(label="Requests a minute", help_text="In any 60 seconds.")
    tpm_limit = rate_field(
        label="Tokens a minute", help_text="In any 60 seconds, read and written together."
    )
    max_parallel_requests = rate_field(
        label="Requests at once", help_text="How many may be under way."
    )
    enforcement = mode_field(help_text=MODES_TOLD)


def running_in_words(budget: Budget, *, at: datetime) -> str:
    """Return which period of a budget runs, in its own time zone."""
    period, zone = budget.period_at(at), periods.zone_of(budget.time_zone)
    start, end = (bound.astimezone(zone) for bound in (period.start, period.end))
    return (
        f"The period that runs is {start:%Y-%m-%d %H:%M} to {display.moment(end)}. All that was"
        " spent since its start counts in it."
    )


def account_of(holder: Any) -> Account | None:
    """Return the account of whatever holds one, or the account itself."""
    if isinstance(holder, Account):
        return holder
    return holder.account if holder.account_id else None


def own_budget(holder: Any) -> Budget | None:
    """Return the budget that is an account's own, or the budget itself; joined, it is not read."""
    if isinstance(holder, Budget):
        return holder
    return getattr(account_of(holder), "private_budget", None)  # none: an AttributeError


def zone_of(account: Account) -> str:
    """Return where an account's days begin if nobody says otherwise."""
    return account.organization.time_zone if account.organization else PLATFORM_ZONE


class PeriodTeller(ModelAdmin):
    """Says which period runs after somebody has changed where periods lie."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and not LAYOUT.isdisjoint(form.changed_data):
            budget = own_budget(self.model.objects.get(pk=obj.pk))
            if budget is not None and budget.duration:
                messages.info(request, running_in_words(budget, at=timezone.now()))


class OwnLimitColumns:
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
        return display.per_period(budget.duration) if budget else bars.NOTHING

    @column(description="Days begin in")
    def budget_time_zone(self, obj: Any) -> str:
        budget = own_budget(obj)
        return budget.time_zone if budget else bars.NOTHING

    @column(description="Days begin at")
    def budget_reset_time(self, obj: Any) -> str:
        budget = own_budget(obj)
        return f"{budget.reset_time:%H:%M:%S}" if budget else bars.NOTHING

    @column(description="Weeks begin on")
    def budget_week_start(self, obj: Any) -> str:
        budget = own_budget(obj)
        return budget.get_week_start_display() if budget else bars.NOTHING

    @column(description="Years begin in")
    def budget_year_start(self, obj: Any) -> str:
        budget = own_budget(obj)
        return budget.get_year_start_display() if budget else bars.NOTHING

    @column(description="Carried over at most")
    def rollover_max(self, obj: Any) -> str:
        return self._amount(obj, "rollover_max")

    @column(description="Or: a period begins at")
    def budget_anchor(self, obj: Any) -> str:
        budget = own_budget(obj)
        return display.moment(budget.anchor) if budget and budget.anchor else bars.NOTHING

    @column(description="Requests a minute")
    def rpm_limit(self, obj: Any) -> str:
        return self._number(obj, "rpm_limit")

    @column(description="Tokens a minute")
    def tpm_limit(self, obj: Any) -> str:
        return self._number(obj, "tpm_limit")

    @column(description="Requests at once")
    def max_parallel_requests(self, obj: Any) -> str:
        return self._number(obj, "max_parallel_requests")

    @column(description="How strictly")
    def enforcement(self, obj: Any) -> str:
        budget = own_budget(obj)
        return budget.get_enforcement_display() if budget else bars.NOTHING

    def _number(self, obj: Any, name: str) -> str:
        value = getattr(own_budget(obj), name, None)
        return bars.NOTHING if value is None else display.count(value)

    def _amount(self, obj: Any, name: str) -> str:
        budget = own_budget(obj)
        value = getattr(budget, name, None)
        if budget is None or value is None:
            return bars.NOTHING
        return display.exact(value, budget.currency)
