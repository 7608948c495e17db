"""Batches and their files, to be read: providers have them, and only the machinery writes here."""

from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from budgets import display, money
from budgets.admin.base import ReadOnlyAdmin
from budgets.admin.lists import two_lines
from budgets.admin.theme import UncountedPaginator
from gateway.models import BatchState, GatewayBatch, GatewayFile

_NOT_THERE: Final = "—"


@admin.register(GatewayBatch)
class GatewayBatchAdmin(ReadOnlyAdmin):
    purpose = "A batch holds the most that its lines can cost, and is charged once it has ended."
    list_display = ("called", "asked_for", "whose", "happens", "lines", "cost")
    list_filter = ("state", ("organization", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("organization", "key", "input_file")
    search_fields = ("public_id", "request_id", "upstream_id")
    search_help_text = "Exact id: the batch's, its request's, or its provider's"
    ordering = ("-id",)
    sortable_by = ()
    paginator = UncountedPaginator
    readonly_fields = ("lines", "cost", "ceiling_told", "held_told", "happens", "input", "ledger")
    fieldsets = (
        ("The batch", {"fields": (
            ("public_id", "upstream_id"), ("happens", "problem"), ("input", "lines"),
            ("created_at", "settled_at"),
        )}),
        ("For whom", {"fields": (("organization", "key"), ("team", "deployment"))}),
        ("What it costs", {"fields": (("cost", "ledger"), ("ceiling_told", "held_told"))}),
        ("The next look", {"fields": (("next_look_at", "failures"),)}),
    )  # fmt: skip

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        return _exactly(queryset, search_term, also="request_id"), False

    @column(description="Batch")
    def called(self, obj: GatewayBatch) -> str:
        return two_lines(f"{obj.created_at:%Y-%m-%d %H:%M:%S}", obj.public_id)

    @column(description="Model")
    def asked_for(self, obj: GatewayBatch) -> str:
        return two_lines(obj.input_file.model, obj.input_file.endpoint)

    @column(description="For")
    def whose(self, obj: GatewayBatch) -> str:
        return two_lines(str(obj.organization), str(obj.key) if obj.key else "a key that is gone")

    @column(description="State")
    def happens(self, obj: GatewayBatch) -> str:
        more = obj.problem or (f"says {obj.status}" if obj.status else "")
        return two_lines(BatchState(obj.state).label, more)

    @column(description="Lines")
    def lines(self, obj: GatewayBatch) -> str:
        return display.count(obj.input_file.lines or 0)

    @column(description="Cost")
    def cost(self, obj: GatewayBatch) -> str:
        if obj.amount_units is None:
            return _NOT_THERE
        return _amount(obj, obj.amount_units)

    @column(description="At most (in the price's currency)")
    def ceiling_told(self, obj: GatewayBatch) -> str:
        return money.plain(obj.ceiling)

    @column(description="Charged if nobody can tell")
    def held_told(self, obj: GatewayBatch) -> str:
        return money.plain(obj.held)

    @column(description="Input")
    def input(self, obj: GatewayBatch) -> SafeString:
        url = reverse("admin:gateway_gatewayfile_change", args=[obj.input_file_id])
        return format_html('<a class="cp-link" href="{}">{}</a>', url, obj.input_file)

    @column(description="Ledger")
    def ledger(self, obj: GatewayBatch) -> SafeString:
        url = reverse("admin:spend_spendevent_changelist")
        return format_html(
            '<a class="cp-link" href="{}?q={}">{}</a>', url, obj.request_id, obj.request_id
        )


@admin.register(GatewayFile)
class GatewayFileAdmin(ReadOnlyAdmin):
    purpose = "Files that providers have for batches; what is in them is never kept here."
    list_display = ("called", "asked_for", "whose", "what", "lines", "size")
    list_filter = ("purpose", ("organization", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("organization", "key")
    search_fields = ("public_id", "upstream_id")
    search_help_text = "Exact id: the file's, or its provider's"
    ordering = ("-id",)
    sortable_by = ()
    paginator = UncountedPaginator
    readonly_fields = ("size",)
    fieldsets = (
        ("The file", {"fields": (
            ("public_id", "upstream_id"), ("filename", "purpose"), ("model", "endpoint"),
            ("lines", "size"), "batch", ("created_at", "deleted_at"),
        )}),
        ("For whom", {"fields": (
            ("organization", "key"), ("team", "deployment"), ("end_user", "tags"),
        )}),
    )  # fmt: skip

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        return _exactly(queryset, search_term), False

    @column(description="File")
    def called(self, obj: GatewayFile) -> str:
        return two_lines(f"{obj.created_at:%Y-%m-%d %H:%M:%S}", obj.public_id)

    @column(description="Model")
    def asked_for(self, obj: GatewayFile) -> str:
        return two_lines(obj.model, obj.endpoint)

    @column(description="For")
    def whose(self, obj: GatewayFile) -> str:
        return two_lines(str(obj.organization), str(obj.key) if obj.key else "a key that is gone")

    @column(description="What it is")
    def what(self, obj: GatewayFile) -> str:
        return two_lines(obj.get_purpose_display(), _deleted(obj.deleted_at))

    @column(description="Bytes")
    def size(self, obj: GatewayFile) -> str:
        return _NOT_THERE if obj.bytes is None else display.count(obj.bytes)


def _exactly(rows: QuerySet[Any], text: str, *, also: str = "") -> QuerySet[Any]:
    """Return the rows with that id; ``also`` names a column of UUIDs."""
    wanted = text.strip()
    if not wanted:
        return rows
    found = Q(public_id=wanted) | Q(upstream_id=wanted)
    if also:
        with suppress(ValueError):
            found |= Q(**{also: UUID(wanted)})
    return rows.filter(found)


def _deleted(at: datetime | None) -> str:
    return f"deleted {at:%Y-%m-%d %H:%M}" if at else ""


def _amount(obj: GatewayBatch, units: int) -> str:
    currency = obj.organization.currency
    return f"{money.plain(money.to_decimal(units, currency=currency))} {currency}"
