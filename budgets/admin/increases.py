"""Temporary increases: those that wait first, and all that helps to decide about one."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import ROUND_FLOOR
from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.core.exceptions import PermissionDenied
from django.db.models import Case, F, QuerySet, When
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.safestring import SafeString

from budgets import ancestors, changes, display, queries
from budgets.admin import bars, figures
from budgets.admin.base import ServiceAdmin, actor_of
from budgets.admin.figures import Figure
from budgets.admin.forms import ExactDecimalField
from budgets.admin.lists import FiguresAdmin, page_of, state, two_lines
from budgets.admin.theme import Select, TextArea, TextInput, action
from budgets.ancestors import Room
from budgets.errors import InvalidInput
from budgets.models import Account, Budget, Increase, IncreaseState, User
from budgets.services import increases
from budgets.services.increases import TEXT_LENGTH_MAX, Amended, Person, Wanted

HISTORY_MAX: Final = 10
WAITING_COUNTED_MAX: Final = 99
STATES: Final = {
    IncreaseState.PENDING: ("warning", "hourglass_top"),
    IncreaseState.APPROVED: ("fine", "check_circle"),
    IncreaseState.DENIED: ("full", "block"),
    IncreaseState.CANCELLED: ("full", "cancel"),
}
FACTS: Final = (
    "account_told", "budget", "more", "from_told", "until_told", "why", "asked_told", "state_told",
    "decided_told", "note",
)  # fmt: skip
DEADLINE: Final = Case(When(state=IncreaseState.PENDING, then=F("ends_at")))
"""Of what waits; nothing for all else."""
UNTIL: Final = "In UTC, such as 2026-11-30 18:00."


def waiting() -> QuerySet[Increase]:
    """Return the increases that wait for somebody; no more than can be counted beside a link."""
    pending = Increase.objects.filter(state=IncreaseState.PENDING).order_by()
    return pending[:WAITING_COUNTED_MAX]


def person_of(request: HttpRequest) -> Person:
    assert isinstance(request.user, User), "the admin lets nobody else in"
    return Person(request.user)


def _amount() -> forms.DecimalField:
    return ExactDecimalField(label="Amount", max_digits=19, decimal_places=9)


def _until(*, required: bool, help_text: str = UNTIL) -> forms.DateTimeField:
    return forms.DateTimeField(
        label="Until", required=required, help_text=help_text, widget=TextInput
    )


def _note(*, required: bool) -> forms.CharField:
    return forms.CharField(
        label="Note", max_length=TEXT_LENGTH_MAX, required=required, widget=TextInput
    )


class LimitField(forms.ModelChoiceField):
    """A choice of budgets, told by their limits."""

    def label_from_instance(self, obj: Any) -> str:
        return _budget_words(obj)


class AskForm(forms.Form):
    budget_id = LimitField(Budget.objects.none(), label="Budget", widget=Select)
    amount = _amount()
    ends_at = _until(
        required=False, help_text=f"{UNTIL} Empty: the end of the budget's running period."
    )
    why = forms.CharField(label="Why", max_length=TEXT_LENGTH_MAX, widget=TextArea({"rows": 2}))

    def __init__(self, data: Any, *, budgets: QuerySet[Budget]) -> None:
        super().__init__(data, initial={"budget_id": budgets.first()})
        field = self.fields["budget_id"]
        assert isinstance(field, LimitField), "as above"
        field.queryset = budgets


class ApproveForm(forms.Form):
    amount = _amount()
    ends_at = _until(required=True)
    note = _note(required=False)


class DenyForm(forms.Form):
    note = _note(required=True)


class CancelForm(forms.Form):
    note = _note(required=False)


class ShortenForm(forms.Form):
    ends_at = _until(required=True, help_text=f"{UNTIL} Earlier than now planned.")
    note = _note(required=False)


def _budget_words(budget: Any) -> str:
    whose = "Own limit" if budget.private_to_id else str(budget)
    return f"{whose}: {display.limit_terms(budget.max_budget, budget.currency, budget.duration)}"


Decide = Callable[[Increase, Person, forms.Form, datetime], Increase]


def _approve(row: Increase, by: Person, form: forms.Form, now: datetime) -> Increase:
    # Only what was changed: the form shows whole seconds, and the row may have parts of one.
    changed = {name: form.cleaned_data[name] for name in form.changed_data if name != "note"}
    note = form.cleaned_data["note"]
    return increases.approve(
        increase_id=row.pk, by=by, now=now, amended=Amended(**changed), note=note
    )


def _deny(row: Increase, by: Person, form: forms.Form, now: datetime) -> Increase:
    return increases.deny(increase_id=row.pk, by=by, now=now, **form.cleaned_data)


def _cancel(row: Increase, by: Person, form: forms.Form, now: datetime) -> Increase:
    return increases.cancel(increase_id=row.pk, by=by, now=now, **form.cleaned_data)


def _shorten(row: Increase, by: Person, form: forms.Form, now: datetime) -> Increase:
    return increases.shorten(increase_id=row.pk, by=by, now=now, **form.cleaned_data)


DECISIONS: Final[Mapping[str, tuple[type[forms.Form], Decide]]] = {
    "Approve": (ApproveForm, _approve),
    "Deny": (DenyForm, _deny),
    "Shorten": (ShortenForm, _shorten),
    "Cancel": (CancelForm, _cancel),
}


@admin.register(Increase)
class IncreaseAdmin(FiguresAdmin, ServiceAdmin):
    purpose = "More money on one account for a while. Ask for it on the page of the account."
    list_display = (
        "account_told", "budget_told", "more", "until_told", "asked_told", "used", "state_told",
    )  # fmt: skip
    list_filter = ("state", ("account__organization", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("account__organization", "budget__organization")
    list_fullwidth = True
    ordering = (DEADLINE.asc(nulls_last=True), "-asked_at", "id")
    search_fields = ("account__label", "asked_by", "why")
    search_help_text = "Account, who asked, or why"
    actions = None
    actions_detail = ("approve", "deny", "shorten", "cancel")
    fields = readonly_fields = FACTS
    change_form_outer_before_template = "budgets/increase.html"

    def get_urls(self) -> Any:
        ask = self.admin_site.admin_view(self.ask_view)
        return [path("ask/<uuid:account_id>/", ask, name="ask_for_increase"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return what the user may see."""
        rows = super().get_queryset(request)
        user = person_of(request).user
        if user is None or user.is_superuser or user.role in queries.SEES_ALL:
            return rows
        return rows.filter(account__organization__in=queries.organizations_visible_to(user))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: it is asked for on the page of an account."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: it is decided about, never edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        row = self._row(request, object_id)
        is_open = row is None or row.state == IncreaseState.PENDING
        return is_open and (row is None or increases.may_decide(person_of(request), row))

    def has_end_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        row = self._row(request, object_id)
        if row is None:
            return True
        is_running = row.state == IncreaseState.APPROVED and row.ends_at > timezone.now()
        is_open = is_running or row.state == IncreaseState.PENDING
        return is_open and increases.may_touch(person_of(request), row)

    def has_shorten_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        row = self._row(request, object_id)
        is_approved = row is None or row.state == IncreaseState.APPROVED
        return is_approved and self.has_end_permission(request, object_id)

    def _row(self, request: HttpRequest, object_id: Any) -> Increase | None:
        row: Any = None if object_id is None else self.get_object(request, str(object_id))
        return row if isinstance(row, Increase) else None

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return shown(obj, now=timezone.now()) if obj else {}

    # --- Asking -----------------------------------------------------------------------------

    def ask_view(self, request: HttpRequest, account_id: UUID) -> HttpResponse:
        """Ask for an increase of one of the account's limits."""
        if not request.user.has_perm("budgets.add_increase"):
            raise PermissionDenied
        account = get_object_or_404(Account, pk=account_id)
        form = AskForm(request.POST or None, budgets=limited_budgets(account))
        if form.is_valid() and (asked := self._asked(request, account, form)):
            return HttpResponseRedirect(page_of(asked))
        return self._form_page(request, f"Ask for an increase of {account}", form, page_of(account))

    def _asked(self, request: HttpRequest, account: Account, form: forms.Form) -> Increase | None:
        given, now = form.cleaned_data, timezone.now()
        wanted = Wanted(given["amount"], given["why"], ends_at=given["ends_at"])
        try:
            with changes.acting(by=actor_of(request)):
                return increases.ask(
                    account=account, budget=given["budget_id"], wanted=wanted,
                    by=person_of(request), now=now,
                )  # fmt: skip
        except InvalidInput as refused:
            _add_refusal(form, refused)
            return None

    # --- Deciding ---------------------------------------------------------------------------

    @action(description="Approve", icon="check", permissions=("decide",))
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show amount and end as they were asked for, and approve what comes back."""
        return self._decide(request, object_id, "Approve")

    @action(description="Deny", icon="block", permissions=("decide",))
    def deny(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for a note, and refuse the increase."""
        return self._decide(request, object_id, "Deny")

    @action(description="Shorten", icon="content_cut", permissions=("shorten",))
    def shorten(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for an earlier end."""
        return self._decide(request, object_id, "Shorten")

    @action(description="Cancel", icon="cancel", permissions=("end",))
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take the increase back, from the next request on."""
        return self._decide(request, object_id, "Cancel")

    def _decide(self, request: HttpRequest, object_id: str, verb: str) -> HttpResponse:
        row = self._row(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            raise Http404
        make, decide = DECISIONS[verb]
        initial = {"amount": row.amount, "ends_at": row.ends_at.replace(microsecond=0)}
        form = make(request.POST if request.method == "POST" else None, initial=initial)
        if form.is_valid() and self._is_decided(request, row, form, decide):
            return HttpResponseRedirect(page_of(row))
        more = {"original": row, **shown(row, now=timezone.now())}
        return self._form_page(request, f"{verb}: {row}", form, page_of(row), verb=verb, **more)

    def _is_decided(
        self, request: HttpRequest, row: Increase, form: forms.Form, decide: Decide
    ) -> bool:
        try:
            with changes.acting(by=actor_of(request)):
                decided = decide(row, person_of(request), form, timezone.now())
        except InvalidInput as refused:
            _add_refusal(form, refused)
            return False
        self.message_user(request, f"{decided}: {_standing(decided)}.")
        return True

    def _form_page(
        self, request: HttpRequest, title: str, form: forms.Form, back: str, **more: Any
    ) -> HttpResponse:
        context = {"title": title, "opts": self.opts, "form": form, "page": back, **more}
        shared = self.admin_site.each_context(request)
        return TemplateResponse(request, "budgets/increase_form.html", shared | context)

    # --- Columns ----------------------------------------------------------------------------

    @column(description="Account", ordering="account__label")
    def account_told(self, obj: Increase) -> SafeString:
        return two_lines(obj.account.label, obj.account.get_kind_display())

    @column(description="Budget")
    def budget_told(self, obj: Increase) -> str:
        return _budget_words(obj.budget)

    @column(description="Raised by", ordering="amount")
    def more(self, obj: Increase) -> str:
        return f"+{display.amount(obj.amount, obj.account.currency)}"

    @column(description="From")
    def from_told(self, obj: Increase) -> SafeString:
        return bars.when(obj.starts_at, now=timezone.now())

    @column(description="Until", ordering="ends_at")
    def until_told(self, obj: Increase) -> SafeString:
        return bars.when(obj.ends_at, now=timezone.now())

    @column(description="Asked by", ordering="asked_by")
    def asked_told(self, obj: Increase) -> SafeString:
        when = display.relative(obj.asked_at, now=timezone.now())
        return two_lines(obj.asked_by, f"{when}: {obj.why[:80]}")

    @column(description="Decided")
    def decided_told(self, obj: Increase) -> str:
        return _standing(obj) if obj.decided_by or obj.cancelled_by else bars.NOTHING

    @column(description="State", ordering="state")
    def state_told(self, obj: Increase) -> SafeString:
        if obj.state == IncreaseState.APPROVED and obj.ends_at <= timezone.now():
            return state("fine", "history", "Ended")
        kind, icon = STATES[IncreaseState(obj.state)]
        seconded = obj.state == IncreaseState.PENDING and obj.decided_by
        return state(kind, icon, "Needs a second" if seconded else obj.get_state_display())


def limited_budgets(account: Account) -> QuerySet[Budget]:
    """Return the budgets of an account whose limits can be raised."""
    found = figures.of_account(account, now=timezone.now()).budgets
    ids = [each.budget.pk for each in found if each.limit is not None]
    return Budget.objects.filter(pk__in=ids).select_related("organization").order_by("pk")


def shown(row: Increase, *, now: datetime) -> dict[str, Any]:
    """Return what helps to decide: the budget now, who stands above, what else was asked for."""
    found = figures.of_account(row.account, now=now)
    figure = next((each for each in found.budgets if each.budget.pk == row.budget_id), None)
    asked = Increase.objects.filter(asked_by=row.asked_by).exclude(pk=row.pk)
    return {
        "increase": row,
        "standing": _standing(row),
        "bar": bars.bar(figure) if figure else None,
        "after": _after(row, figure),
        "above": [_above(each) for each in ancestors.room_above(row.account, row.amount, at=now)],
        "earlier": [
            (each, _standing(each)) for each in asked.select_related("account")[:HISTORY_MAX]
        ],
    }


def _above(room: Room) -> dict[str, Any]:
    standing = room.standing
    assert standing.limit is not None, "what has no limit is not told"
    assert standing.remaining is not None, "as above"
    return {
        "account": room.account,
        "limit": display.limit_terms(standing.limit, standing.currency, standing.budget.duration),
        "left": display.amount(standing.remaining, standing.currency, rounding=ROUND_FLOOR),
        "would_exceed": room.would_exceed,
    }


def _after(row: Increase, figure: Figure | None) -> str:
    """Return what the limit would be with the increase, where it does not count yet."""
    if figure is None or figure.limit is None or row.state != IncreaseState.PENDING:
        return ""
    return display.limit_terms(figure.limit + row.amount, figure.currency, row.budget.duration)


def _standing(row: Increase) -> str:
    if row.state == IncreaseState.PENDING:
        if row.decided_by:
            return f"approved by {row.decided_by}, waits for a second approver"
        return "pending"
    return increases.decided(row)


def _add_refusal(form: forms.Form, refused: InvalidInput) -> None:
    field = refused.field if refused.field in form.fields else None
    form.add_error(field, f"Not done: it {refused.problem}.")
