"""Re-ratings: looked at before they are written, and never changed after that."""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from budgets import display
from budgets.admin import bars
from budgets.admin.base import ServiceAdmin, actor_of
from budgets.admin.forms import ServiceForm
from budgets.admin.lists import page_of, state, two_lines
from spend import instants, rerating, tasks
from spend.models import Rerating, SpendEvent
from spend.rating import Skip
from spend.rerating import Change, Preview, Scope
from spend.services import reratings

ACCOUNTS_SHOWN_MAX: Final = 200
ID_DIGITS_MAX: Final = 18
SECONDS: Final = "%Y-%m-%d %H:%M:%S"


class PreviewWanted(Exception):
    """What is to be written was looked up, and is to be shown first."""

    def __init__(self, form: forms.BaseForm, found: Preview) -> None:
        super().__init__()
        self.form = form
        self.found = found


class RerateForm(ServiceForm):
    class Meta:
        model = Rerating
        fields = ("provider", "upstream_model", "organization", "start", "end", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "reason" in self.fields:
            self.fields["reason"].required = False

    def scope(self) -> Scope:
        given = self.cleaned_data
        organization = given["organization"]
        return Scope(
            provider=given["provider"],
            upstream_model=given["upstream_model"],
            start=given["start"],
            end=given["end"],
            organization_id=organization.pk if organization else None,
        )


@admin.register(Rerating)
class ReratingAdmin(ServiceAdmin):
    purpose = "A re-rating charges past requests what they cost at today’s prices."
    form = RerateForm
    list_display = ("called", "interval", "why", "progress", "changed", "added")
    list_filter = (("organization", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("organization",)
    search_fields = ("provider", "upstream_model", "reason", "requested_by")
    search_help_text = "Provider, model, reason or who"
    autocomplete_fields = ("organization",)
    ordering = ("-pk",)
    sortable_by = ()
    error_fields = {"model": "upstream_model"}
    readonly_fields = (
        "called", "interval", "requested", "progress", "changed", "skipped_told", "added", "rows",
    )  # fmt: skip

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return (
                ("Which requests", {"fields": (
                    ("provider", "upstream_model"), "organization", "start", "end",
                )}),
                ("Why", {"fields": ("reason",)}),
            )  # fmt: skip
        return (
            ("Which requests", {"fields": ("called", "interval")}),
            ("Why", {"fields": ("reason", "requested")}),
            ("What it did", {"fields": ("progress", "changed", "skipped_told", "added", "rows")}),
        )  # fmt: skip

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in HELP_TEXTS:
            field.label, field.help_text = HELP_TEXTS[db_field.name]
        return field

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return what a link has filled in; what it says of times must be such."""
        given: dict[str, Any] = super().get_changeform_initial_data(request)
        for name in ("start", "end"):
            if name in given:
                given[name] = instants.parse_or_none(given[name])
        return given

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Leave out the link to a history: what is never changed has none."""
        return {"show_history": False}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def create(self, request: HttpRequest, form: Any) -> Rerating:
        scope, now = form.scope(), timezone.now()
        if "apply" not in request.POST:
            raise PreviewWanted(form, reratings.preview(scope=scope, now=now))
        made = reratings.start(
            scope=scope, by=actor_of(request), reason=form.cleaned_data["reason"], now=now
        )
        transaction.on_commit(lambda: _begin(made))
        return made

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show the form, and what it would change before that is written."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except PreviewWanted as wanted:
            return self._preview_page(request, wanted.form, wanted.found)

    def response_add(
        self, request: HttpRequest, obj: Rerating, post_url_continue: str | None = None
    ) -> HttpResponse:
        self.message_user(request, f"Re-rating {obj.pk} has begun.", messages.SUCCESS)
        return HttpResponseRedirect(page_of(obj))

    def _preview_page(self, request: HttpRequest, form: Any, found: Preview) -> HttpResponse:
        scope = form.scope()
        rows = found.rows(most=ACCOUNTS_SHOWN_MAX)
        sums = sorted(found.by_currency.items())
        context = {
            **self.admin_site.each_context(request),
            "title": "What a re-rating would change",
            "opts": self.opts,
            "form": form,
            "scope": scope,
            "organization": form.cleaned_data["organization"],
            "seen": display.count(found.seen),
            "changed": display.count(found.changed),
            "skipped": _skipped(found.skipped),
            "rows": [_row(row.label, row.change) for row in rows],
            "totals": [_row(f"All together, in {currency}", sum_) for currency, sum_ in sums],
            "left_out": max(0, len(found.by_account) - ACCOUNTS_SHOWN_MAX),
            "back": add_url(scope, reason=form.cleaned_data["reason"]),
        }
        return TemplateResponse(request, "spend/rerating_preview.html", context)

    @column(description="Model")
    def called(self, obj: Rerating) -> str:
        whose = str(obj.organization) if obj.organization else "every organization"
        return two_lines(f"{obj.provider}/{obj.upstream_model}", whose)

    @column(description="Requests admitted")
    def interval(self, obj: Rerating) -> str:
        return two_lines(f"{obj.start:{SECONDS}}", f"to {obj.end:{SECONDS}} UTC")

    @column(description="Why")
    def why(self, obj: Rerating) -> str:
        return two_lines(obj.reason, self.requested(obj))

    @column(description="Requested by")
    def requested(self, obj: Rerating) -> str:
        return f"{obj.requested_by}, {obj.created_at:{SECONDS}} UTC"

    @column(description="State")
    def progress(self, obj: Rerating) -> str:
        if obj.finished_at is not None:
            written = f"Written {obj.finished_at:{SECONDS}} UTC"
            return state("fine", "check_circle", written)
        if obj.requests_total is None:
            return state("warning", "schedule", "Waits for the worker")
        done = f"{display.count(obj.requests_seen)} of {display.count(obj.requests_total)}"
        return state("warning", "autorenew", f"Under way: {done}")

    @column(description="Changed")
    def changed(self, obj: Rerating) -> str:
        seen = display.count(obj.requests_seen)
        return f"{display.count(obj.requests_changed)} of {seen} requests"

    @column(description="Skipped")
    def skipped_told(self, obj: Rerating) -> str:
        told = _skipped(obj.skipped)
        return format_html_join("", "<div>{}: {}</div>", told) if told else bars.NOTHING

    @column(description="Added")
    def added(self, obj: Rerating) -> str:
        sums = [(f"{currency} {text}",) for currency, text in sorted(obj.differences.items())]
        return format_html_join("", '<div class="cp-number">{}</div>', sums) or bars.NOTHING

    @column(description="Rows of the ledger")
    def rows(self, obj: Rerating) -> str:
        ledger = reverse("admin:spend_spendevent_changelist")
        return format_html(
            '<a class="cp-link" href="{}?rerating={}">Those that it added</a>', ledger, obj.pk
        )


class ReratingFilter(SimpleListFilter):
    """Set by the link on a re-rating's page."""

    title = "re-rating"
    parameter_name = "rerating"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        given = request.GET.get(self.parameter_name)
        return [] if given is None else [(given, str(_found(given) or "unknown"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        made = _found(self.value() or "")
        return queryset.filter(rerating.of_rerating(made)) if made else queryset.none()


HELP_TEXTS: Final = {
    "provider": ("Provider", "As the ledger and the price book name it."),
    "upstream_model": ("Model", "Its name at the provider."),
    "organization": ("Organization", "Empty: the requests of every organization."),
    "start": ("From", "When the first requests were admitted, in UTC."),
    "end": ("Until", "In UTC; what was admitted then is left out."),
    "reason": ("Reason", "Everybody who asks about a charge can read it. Needed to write it."),
}


def add_url(scope: Scope, *, reason: str = "") -> str:
    """Return the address of the form with these requests filled in."""
    given = {
        "provider": scope.provider,
        "upstream_model": scope.upstream_model,
        "start": scope.start.isoformat(),
        "end": scope.end.isoformat(),
        "organization": scope.organization_id,
        "reason": reason,
    }
    query = urlencode({name: value for name, value in given.items() if value})
    return f"{reverse('admin:spend_rerating_add')}?{query}"


def reratings_of(events: Iterable[SpendEvent]) -> dict[int, Rerating]:
    """Return the re-ratings that made these rows."""
    ids = {each.rerating_id for each in events if each.rerating_id is not None}
    return Rerating.objects.in_bulk(ids) if ids else {}


def _begin(made: Rerating) -> None:
    tasks.rerate_now_or_soon(made)


def _found(text: str) -> Rerating | None:
    is_id = text.isascii() and text.isdecimal() and len(text) <= ID_DIGITS_MAX
    return Rerating.objects.filter(pk=int(text)).first() if is_id else None


def _skipped(by_reason: Any) -> list[tuple[str, str]]:
    return [
        (display.count(number), Skip(reason).words) for reason, number in sorted(by_reason.items())
    ]


def _row(label: str, change: Change) -> dict[str, str]:
    amounts = {
        name: display.exact(getattr(change, name), change.currency)
        for name in ("before", "difference", "after")
    }
    return {"label": label, "requests": display.count(change.requests), **amounts}
