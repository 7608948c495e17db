"""The ledger, to be read: never counted (it is large), never changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe

from budgets import display, money
from budgets.admin import bars
from budgets.admin.base import ReadOnlyAdmin
from budgets.admin.lists import link, state, two_lines
from budgets.admin.theme import UncountedPaginator
from budgets.models import Account, ApiKey, Organization, Team, User
from spend import events, units
from spend.admin.reratings import ReratingFilter, reratings_of
from spend.components import Component
from spend.models import Day, EventKind, PriceVersion, Rerating, SetAside, SpendEvent
from spend.queries import of_request

MODELS_LISTED_MAX: Final = 100
MODELS_OF_DAYS: Final = 31
SPANS: Final = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "31d": ("Last 31 days", timedelta(days=31)),
}
FLAG_WORDS: Final = {
    events.ORPHANED: "Nobody settled the request in time: it counts at what was reserved for it.",
    events.ESTIMATED: "The upstream told no usage: tokens were counted from bytes.",
    events.OVER_CEILING: "It cost more than was thought possible beforehand; it counts in full.",
    events.CLIENT_CLOSED: "The caller went away before the answer ended; what was used counts.",
    events.UPSTREAM_ERROR: "The upstream failed after it was asked; what it used counts.",
    events.USAGE_CLAMPED: "The upstream's counts did not add up and were cut to what does.",
    events.UNPRICED: "Something that was used has no price, and is not in the amount.",
    events.TIER_UNPRICED: "The price has no rate for requests of this size; the amount lacks it.",
    events.RATE_STALE: "The exchange rate was older than it should be; it was used all the same.",
    events.CACHE_HIT: "It was answered from the response cache: no provider was asked.",
    events.DAMAGED: "What describes the request could not be read; its amount counts.",
}
KIND_WORDS: Final = {
    EventKind.USAGE: "A request, as it was settled.",
    EventKind.ORPHAN: "A request that nobody settled: counted at what was reserved.",
    EventKind.ORPHAN_REVERSAL: "Takes an orphan back: its true settle came after all.",
    EventKind.ADJUSTMENT: "A re-rating added the difference to another price.",
}


class TimeFilter(SimpleListFilter):
    title = "time"
    parameter_name = "within"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, words) for name, (words, _) in SPANS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        _, span = SPANS.get(self.value() or "", (None, None))
        return queryset if span is None else queryset.filter(admitted_at__gte=timezone.now() - span)


class ModelFilter(SimpleListFilter):
    """Models that organizations have used lately: from the roll-ups, not from the ledger."""

    title = "model"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = Day.objects.filter(
            day__gte=timezone.now().date() - timedelta(days=MODELS_OF_DAYS),
            account_id__in=Organization.objects.values("account_id"),
        ).values_list("model", flat=True)
        listed = names.distinct().order_by("model")[:MODELS_LISTED_MAX]
        return [(name, name or "(none)") for name in listed]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(model=self.value())


class KindFilter(SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return EventKind.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class FlagFilter(SimpleListFilter):
    title = "flag"
    parameter_name = "flag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(flag, flag.replace("_", " ").capitalize()) for flag in events.FLAGS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(flags__contains=[self.value()]) if self.value() else queryset


class AccountFilter(SimpleListFilter):
    """Set by the link on an account's page."""

    title = "account"
    parameter_name = "account"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        given = request.GET.get(self.parameter_name)
        if given is None:
            return []
        id = _uuid_of(given)
        account = Account.objects.filter(id=id).first() if id else None
        return [(given, str(account) if account else "unknown")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        id = _uuid_of(self.value() or "")
        return queryset.filter(accounts__contains=[id]) if id else queryset.none()


@admin.register(SpendEvent)
class SpendEventAdmin(ReadOnlyAdmin):
    purpose = "Every request that cost something, or could have: one row each, never changed."
    list_display = ("at", "requested", "whose", "kind_told", "tokens", "amount")
    list_filter = (TimeFilter, ModelFilter, KindFilter, FlagFilter, AccountFilter, ReratingFilter)
    list_fullwidth = True
    search_fields = ("id",)
    search_help_text = "Exact request id"
    ordering = ("-admitted_at",)
    sortable_by = ()
    paginator = UncountedPaginator
    readonly_fields = ("times", "asked_of")
    change_form_outer_before_template = "spend/event.html"
    fieldsets = (
        ("The request", {"fields": (
            ("request_id", "id"), "times", ("route", "deployment"), ("status", "streamed"),
            ("model", "asked_of"),
        )}),
        ("For whom", {"fields": (("team", "user"), ("end_user", "tags"))}),
    )  # fmt: skip

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        if not search_term:
            return queryset, False
        request_id = _uuid_of(search_term.strip())
        return (queryset.filter(of_request(request_id)) if request_id else queryset.none()), False

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Read for whom the requests of the page's rows were, all at once."""
        changelist = super().get_changelist_instance(request)
        changelist.result_list = rows = list(changelist.result_list)
        organizations = Organization.objects.in_bulk({row.organization_id for row in rows})
        teams = _names(Team.objects.filter(public_id__in={row.team for row in rows}))
        users = _names(User.objects.filter(public_id__in={row.user for row in rows}))
        for row in rows:
            row.organization_name = str(organizations.get(row.organization_id, "unknown"))
            row.team_name = teams.get(row.team, row.team)
            row.user_name = users.get(row.user, row.user)
        return changelist

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return super().shown(request, obj) | ({"told": told(obj)} if obj else {})

    @column(description="Admitted at")
    def at(self, obj: SpendEvent) -> str:
        return two_lines(f"{obj.admitted_at:%Y-%m-%d %H:%M:%S}", str(obj.request_id))

    @column(description="Model")
    def requested(self, obj: SpendEvent) -> str:
        return two_lines(obj.model, obj.provider)

    @column(description="For")
    def whose(self, obj: Any) -> str:
        return two_lines(
            obj.organization_name, " · ".join(filter(None, (obj.team_name, obj.user_name)))
        )

    @column(description="Times")
    def times(self, obj: SpendEvent) -> str:
        told_of = (
            ("admitted", obj.admitted_at),
            ("settled", obj.settled_at),
            ("recorded", obj.recorded_at),
        )
        told = ((word, f"{at:%Y-%m-%d %H:%M:%S.%f} UTC") for word, at in told_of)
        return format_html_join(mark_safe("<br>"), '{} <span class="cp-number">{}</span>', told)

    @column(description="Asked of")
    def asked_of(self, obj: SpendEvent) -> str:
        return f"{obj.provider}/{obj.upstream_model}"

    @column(description="Kind and flags")
    def kind_told(self, obj: SpendEvent) -> str:
        words = [] if obj.kind == EventKind.USAGE else [obj.get_kind_display()]
        words += [flag.replace("_", " ") for flag in obj.flags]
        flagged = ((state("warning", "flag", each),) for each in words)
        return format_html_join(" ", "{}", flagged) or bars.NOTHING

    @column(description="Tokens in / out")
    def tokens(self, obj: SpendEvent) -> str:
        return f"{display.count(obj.input_tokens)} / {display.count(obj.output_tokens)}"

    @column(description="Amount")
    def amount(self, obj: SpendEvent) -> str:
        return bars.fine_amount(_in_currency(obj.amount_units, obj), obj.currency)


@admin.register(SetAside)
class SetAsideAdmin(ReadOnlyAdmin):
    purpose = "Stream entries that could not be read as spend events. None is how it should be."
    list_display = ("created_at", "position", "problem")
    search_fields = ("position__exact",)
    search_help_text = "Exact position"
    ordering = ("-created_at",)
    fields = ("created_at", "position", "problem", "fields")


@dataclass(frozen=True, slots=True)
class LineTold:
    component: str
    quantity: str
    rate: str
    amount: str


@dataclass(frozen=True, slots=True)
class RowTold:
    """One of a request's rows, and where a re-rating made it, why."""

    link: Any
    is_this: bool
    recorded_at: datetime
    amount: str
    rerating: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the ledger with the sums that lead to its amount."""

    kind: str
    lines: list[LineTold]
    unpriced: list[str]
    full_cost: str
    charged_before: str
    cost: str
    price: Any
    converted: bool
    rate: str
    rate_date: date | None
    unrounded: str
    amount: str
    amount_short: str
    decimals: int
    reserved: str
    difference: str
    saved: str
    flags: list[tuple[str, str]]
    accounts: list[Any]
    organization: Any
    key: Any
    rows: list[RowTold]
    sum: str


def told(event: SpendEvent) -> Told:
    """Return everything that the page of a ledger row says."""
    amount, reserved = (
        _in_currency(each, event) for each in (event.amount_units, event.reserved_units)
    )
    told_of = {Component.REQUEST.value, *(component for component, *_ in event.lines)}
    unrounded = money.WIDE.multiply(event.cost, event.exchange_rate)
    full_cost = sum((Decimal(amount) for *_, amount in event.lines), Decimal(0))
    rows, units = _rows_of(event)
    return Told(
        kind=KIND_WORDS.get(EventKind(event.kind), event.kind),
        lines=[_line(event, *line) for line in event.lines],
        unpriced=sorted(_class_words(name) for name in event.usage if name not in told_of),
        full_cost=display.exact(full_cost, event.cost_currency),
        charged_before=display.exact(full_cost - event.cost, event.cost_currency),
        cost=display.exact(event.cost, event.cost_currency),
        price=_price_link(event),
        converted=event.cost_currency != event.currency,
        rate=money.plain(event.exchange_rate),
        rate_date=event.exchange_rate_date,
        unrounded=display.exact(unrounded, event.currency),
        amount=display.exact(amount, event.currency),
        amount_short=display.fine_amount(amount, event.currency),
        decimals=money.decimals_of(event.currency),
        reserved=display.exact(reserved, event.currency),
        difference=_difference(amount, reserved, event.currency),
        saved=_saved(event),
        flags=[(flag.replace("_", " "), FLAG_WORDS.get(flag, "")) for flag in event.flags],
        accounts=_account_links(event),
        organization=link(Organization.objects.filter(pk=event.organization_id).first()),
        key=link(ApiKey.objects.filter(digest=event.key_digest).first()),
        rows=rows,
        sum=display.exact(_in_currency(units, event), event.currency),
    )  # fmt: skip


def _names(known: Iterable[Team | User]) -> dict[str, str]:
    return {each.public_id: str(each) for each in known}


def _rows_of(event: SpendEvent) -> tuple[list[RowTold], int]:
    """Return all rows of the request, and their sum in units."""
    rows = SpendEvent.objects.filter(of_request(event.request_id)).order_by("recorded_at", "id")
    made_by = reratings_of(rows)
    told_of = [_row(each, made_by.get(each.rerating_id or 0), of=event) for each in rows]
    return told_of, sum(each.amount_units for each in rows)


def _row(each: SpendEvent, made_by: Rerating | None, *, of: SpendEvent) -> RowTold:
    return RowTold(
        link=link(each, each.get_kind_display()),
        is_this=each.id == of.id,
        recorded_at=each.recorded_at,
        amount=display.exact(_in_currency(each.amount_units, each), each.currency),
        rerating=link(made_by, f"re-rating {made_by.pk}") if made_by else "",
        reason=made_by.reason if made_by else "",
    )


def _line(event: SpendEvent, component: str, quantity: str, rate: str, amount: str) -> LineTold:
    return LineTold(
        component=_class_words(component),
        quantity=display.count(int(quantity)),
        rate=display.exact(Decimal(rate), event.cost_currency),
        amount=display.exact(Decimal(amount), event.cost_currency),
    )


def _class_words(component: str) -> str:
    """Return what price pages call a class; one that is no longer known keeps its name."""
    known = {each.value for each in Component}
    name = component.replace("_", " ")
    return units.name_of(Component(component)) if component in known else name


def _difference(amount: Decimal, reserved: Decimal, currency: str) -> str:
    if amount > reserved:
        return f"{display.exact(amount - reserved, currency)} more than reserved"
    return f"{display.exact(reserved - amount, currency)} given back"


def _saved(event: SpendEvent) -> str:
    if not event.saved_units:
        return ""
    return display.exact(_in_currency(event.saved_units, event), event.currency)


def _price_link(event: SpendEvent) -> Any:
    kind, _, name = event.price_reference.partition(":")
    if kind == "price" and name.isdecimal():
        version = PriceVersion.objects.select_related("model__provider").filter(pk=name).first()
        return link(version, f"price {version}") if version else f"price {name}, since deleted"
    if kind == "deployment":
        return f"the deployment’s own price ({name})"
    return event.price_reference or "no price"


def _account_links(event: SpendEvent) -> list[Any]:
    known = Account.objects.in_bulk(event.accounts)
    return [link(known[id]) if id in known else str(id) for id in event.accounts]


def _in_currency(units: int, event: SpendEvent) -> Decimal:
    return money.to_decimal(units, currency=event.currency)


def _uuid_of(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
