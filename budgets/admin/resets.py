"""The page that resets what an account has spent: it says what will happen, and asks why."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from budgets import display, money
from budgets.admin.base import acting_for
from budgets.admin.theme import TextInput
from budgets.errors import InvalidInput, NotRecorded
from budgets.models import Account, PeriodTotal
from budgets.periods import FOREVER
from budgets.services import resets
from budgets.services.resets import REASON_LENGTH_MAX, Wanted, reset_account

BEHIND = "What was charged last is not recorded yet. Try again in a moment."


class ResetForm(forms.Form):
    reset_to = forms.DecimalField(
        label="Count from", initial=0, min_value=0, max_value=money.LIMIT_MAX,
        decimal_places=money.LIMIT_DECIMALS, widget=TextInput(),
        help_text="0 gives the whole limit back.",
    )  # fmt: skip
    reason = forms.CharField(
        label="Why", max_length=REASON_LENGTH_MAX, widget=TextInput(),
        help_text="Kept in the history, for good.",
    )  # fmt: skip
    token = forms.CharField(max_length=36, widget=forms.HiddenInput())
    """Sent twice, it resets once."""


def reset_page(admin: Any, request: HttpRequest, account_id: UUID) -> HttpResponse:
    """Tell what a reset would do; sent with a reason, do it and go back to the account's page."""
    if not request.user.has_perm("budgets.change_account"):
        raise PermissionDenied
    account = get_object_or_404(Account.objects.select_related("organization"), pk=account_id)
    back, now = reverse("admin:budgets_account_change", args=[account.pk]), timezone.now()
    form = ResetForm(request.POST or None, initial={"token": str(uuid.uuid4())})
    if form.is_valid() and _is_done(request, account, form, now):
        messages.success(request, f"{account}: reset. The next request counts from there.")
        return HttpResponseRedirect(back)
    context = {
        **admin.admin_site.each_context(request),
        "title": f"Reset what was spent: {account}",
        "opts": admin.opts,
        "page": back,
        "form": form,
        "fields": [form["reset_to"], form["reason"]],
        "periods": _in_words(resets.running(account, at=now), account.currency),
        "currency": account.currency,
    }
    return TemplateResponse(request, "budgets/reset.html", context)


def _is_done(request: HttpRequest, account: Account, form: ResetForm, now: datetime) -> bool:
    given = form.cleaned_data
    wanted = Wanted(given["reset_to"], given["reason"], idempotency_key=given["token"])
    try:
        with acting_for(request):
            reset_account(account=account, wanted=wanted, now=now)
    except InvalidInput as refused:
        field = refused.field if refused.field in form.fields else None
        form.add_error(field, f"{refused.problem[:1].upper()}{refused.problem[1:]}.")
        return False
    except NotRecorded:
        form.add_error(None, BEHIND)
        return False
    return True


def _in_words(rows: Iterable[PeriodTotal], currency: str) -> list[str]:
    return [_period_in_words(row, currency) for row in rows]


def _period_in_words(row: PeriodTotal, currency: str) -> str:
    spent = display.amount(money.to_decimal(row.amount_units, currency=currency), currency)
    if row.period_end == FOREVER.end:
        return f"{spent} in its whole life"
    return f"{spent} from {display.moment(row.period_start)} to {display.moment(row.period_end)}"
