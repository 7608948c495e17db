"""
Budgets of models, providers and deployments: their accounts are made when somebody sets the first.

They belong to no organization and count in the platform's currency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseRedirect,
)
from django.utils import timezone
from django.utils.safestring import SafeString

from budgets import changes
from budgets.admin import bars, figures
from budgets.admin.base import acting_for
from budgets.admin.lists import page_of
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import PLATFORM, PLATFORM_KINDS, Account, AccountKind, derived_account_id
from budgets.services import accounts

OPENED_AT: Final = "budgets_account_platform"


@dataclass(frozen=True, slots=True)
class Thing:
    """A model, provider or deployment: its kind, and the text that its account is derived from."""

    kind: AccountKind
    text: str
    label: str

    @property
    def account_id(self) -> UUID:
        return derived_account_id(organization_id=PLATFORM, kind=self.kind, text=self.text)


@dataclass(frozen=True, slots=True)
class Row:
    """A thing with what its account has used of its budgets, if it has one."""

    thing: Thing
    kind: str
    page: str | None
    used: SafeString | None


def rows_of(things: Sequence[Thing]) -> list[Row]:
    """Return the things with their figures: a few queries, however many they are."""
    kept = Account.objects.select_related("organization").in_bulk(
        [thing.account_id for thing in things]
    )
    found = figures.of_accounts(list(kept.values()), now=timezone.now())
    return [_row(thing, kept.get(thing.account_id), found) for thing in things]


def section(things: Sequence[Thing]) -> dict[str, Any]:
    """Return what ``budgets/platform_section.html`` shows on a page."""
    return {"platform_rows": rows_of(things), "platform_currency": settings.PLATFORM_CURRENCY}


def _row(thing: Thing, account: Account | None, found: dict[UUID, figures.AccountFigures]) -> Row:
    kind = str(thing.kind.label)
    if account is None:
        return Row(thing, kind, page=None, used=None)
    return Row(thing, kind, page=page_of(account), used=bars.bars(found[account.id]))


class ThingForm(forms.Form):
    kind = forms.ChoiceField(choices=[(kind.value, kind.label) for kind in PLATFORM_KINDS])
    text = forms.CharField(max_length=NAME_LENGTH_MAX, strip=False)
    label = forms.CharField(max_length=NAME_LENGTH_MAX, required=False)


def open_view(request: HttpRequest) -> HttpResponse:
    """Make the account of a model, provider or deployment if there is none, and go to its page."""
    if not request.user.has_perm("budgets.change_account"):
        raise PermissionDenied
    form = ThingForm(request.POST)
    if request.method != "POST" or not form.is_valid():
        return HttpResponseBadRequest("It takes a POST with a kind and a name.")
    said = form.cleaned_data
    with acting_for(request), changes.change(scope=PLATFORM):
        account = accounts.platform_account(
            kind=AccountKind(said["kind"]), text=said["text"], label=said["label"]
        )
    return HttpResponseRedirect(page_of(account))
