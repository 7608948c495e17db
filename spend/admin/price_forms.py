"""How prices are entered: a rate for as many units as price pages tell prices of."""

from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.contrib.admin import display as column
from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from django.utils import timezone

from budgets import money
from budgets.admin.forms import ServiceForm
from budgets.admin.theme import DecimalInput, TabularInline, TextArea, TextInput
from budgets.errors import InvalidInput
from spend import price_samples, price_terms, pricebook, units
from spend.components import Component
from spend.models import PriceRate, PriceVersion
from spend.price_queries import in_order
from spend.rates import Rate
from spend.services import prices

RATE_FIELDS: Final = (
    "component", "rate", "per", "tier_from", "service_tier", "variant", "window",
)  # fmt: skip
PER_HELP: Final = (
    "For so many. Empty, as price pages tell it: 1,000,000 tokens or characters, 1,000 milliseconds"
    " (a second), one of anything else."
)
TEXT_LENGTH_MAX: Final = 64
REASON_LENGTH_MAX: Final = 500
COMPONENT_CHOICES: Final = [(each.value, units.name_of(each)) for each in Component]
_DIGITS: Final = {"inputmode": "decimal", "step": "any", "type": "text"}


class NumberField(forms.CharField):
    """Digits as somebody typed them: the price book's own rules say what is a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=TEXT_LENGTH_MAX, widget=DecimalInput(_DIGITS), **options)


class RegionsField(forms.CharField):
    """Factors by region, one a line: ``us 1.1``."""

    widget = TextArea

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return "\n".join(f"{name} {factor}" for name, factor in value.items())
        return value

    def to_python(self, value: Any) -> Any:
        pairs = [line.split() for line in (value or "").splitlines() if line.strip()]
        if any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004  # a region and its factor
            raise forms.ValidationError("Write a region and its factor on each line: us 1.1")
        try:
            return price_terms.region_factors(dict(pairs))
        except InvalidInput as error:
            name = error.field.removeprefix("region_factors.")
            raise forms.ValidationError(f"{name} {error.problem}.") from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or {}) != (data or {}))

    def validate(self, value: Any) -> None:
        """Do nothing: it was checked line by line."""

    def run_validators(self, value: Any) -> None:
        """Do nothing: the validators of text do not fit."""


class RateForm(forms.ModelForm):
    component = forms.ChoiceField(label="of", choices=COMPONENT_CHOICES)
    rate = NumberField()
    per = NumberField(required=False, help_text=PER_HELP)
    tier_from = NumberField(
        required=False,
        label="over input tokens",
        help_text="For requests of more input tokens than that. Empty: for all.",
    )

    class Meta:
        model = PriceRate
        fields = RATE_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial.update(shown_rate(pricebook.rate_of(self.instance)))

    def clean(self) -> Any:
        """Check the rate by the price book's own rules; nothing in ``per`` is the usual number."""
        cleaned = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        given = {name: value for name, value in cleaned.items() if value != ""}
        try:
            self.cleaned_rate = price_terms.rate(given, field="rate")
        except InvalidInput as error:
            self.add_error(error.field.rpartition(".")[2], sentence(error.problem))
            return cleaned
        rate = self.cleaned_rate
        return cleaned | {"rate": rate.rate, "per": rate.per, "tier_from": rate.tier_from}

    def given(self) -> dict[str, object]:
        rate = self.cleaned_rate
        return {name: getattr(rate, name) for name in RATE_FIELDS}


