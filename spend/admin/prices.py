"""The price book: providers, their models, and what a model costs from a date on."""

from datetime import datetime
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from budgets import changes, display, money
from budgets.admin import bars, history, platform
from budgets.admin.base import ServiceAdmin
from budgets.admin.forms import ExactDecimalField, LinesField
from budgets.admin.lists import link, state, two_lines
from budgets.admin.theme import TabularInline
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import AccountKind
from spend import instants
from spend.components import TOKENS, Component
from spend.models import RATE_DECIMALS, RATE_DIGITS, Model, PriceRate, PriceVersion, Provider

MILLION: Final = 10**6
GLOBAL_SCOPE: Final = 0
MANUAL: Final = "manual"
VERSIONS_SHOWN_MAX: Final = 20


class PriceBookAdmin(ServiceAdmin):
    """Writes rows of the price book; what all organizations share has scope 0."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        with changes.change(scope=GLOBAL_SCOPE):
            obj.save()

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        with changes.change(scope=GLOBAL_SCOPE):
            formset.save()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with changes.change(scope=GLOBAL_SCOPE):
            obj.delete()


@admin.register(Provider)
class ProviderAdmin(PriceBookAdmin):
    purpose = "A provider serves models and sends the bill."
    list_display = ("called", "models_count")
    ordering = ("slug",)
    search_fields = ("slug", "name")
    search_help_text = "Name"

    change_form_outer_after_template = "budgets/platform_section.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(number_of_models=Count("models"))

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        if obj is None:
            return {}
        thing = platform.Thing(AccountKind.PROVIDER, obj.slug, obj.slug)
        return platform.section([thing])

    @column(description="Provider", ordering="slug")
    def called(self, obj: Provider) -> str:
        return two_lines(obj.slug, obj.name)

    @column(description="Models in the price book")
    def models_count(self, obj: Any) -> str:
        return display.count(obj.number_of_models)


class ModelForm(forms.ModelForm):
    other_names = LinesField(
        length_max=NAME_LENGTH_MAX, help_text="Names that mean exactly this model, one a line."
    )
    prefixes = LinesField(
        length_max=NAME_LENGTH_MAX,
        help_text="What is found by no name takes the model with the longest fitting prefix.",
    )

    class Meta:
        model = Model
        fields = (
            "provider", "name", "other_names", "prefixes", "context_window", "output_tokens_max",
        )  # fmt: skip


@admin.register(Model)
class PricedModelAdmin(PriceBookAdmin):
    purpose = "A model as its provider names it; prices belong to it."
    form = ModelForm
    list_display = ("name", "provider", "price_now", "window", "longest_output")
    list_filter = (("provider", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("provider",)
    search_fields = ("name", "other_names__icontains", "provider__slug")
    search_help_text = "Name, other name or provider"
    autocomplete_fields = ("provider",)
    readonly_fields = ("versions",)

    def get_queryset(self, request: HttpRequest) -> Any:
        holding = PriceVersion.objects.for_everybody().holding_at(timezone.now())
        in_force = with_rates(holding)
        newest_last = Prefetch("prices", in_force.order_by("effective_from"), to_attr="in_force")
        return super().get_queryset(request).prefetch_related(newest_last)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        bounds = ("context_window", "output_tokens_max")
        prices = (("Prices", {"fields": ("versions",)}),) if obj else ()
        return (
            (None, {"fields": ("provider", "name", bounds)}),
            *prices,
            ("Other names", {"fields": ("other_names", "prefixes")}),
        )

    @column(description="Price now, per 1M tokens")
    def price_now(self, obj: Any) -> str:
        return in_and_out(obj.in_force[-1]) if obj.in_force else unpriced()

    @column(description="Context window", ordering="context_window")
    def window(self, obj: Model) -> str:
        return display.count(obj.context_window) if obj.context_window else bars.NOTHING

    @column(description="Longest output", ordering="output_tokens_max")
    def longest_output(self, obj: Model) -> str:
        return display.count(obj.output_tokens_max) if obj.output_tokens_max else bars.NOTHING

    @column(description="Versions")
    def versions(self, obj: Model) -> str:
        kept = with_rates(obj.prices.order_by("-effective_from"))[:VERSIONS_SHOWN_MAX]
        rows = [(link(each, f"{each.effective_from:%Y-%m-%d}"), in_and_out(each)) for each in kept]
        listed = format_html_join("", "<div>from {}: {}</div>", rows)
        return format_html(
            '{}<a class="cp-link" href="{}?model={}">Add a price</a>',
            listed, reverse("admin:spend_priceversion_add"), obj.pk,
        )  # fmt: skip


class RateForm(forms.ModelForm):
    rate = ExactDecimalField(max_digits=RATE_DIGITS, decimal_places=RATE_DECIMALS)

    class Meta:
        model = PriceRate
        fields = (
            "component", "rate", "per", "tier_from", "service_tier", "variant", "window",
        )  # fmt: skip


class RateInline(TabularInline):
    model = PriceRate
    form = RateForm
    fields = (
        "component", "rate", "per", "tier_from", "service_tier", "variant", "window",
        "for_a_million",
    )  # fmt: skip
    readonly_fields = ("for_a_million",)
    verbose_name = "rate"
    verbose_name_plural = "Rates"
    hide_title = True
    extra = 0

    @column(description="For 1M")
    def for_a_million(self, obj: PriceRate) -> str:
        if not obj.pk:
            return bars.NOTHING
        if obj.component not in TOKENS:
            return format_html('<span class="cp-quiet">no tokens</span>')
        return format_html('<span class="cp-number">{}</span>', money.plain(obj.for_units(MILLION)))


class InForceFilter(SimpleListFilter):
    title = "in force"
    parameter_name = "in_force"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "Now"), ("future", "Later"), ("past", "No longer")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        wanted = {
            "now": Q(pk=newest_pk(now, of="model")),
            "future": Q(effective_from__gt=now),
            "past": Q(effective_from__lte=now) & ~Q(pk=newest_pk(now, of="model")),
        }.get(self.value() or "")
        return queryset if wanted is None else queryset.filter(wanted)


class PriceVersionForm(forms.ModelForm):
    class Meta:
        model = PriceVersion
        fields = (
            "model", "organization", "effective_from", "effective_until", "currency",
            "region_factors", "source", "source_version",
        )  # fmt: skip

    def clean(self) -> Any:
        cleaned = super().clean() or self.cleaned_data
        same = PriceVersion.objects.current().exclude(pk=self.instance.pk)
        scope = {name: cleaned.get(name) for name in ("model", "organization", "effective_from")}
        if scope["model"] and same.filter(**scope).exists():
            self.add_error("effective_from", "There is a price from this moment on already.")
        return cleaned


@admin.register(PriceVersion)
class PriceVersionAdmin(PriceBookAdmin):
    form = PriceVersionForm
    purpose = "A price is all the rates of a model from a date on, until its next price."
    inlines = (RateInline,)
    list_display = ("model", "effective_from", "in_force", "in_out", "source")
    list_filter = (InForceFilter, "source", ("model__provider", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("model__provider",)
    search_fields = ("model__name", "model__provider__slug")
    search_help_text = "Model or provider"
    autocomplete_fields = ("model", "organization")
    ordering = ("model__provider__slug", "model__name", "-effective_from")
    fields = (
        ("model", "organization"), ("effective_from", "effective_until"), "currency",
        "region_factors", ("source", "source_version"),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        newest = newest_pk(timezone.now(), of="model")
        return with_rates(super().get_queryset(request)).annotate(newest=newest)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        first = {"effective_from": timezone.now().replace(microsecond=0), "source": MANUAL}
        given: dict[str, Any] = super().get_changeform_initial_data(request)
        if "effective_from" in given:
            given["effective_from"] = instants.parse_or_none(given["effective_from"])
        return first | given

    def history_of(self, obj: PriceVersion) -> Q:
        rates = [str(pk) for pk in obj.rates.values_list("pk", flat=True)]
        of_rates = Q(table_name=PriceRate._meta.db_table, object_id__in=rates)
        return history.rows_of(obj) | of_rates

    @column(description="In force")
    def in_force(self, obj: Any) -> str:
        if obj.effective_from > timezone.now():
            return state("warning", "schedule", "Later")
        if obj.pk == obj.newest:
            return state("fine", "check_circle", "Now")
        return format_html('<span class="cp-quiet">{}</span>', "No longer")

    @column(description="Per 1M tokens")
    def in_out(self, obj: PriceVersion) -> str:
        return in_and_out(obj)


def newest_pk(now: datetime, *, of: str) -> Subquery:
    """Return the version that is in force for the same model as the row that asks."""
    same = PriceVersion.objects.for_everybody().holding_at(now).filter(model=OuterRef(of))
    return Subquery(same.order_by("-effective_from").values("pk")[:1])


def with_rates(versions: Any) -> Any:
    ordered = PriceRate.objects.order_by("component", "tier_from")
    return versions.prefetch_related(Prefetch("rates", ordered))


def in_and_out(version: PriceVersion) -> SafeString:
    """Return what a million input and output tokens cost, at the first tier."""
    rates = {rate.component: rate for rate in version.rates.all() if is_plain(rate)}
    parts = [
        (money.plain(rates[component].for_units(MILLION)), words)
        for component, words in ((Component.INPUT, "in"), (Component.OUTPUT, "out"))
        if component in rates
    ]
    if not parts:
        return format_html('<span class="cp-quiet">{} rates</span>', len(version.rates.all()))
    amounts = format_html_join(" · ", "{} {}", parts)
    return format_html('<span class="cp-number">{} {}</span>', version.currency, amounts)


def is_plain(rate: PriceRate) -> bool:
    return not (rate.tier_from or rate.service_tier or rate.variant or rate.window)


def unpriced() -> SafeString:
    return format_html(
        '<strong class="cp-error">{}</strong>', state("full", "money_off", "Unpriced")
    )
