"""Prices: what a model costs from a date on; made and corrected here, never edited once charged."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone

from budgets import money
from budgets.admin import bars, history
from budgets.admin.base import ServiceAdmin
from budgets.admin.lists import page_of
from budgets.admin.theme import action
from budgets.errors import InvalidInput
from spend import instants, price_samples, pricebook
from spend.admin.ending import end_page
from spend.admin.price_forms import PriceVersionForm, RateInline, corrected, sentence, shown_rate
from spend.admin.price_words import EVERYBODY, in_and_out, sample, version_state
from spend.models import PriceRate, PriceVersion
from spend.price_queries import in_force_pk, with_rates
from spend.price_terms import NotConfirmed
from spend.services import prices
from spend.services.prices import MANUAL, Checked, Wanted

CORRECTED: Final = "corrects"
END_WORDS: Final = (
    "Requests that come later are charged at the price that holds then; a model that has none is"
    " refused."
)


class InForceFilter(SimpleListFilter):
    title = "in force"
    parameter_name = "in_force"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("now", "Now"),
            ("future", "Later"),
            ("past", "No longer"),
            ("replaced", "Replaced"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now, current = timezone.now(), Q(replaced_by=None)
        is_newest = Q(pk=F("newest"))
        wanted = {
            "now": is_newest,
            "future": current & Q(effective_from__gt=now),
            "past": current & Q(effective_from__lte=now) & (~is_newest | Q(newest=None)),
            "replaced": ~current,
        }.get(self.value() or "")
        return queryset if wanted is None else queryset.filter(wanted)


@admin.register(PriceVersion)
class PriceVersionAdmin(ServiceAdmin):
    form = PriceVersionForm
    purpose = "A price is all the rates of a model from a date on, until its next price."
    change_form_before_template = "spend/price_note.html"
    change_form_after_template = "spend/price_panel.html"
    inlines = (RateInline,)
    list_display = ("model", "whose", "effective_from", "in_force", "in_out", "source")
    list_filter = (
        InForceFilter,
        "source",
        ("organization", admin.RelatedOnlyFieldListFilter),
        ("model__provider", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("model__provider", "organization")
    search_fields = ("model__name", "model__provider__slug", "organization__name")
    search_help_text = "Model, provider or organization"
    autocomplete_fields = ("model", "organization")
    ordering = ("model__provider__slug", "model__name", "-effective_from", "-pk")
    actions_detail = ("correct", "end")
    error_fields = {"price_id": "model"}

    def get_queryset(self, request: HttpRequest) -> Any:
        newest = in_force_pk(timezone.now())
        return with_rates(super().get_queryset(request)).annotate(newest=newest)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        regions = "region_factors" if _is_open(obj) else "regions"
        check = (("Check", {"fields": ("confirm", "reason")}),) if _is_open(obj) else ()
        return (
            (None, {"fields": (
                ("model", "organization"), "effective_from", "effective_until", "currency",
                regions, ("source", "source_version"),
            )}),
            *check,
        )  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if _is_open(obj) else ("regions",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        old = corrected(request)
        if old is None:
            given: dict[str, Any] = super().get_changeform_initial_data(request)
            if "effective_from" in given:
                given["effective_from"] = instants.parse_or_none(given["effective_from"])
            return {"source": MANUAL} | given
        names = ("effective_from", "effective_until", "currency", "region_factors")
        return {"source": MANUAL} | {name: getattr(old, name) for name in names}

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        old = corrected(request) or obj
        for name in ("model", "organization") if old else ():
            if name in form.base_fields:
                form.base_fields[name].disabled = True
                form.base_fields[name].initial = getattr(old, f"{name}_id")
        return form

    def get_formset_kwargs(self, request: HttpRequest, obj: Any, inline: Any, prefix: str) -> Any:
        kwargs = super().get_formset_kwargs(request, obj, inline, prefix)
        old = corrected(request)
        if old is not None and request.method == "GET":
            kwargs["initial"] = [shown_rate(pricebook.rate_of(each)) for each in old.rates.all()]
        return kwargs

    def get_urls(self) -> Any:
        wrap = self.admin_site.admin_view
        return [
            path("preview/", wrap(self.preview_view), name="spend_priceversion_preview"),
            path(
                "<int:price_id>/correction/",
                wrap(self.correct_view),
                name="spend_priceversion_correction",
            ),
            *super().get_urls(),
        ]

    # --- Writing ----------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Do nothing: a price is written with its rates."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Write the price with its rates, in one."""
        (rates,) = formsets
        confirm, reason = form.cleaned_data["confirm"], form.cleaned_data["reason"]
        old = form.instance if change else corrected(request)
        wanted = _wanted(form, rates.given(), old)
        try:
            if old is None:
                made = prices.create_version(wanted=wanted, confirm=confirm, reason=reason)
            else:
                made = prices.correct_version(
                    version=PriceVersion.objects.get(pk=old.pk), wanted=wanted,
                    now=timezone.now(), confirm=confirm, reason=reason,
                )  # fmt: skip
        except NotConfirmed as refused:
            raise InvalidInput("confirm", _told(refused, rates)) from refused
        form.instance.pk = made.pk
        form.instance.refresh_from_db()

    def delete_model(self, request: HttpRequest, obj: PriceVersion) -> None:
        prices.delete_version(version=obj, now=timezone.now())

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_open(obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_open(obj) and bool(super().has_delete_permission(request, obj))

    def has_replace_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Return whether this user may end what has begun, and put another in its place."""
        return bool(self.has_add_permission(request))

    @action(description="Correct this price", icon="edit", permissions=("replace",))
    def correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Lead to the form that is filled with this price; of one that begins later, to its own."""
        version = self.get_object(request, object_id)
        if version is None:
            raise Http404
        if _is_open(version):
            return HttpResponseRedirect(page_of(version))
        return HttpResponseRedirect(
            reverse("admin:spend_priceversion_correction", args=[version.pk])
        )

    def correct_view(self, request: HttpRequest, price_id: int) -> Any:
        """Show or save the form of the price that replaces this one."""
        old = self.get_object(request, str(price_id))
        if old is None:
            raise Http404
        if not self.has_add_permission(request):
            raise PermissionDenied
        request.corrected = old  # type: ignore[attr-defined]  # lives as long as the request
        return self.changeform_view(request, None, "", {"title": f"Correct {old}"})

    @action(description="End", icon="event_busy", permissions=("replace",))
    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def ends(version: Any) -> Callable[[datetime, datetime], object]:
            return lambda at, now: prices.end_version(version=version, at=at, now=now)

        return end_page(self, request, object_id, end=ends, words=END_WORDS)

    # --- Showing ----------------------------------------------------------------------------

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        if not _is_open(obj):
            told = {"sample": sample(obj), "sample_words": price_samples.SAMPLE_WORDS}
            return {**told, "replacement": obj.replaced_by}
        old = corrected(request) or obj
        preview = reverse("admin:spend_priceversion_preview")
        query = f"?{CORRECTED}={old.pk}" if old else ""
        return {"preview_url": preview + query, "corrected": corrected(request)}

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Tell what the form as it stands would cost, and how it differs from the price before."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        old = self.get_object(request, request.GET.get(CORRECTED, ""))
        request.corrected = old  # type: ignore[attr-defined]  # lives as long as the request
        form = self.get_form(request)(request.POST)
        formset = self._rates_of(request, old)
        context: dict[str, Any] = {"sample_words": price_samples.SAMPLE_WORDS}
        if form.is_valid() and formset.is_valid():
            context |= _preview(form, formset, old)
        return TemplateResponse(request, "spend/price_preview.html", context)

    def _rates_of(self, request: HttpRequest, old: PriceVersion | None) -> Any:
        """Return the rates of the form: those of a correction are all new."""
        formset = RateInline(PriceVersion, self.admin_site).get_formset(request)
        edited = old if old is not None and _is_open(old) else PriceVersion()
        return formset(request.POST, instance=edited)

    def history_of(self, obj: PriceVersion) -> Q:
        rates = [str(pk) for pk in obj.rates.values_list("pk", flat=True)]
        of_rates = Q(table_name=PriceRate._meta.db_table, object_id__in=rates)
        return history.rows_of(obj) | of_rates

    @column(description="In force")
    def in_force(self, obj: Any) -> str:
        return version_state(obj, newest=obj.newest, now=timezone.now())

    @column(description="Regions")
    def regions(self, obj: PriceVersion) -> str:
        told = [f"{name} × {factor}" for name, factor in obj.region_factors.items()]
        return ", ".join(told) or bars.NOTHING

    @column(description="For", ordering="organization__name")
    def whose(self, obj: PriceVersion) -> str:
        return str(obj.organization or EVERYBODY)

    @column(description="Per 1M tokens")
    def in_out(self, obj: PriceVersion) -> str:
        return in_and_out(obj)


def _is_open(version: Any) -> bool:
    """Return whether a page may write: there is no price yet, or it has not begun."""
    return version is None or prices.is_open(version, now=timezone.now())


def _wanted(form: Any, rates: Any, old: PriceVersion | None) -> Wanted:
    given = form.cleaned_data
    return Wanted(
        model=given["model"],
        organization=given["organization"],
        effective_from=given["effective_from"] or (old.effective_from if old else timezone.now()),
        effective_until=given["effective_until"],
        currency=given["currency"],
        region_factors=given["region_factors"],
        rates=rates,
        source=given["source"],
        source_version=given["source_version"],
    )


def _told(refused: NotConfirmed, rates: Any) -> str:
    """Return what is to be confirmed, with the name of the rate that it is about."""
    index = int(refused.field.partition("[")[2].partition("]")[0])
    return f"{price_samples.named(rates.filled()[index].cleaned_rate)} {refused.problem}"


def _preview(form: Any, formset: Any, old: PriceVersion | None) -> dict[str, Any]:
    wanted = _wanted(form, formset.given(), old)
    try:
        checked = prices.check(wanted=wanted, replacing=old)
    except InvalidInput as refused:
        return {"problem": sentence(refused.problem)}
    return _compared(checked, wanted.currency)


def _compared(checked: Checked, currency: str) -> dict[str, Any]:
    cost = price_samples.sample_cost(checked.rates, currency=currency)
    return {
        "currency": currency,
        "sample": None if cost is None else f"{currency} {money.plain(cost)}",
        "before": checked.before,
        "rows": price_samples.compared(checked.rates, checked.before_rates, jumps=checked.jumps),
    }
