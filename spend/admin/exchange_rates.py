"""Exchange rates: those in force, those that wait for somebody to look, and how fetching goes."""

from collections.abc import Callable
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display as column
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from budgets import money
from budgets.admin import bars
from budgets.admin.base import ServiceAdmin, acting_for
from budgets.admin.forms import ServiceForm
from budgets.admin.lists import page_of, state
from budgets.admin.theme import TextInput, action
from budgets.errors import InvalidInput
from spend.currencies import exchange, ratebook
from spend.currencies.exchange import Offered, Source
from spend.models import ExchangeRate, RateState
from spend.models.currencies import REASON_LENGTH_MAX
from spend.services import exchange_rates

DECIDED: Final = ("state_told", "doubt", "reason", "decided_at")
STATES: Final = {
    RateState.IN_FORCE: ("fine", "check_circle"),
    RateState.QUARANTINED: ("warning", "pause_circle"),
    RateState.REJECTED: ("full", "block"),
}
QUARANTINED_COUNTED_MAX: Final = 99
Decide = Callable[..., ExchangeRate]


def waiting() -> QuerySet[ExchangeRate]:
    """Return the rates that wait for somebody; no more than can be counted beside a link."""
    quarantined = ExchangeRate.objects.filter(state=RateState.QUARANTINED).order_by()
    return quarantined[:QUARANTINED_COUNTED_MAX]


class RateForm(ServiceForm):
    rate = forms.CharField(
        max_length=60,
        widget=TextInput({"inputmode": "decimal"}),
        help_text="How much of the quote currency one unit of the base is worth, in digits.",
    )

    class Meta:
        model = ExchangeRate
        fields = ("base", "quote", "date", "rate")

    def clean_rate(self) -> str:
        text: str = self.cleaned_data["rate"]
        try:
            exchange.rate_of(text)
        except InvalidInput as error:
            raise forms.ValidationError(f"It {error.problem}.") from error
        return text


class DecisionForm(forms.Form):
    reason = forms.CharField(max_length=REASON_LENGTH_MAX, widget=TextInput)


@admin.register(ExchangeRate)
class ExchangeRateAdmin(ServiceAdmin):
    purpose = "What one currency is worth in another from a date on, for prices in another one."
    form = RateForm
    list_display = ("pair", "date", "worth", "state_told", "source", "created_at")
    list_filter = ("state", "source", "base", "quote")
    list_before_template = "spend/rate_strip.html"
    search_fields = ("base__iexact", "quote__iexact")
    search_help_text = "Currency"
    date_hierarchy = "date"
    show_full_result_count = False
    actions = None
    actions_detail = ("approve", "reject")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ((None, {"fields": (("base", "quote"), ("date", "rate"))}),)
        given = (None, {"fields": (("date", "worth"), ("source", "created_at"))})
        return (given, ("What became of it", {"fields": DECIDED}))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("worth", "source", "created_at", *DECIDED) if obj else ()

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        standing = ratebook.standing(now=timezone.now())
        return super().changelist_view(request, {"standing": standing, **(extra_context or {})})

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a rate is never edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_decide_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("spend.change_exchangerate")

    def create(self, request: HttpRequest, form: Any) -> ExchangeRate:
        given, now = form.cleaned_data, timezone.now()
        offered = Offered(given["base"], given["quote"], given["date"].isoformat(), given["rate"])
        rate = exchange.checked(offered, source=Source.MANUAL, today=now.date())
        added = exchange_rates.add_rates(rates=[rate], now=now)
        if added.quarantined:
            told = f"Quarantined: it {added.quarantined[0].doubt}. Approve or reject it."
            self.message_user(request, told, messages.WARNING)
        return added.rows[0]

    # --- Deciding ---------------------------------------------------------------------------

    @action(description="Approve", icon="check", permissions=("decide",))
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why, and then put the rate in force."""
        return self._decide(request, object_id, "Approve", exchange_rates.approve_rate)

    @action(description="Reject", icon="block", permissions=("decide",))
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why, and then let the rate not count."""
        return self._decide(request, object_id, "Reject", exchange_rates.reject_rate)

    def _decide(
        self, request: HttpRequest, object_id: str, verb: str, decide: Decide
    ) -> HttpResponse:
        if not self.has_decide_permission(request):
            raise PermissionDenied
        rate: Any = self.get_object(request, object_id)
        if rate is None:
            raise Http404
        form = DecisionForm(request.POST if request.method == "POST" else None)
        if form.is_valid() and self._is_decided(request, rate, form, decide):
            return HttpResponseRedirect(page_of(rate))
        shared = self.admin_site.each_context(request)
        about = {"title": str(rate), "opts": self.opts, "rate": rate, "verb": verb, "form": form}
        about |= {"page": page_of(rate), "value": money.plain(rate.rate)}
        return TemplateResponse(request, "spend/rate_decide.html", shared | about)

    def _is_decided(
        self, request: HttpRequest, rate: ExchangeRate, form: DecisionForm, decide: Decide
    ) -> bool:
        try:
            with acting_for(request):
                reason = form.cleaned_data["reason"]
                decided = decide(rate_id=rate.pk, reason=reason, now=timezone.now())
        except InvalidInput as refused:
            form.add_error("reason", f"Not done: it {refused.problem}.")
            return False
        self.message_user(request, f"{decided} is {decided.get_state_display().lower()} now.")
        return True

    # --- Columns ----------------------------------------------------------------------------

    @column(description="Pair", ordering="base")
    def pair(self, obj: ExchangeRate) -> str:
        return f"{obj.base} → {obj.quote}"

    @column(description="Rate", ordering="rate")
    def worth(self, obj: ExchangeRate) -> SafeString:
        told = f"1 {obj.base} = {money.plain(obj.rate)} {obj.quote}"
        return format_html('<span class="cp-number">{}</span>', told)

    @column(description="State", ordering="state")
    def state_told(self, obj: ExchangeRate) -> SafeString | str:
        if obj.replaced_at is not None:
            return format_html('<span class="cp-quiet">{}</span>', "Replaced")
        if obj.state not in STATES:
            return bars.NOTHING
        kind, icon = STATES[RateState(obj.state)]
        return state(kind, icon, obj.get_state_display())
