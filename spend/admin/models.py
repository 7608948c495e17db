"""Providers, and their models with the prices that each has had."""

from collections.abc import Iterator
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import Count, Prefetch
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from budgets import changes, display
from budgets.admin import bars, platform
from budgets.admin.base import ServiceAdmin
from budgets.admin.forms import LinesField
from budgets.admin.lists import link, two_lines
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import AccountKind
from spend.admin.price_words import EVERYBODY, in_and_out, unpriced, version_state
from spend.models import Model, PriceVersion, Provider
from spend.price_queries import in_force_pk, with_rates
from spend.services.prices import GLOBAL_SCOPE

VERSIONS_SHOWN_MAX: Final = 50


class PriceBookAdmin(ServiceAdmin):
    """Writes rows of the price book; what all organizations share has scope 0."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        with changes.change(scope=GLOBAL_SCOPE):
            obj.save()

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
        listed = format_html_join("", "<div><strong>{}</strong>{}</div>", _by_organization(obj))
        return format_html(
            '{}<a class="cp-link" href="{}?model={}">Add a price</a>',
            listed, reverse("admin:spend_priceversion_add"), obj.pk,
        )  # fmt: skip


def _by_organization(model: Model) -> Iterator[tuple[str, SafeString]]:
    """Yield the prices for everybody, then those of each organization, the newest first."""
    now = timezone.now()
    kept = with_rates(model.prices.select_related("organization"))
    kept = kept.annotate(newest=in_force_pk(now)).order_by("-effective_from", "-pk")
    groups: dict[str, list[tuple[Any, ...]]] = {}
    for each in kept[:VERSIONS_SHOWN_MAX]:
        told = version_state(each, newest=each.newest, now=now)
        row = (link(each, f"{each.effective_from:%Y-%m-%d}"), in_and_out(each), told)
        groups.setdefault(str(each.organization or EVERYBODY), []).append(row)
    for name in sorted(groups, key=lambda name: (name != EVERYBODY, name)):
        yield f"For {name}", format_html_join("", "<div>from {}: {} {}</div>", groups[name])