class RateFormSet(BaseInlineFormSet):
    """All rates of a price; what does not fit together stands at the rate that is too much."""

    def clean(self) -> None:
        super().clean()
        forms_given = self.filled()
        if any(self.errors):
            return
        try:
            price_terms.rates([form.given() for form in forms_given])
        except InvalidInput as error:
            self._tell(error, forms_given)

    def filled(self) -> list[Any]:
        """Return the forms that hold a rate: not those left empty, and not those taken away."""
        return [
            form
            for form in self.forms
            if form.has_changed() and form not in self.deleted_forms and not form.errors
        ]

    def given(self) -> list[dict[str, object]]:
        return [form.given() for form in self.filled()]

    def _should_delete_form(self, form: Any) -> bool:
        return bool(form.cleaned_data.get("DELETE", False)) if form.is_valid() else False

    def _tell(self, error: InvalidInput, filled: list[Any]) -> None:
        place, _, name = error.field.partition("].")
        if not name:
            raise forms.ValidationError(sentence(error.problem))
        filled[int(place.removeprefix("rates["))].add_error(name, sentence(error.problem))


class RateInline(TabularInline):
    model = PriceRate
    form = RateForm
    formset = RateFormSet
    verbose_name = "rate"
    verbose_name_plural = "Rates"
    hide_title = True
    extra = 0
    min_num = 1
    fields = RATE_FIELDS
    readonly_fields = ("of", "told")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return RATE_FIELDS if _may_be_written(obj) else ("of", "told")

    def get_queryset(self, request: HttpRequest) -> Any:
        return in_order(super().get_queryset(request))

    def get_min_num(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:
        return 1 if _may_be_written(obj) else 0

    def get_extra(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:
        """Return how many forms there are beside the first: a correction begins with them all."""
        old = corrected(request)
        return max(old.rates.count() - 1, 0) if old is not None else 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_be_written(obj) and bool(super().has_add_permission(request, obj))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_be_written(obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_be_written(obj) and bool(super().has_delete_permission(request, obj))

    @column(description="Of")
    def of(self, obj: PriceRate) -> str:
        return price_samples.named(pricebook.rate_of(obj)) if obj.pk else ""

    @column(description="Rate")
    def told(self, obj: PriceRate) -> str:
        return units.written(pricebook.rate_of(obj)) if obj.pk else ""


class DatedForm(ServiceForm):
    """A form of something that begins now unless another time is chosen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "effective_from" in self.fields:
            self.fields["effective_from"].required = False
            self.fields["effective_from"].help_text = "UTC. Empty: now."


class PriceVersionForm(DatedForm):
    region_factors = RegionsField(
        required=False,
        label="Regions",
        help_text="By what rates are multiplied where a request is served there, one a line:"
        " us 1.1",
    )
    confirm = forms.BooleanField(
        required=False,
        label="I have checked rates that jump",
        help_text="Needed where a rate is more than ten times the one before, or less than a"
        " tenth: then it is likely for other units than was meant.",
    )
    reason = forms.CharField(
        required=False,
        max_length=REASON_LENGTH_MAX,
        widget=TextInput,
        help_text="Kept in the history.",
    )

    class Meta:
        model = PriceVersion
        fields = (
            "model", "organization", "effective_from", "effective_until", "currency",
            "region_factors", "source", "source_version",
        )  # fmt: skip


def corrected(request: HttpRequest) -> PriceVersion | None:
    """Return the price that the form of this request replaces, if it is one of a correction."""
    return getattr(request, "corrected", None)


def shown_rate(rate: Rate) -> dict[str, object]:
    """Return what the form of a rate begins with: for as many units as price pages tell."""
    shown = units.as_usual(rate)
    return {
        "component": shown.component.value,
        "rate": money.plain(shown.rate),
        "per": shown.per,
        "tier_from": shown.tier_from,
        "service_tier": shown.service_tier,
        "variant": shown.variant,
        "window": shown.window,
    }


def sentence(problem: str) -> str:
    """Return what a service refuses as a sentence, with fields called as the form calls them."""
    told = problem.replace("effective_", "effective ")
    return f"{told[:1].upper()}{told[1:]}."


def _may_be_written(version: PriceVersion | None) -> bool:
    return version is None or not version.pk or prices.is_open(version, now=timezone.now())
