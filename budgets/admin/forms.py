"""What several admin forms share: lists of names, time zones, amounts and shared budgets."""

import re
from decimal import Decimal
from typing import Any, Final
from zoneinfo import available_timezones

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.core.exceptions import NON_FIELD_ERRORS
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse

from budgets import money
from budgets.admin.theme import DecimalInput, SearchableSelect, TextArea
from budgets.models import AccountBudget, Budget, Organization

LIST_LENGTH_MAX: Final = 1_000
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_ANY_DECIMAL: Final = {"step": "any", "inputmode": "decimal"}
PLATFORM_BUDGETS: Final = "0"
"""What an autocomplete is bound to where budgets without an organization are wanted."""


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
    """A decimal in ASCII digits; it is shown without an exponent and needless zeros."""

    widget = DecimalInput

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, widget=DecimalInput(_ANY_DECIMAL), **options)

    def prepare_value(self, value: Any) -> Any:
        return money.plain(value) if isinstance(value, Decimal) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and value.strip() and not _NUMBER.fullmatch(value.strip()):
            raise forms.ValidationError(self.error_messages["invalid"], "invalid")
        return super().to_python(value)


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


class BudgetsWidget(AutocompleteSelectMultiple):
    """Finds shared budgets of one organization while one types."""

    def __init__(self, *, organization_id: int | None) -> None:
        super().__init__(AccountBudget._meta.get_field("budget"), admin.site)
        self._organization_id = organization_id

    def get_url(self) -> str:
        bound_to = self._organization_id or PLATFORM_BUDGETS
        return f"{super().get_url()}?organization={bound_to}"


class SharedBudgetsField(forms.ModelMultipleChoiceField):
    """Some of the shared budgets of one organization, or of the platform."""

    def __init__(
        self, *, organization_id: int | None, chosen: Q, label: str, help_text: str
    ) -> None:
        shared = Budget.objects.filter(
            organization=organization_id, private_to=None, window_of=None
        )
        super().__init__(
            queryset=shared,
            required=False,
            initial=shared.filter(chosen),
            label=label,
            help_text=help_text,
            widget=BudgetsWidget(organization_id=organization_id),
        )


def organization_from(request: HttpRequest) -> int | None:
    """Return the organization to which an autocomplete is bound, if it is; 0: the platform."""
    text = request.GET.get("organization", "")
    return int(text) if text.isdecimal() and len(text) < len(str(2**63)) else None


def is_autocomplete(request: HttpRequest) -> bool:
    return request.path == reverse("admin:autocomplete")


def only_organization() -> int | None:
    """Return the organization that a new thing belongs to, where there is only one."""
    ids = list(Organization.objects.values_list("pk", flat=True)[:2])
    return ids[0] if len(ids) == 1 else None
