"""The page of budgets that belong to no organization, and those on a deployment's page."""

from collections.abc import Iterable
from typing import Final

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from budgets.admin import holders
from budgets.admin.platform import Row, Thing, rows_of
from budgets.models import PLATFORM_KINDS, Account, AccountKind
from gateway.models import Deployment
from spend.models import Provider

SHOWN_MAX: Final = 200


def things_of(deployment: Deployment) -> list[Thing]:
    """Return what requests through a deployment count on beside their organization's accounts."""
    return [
        Thing(AccountKind.DEPLOYMENT, deployment.public_id, str(deployment)),
        Thing(AccountKind.PROVIDER, deployment.provider, deployment.provider),
        Thing(AccountKind.MODEL, deployment.model_name, deployment.model_name),
    ]


def page(request: HttpRequest) -> HttpResponse:
    """Show every model, provider and deployment with its budgets."""
    if not request.user.has_perm("budgets.view_account"):
        raise PermissionDenied
    context = {
        **admin.site.each_context(request),
        "title": "Platform budgets",
        "groups": _groups(),
        "platform_currency": settings.PLATFORM_CURRENCY,
    }
    return TemplateResponse(request, "gateway/platform_budgets.html", context)


def _groups() -> list[tuple[str, list[Row], int]]:
    every = [thing for each in Deployment.objects.order_by("id") for thing in things_of(each)]
    found = {kind: _of_kind(every, kind) for kind in PLATFORM_KINDS}
    shown = rows_of([thing for things in found.values() for thing in things[:SHOWN_MAX]])
    return [
        (
            f"{kind.label}s",
            [row for row in shown if row.thing.kind == kind],
            max(0, len(things) - SHOWN_MAX),
        )
        for kind, things in found.items()
    ]


def _of_kind(things: Iterable[Thing], kind: AccountKind) -> list[Thing]:
    once = {thing for thing in things if thing.kind == kind}
    return sorted(once, key=lambda thing: (thing.label, thing.text))


def _deployment_of(account: Account) -> Model | None:
    for id, public_id in Deployment.objects.values_list("pk", "public_id"):
        if Thing(AccountKind.DEPLOYMENT, public_id, "").account_id == account.pk:
            return Deployment.objects.get(pk=id)
    return None


holders.found_by(AccountKind.DEPLOYMENT, _deployment_of)
holders.found_by(
    AccountKind.PROVIDER, lambda account: Provider.objects.filter(slug=account.label).first()
)
