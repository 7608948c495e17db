"""What the tests of the admin share: who looks, at what, and how a form is sent."""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from budgets import money, totals
from budgets.models import ApiKey, Change, Organization, User
from budgets.services import tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Issued, Owner, issue_key
from budgets.snapshots import version_of
from budgets.storekeeper import Entry
from spend import events, ledger, recorder
from spend.components import Component
from spend.events import Described, Outcome
from spend.pricing import Line

QUERIES_MAX = 16
_DESCRIBED = Described(
    organization_id=0, currency="", key_digest="", team="", user="", end_user="", tags=(),
    route="/v1/chat/completions", model="model", provider="provider", upstream_model="upstream",
    deployment="deployment", price_reference="", cost_currency="", streamed=False,
    reserved_units=10**9,
)  # fmt: skip
HOSTILE = ("<script>alert(1)</script>\u202e{{ 7*7 }}" + "x" * 300)[:255]
"""A name that wants to be code, runs from right to left, and is as long as a name may be."""


def login(user: User) -> Client:
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(user)
    return client


def superuser() -> User:
    return _user(is_staff=True, is_superuser=True)


def staff(*permissions: str) -> User:
    """Return somebody who may log in and do no more than these ``app.codename`` permissions."""
    user = _user(is_staff=True)
    for each in permissions:
        label, codename = each.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=label, codename=codename)
        )
    return user


def _user(**fields: Any) -> User:
    name = f"admin-{uuid.uuid4().hex}"
    return User.objects.create(username=name, public_id=name, **fields)


@dataclass(frozen=True)
class Pages:
    """The addresses of a model's pages in the admin."""

    model: Any

    def url(self, page: str, *arguments: Any) -> str:
        options = self.model._meta
        return reverse(f"admin:{options.app_label}_{options.model_name}_{page}", args=arguments)

    def all_of(self, obj: Any) -> list[str]:
        """Return the list and the pages of one object, and the form for a new one if there is."""
        pages = [self.url("changelist"), self.url("change", obj.pk), self.url("history", obj.pk)]
        return [*pages, self.url("add")] if self.can_add() else pages

    def can_add(self) -> bool:
        request: Any = type("Request", (), {"user": superuser()})
        return bool(admin.site._registry[self.model].has_add_permission(request))


def text_of(answer: Any) -> str:
    assert isinstance(answer, HttpResponse)
    return answer.content.decode()


def form_of(client: Client, url: str) -> dict[str, str]:
    """Return what a browser would send if the form at this address was saved unchanged."""
    answer: Any = client.get(url)
    assert answer.status_code == 200
    sent: dict[str, str] = {}
    forms = [answer.context["adminform"].form]
    for formset in (each.formset for each in answer.context["inline_admin_formsets"]):
        forms += [formset.management_form, *formset.forms]
    for form in forms:
        for bound in form:
            _add(sent, bound)
    return sent


def _add(sent: dict[str, Any], bound: Any) -> None:
    value, name = bound.value(), bound.html_name
    widget = getattr(bound.field.widget, "widget", bound.field.widget)
    if hasattr(widget, "decompress") and hasattr(widget, "widgets_names"):
        for suffix, part in zip(widget.widgets_names, widget.decompress(value), strict=True):
            sent[name + suffix] = "" if part is None else str(part)
    elif isinstance(value, bool):
        if value:
            sent[name] = "on"
    elif value is not None:
        formatted = widget.format_value(value)
        is_one = isinstance(formatted, list) and not widget.allow_multiple_selected
        sent[name] = "".join(map(str, formatted)) if is_one else formatted
        if formatted is None:
            sent[name] = ""


def save(client: Client, url: str, **changed: Any) -> Any:
    """Send the form at this address with some fields changed."""
    return client.post(url, {**form_of(client, url), **changed})


def errors_of(answer: Any) -> dict[str, list[str]]:
    """Return what the form that came back says, by field."""
    assert answer.status_code == 200, answer
    return {name: list(told) for name, told in answer.context["adminform"].form.errors.items()}


@contextmanager
def raises_version(scope: int) -> Iterator[None]:
    """Fail unless what happens within makes gateways read their configuration anew."""
    before = version_of(scope)
    yield
    assert version_of(scope) > before


@contextmanager
def few_queries(most: int = QUERIES_MAX) -> Iterator[None]:
    with CaptureQueriesContext(connection) as captured:
        yield
    assert len(captured) <= most, "\n".join(query["sql"][:200] for query in captured)


def queries_of(ask: Callable[[], object]) -> int:
    """Return how often something asks the database."""
    with CaptureQueriesContext(connection) as captured:
        ask()
    return len(captured)


def newest_change(table: str) -> Change:
    return Change.objects.filter(table_name=table).order_by("-id")[0]


def organization_named(name: str, **values: Any) -> Organization:
    values = {"public_id": f"org-{uuid.uuid4().hex}", "name": name, **values}
    return tenancy.create_organization(values=values, terms=Terms(), now=datetime.now(UTC))


def key_of(organization: Organization, limit: str | None = None, **values: Any) -> Issued:
    terms = Terms() if limit is None else Terms(max_budget=Decimal(limit), duration="1mo")
    return issue_key(owner=Owner(organization), values=values, terms=terms, now=datetime.now(UTC))


def spend_on(key: ApiKey, cost: str = "0.04471125", **fields: Any) -> uuid.UUID:
    """Put one request of a key into the ledger, as the recorder does; return its id."""
    organization, now, id = key.organization, datetime.now(UTC), uuid.uuid4()
    lines = (Line(Component.INPUT, 3, Decimal(cost) / 3, Decimal(cost)),)
    described = replace(
        _DESCRIBED,
        organization_id=organization.pk,
        currency=organization.currency,
        key_digest=key.digest,
        **{"cost_currency": organization.currency, **fields},
    )
    outcome = Outcome(200, Decimal(cost), {Component.INPUT: 3}, lines, (events.ESTIMATED,), now)
    entry = Entry(
        position="0-0",
        id=str(id),
        amount=money.to_units(Decimal(cost), currency=organization.currency),
        admitted_at=now - timedelta(seconds=1),
        path=(key.account_id, organization.account_id),
        kind="usage",
        payload=events.encode(described, outcome),
    )
    ledger.make_partitions({entry.admitted_at.date()})
    with transaction.atomic():
        partition = totals.lock_partition()
        recorder.apply([entry], now=now, revision=partition.revision)
    return id


def links_out(html: str) -> list[str]:
    """Return every address in a page that a browser would fetch from elsewhere."""
    found = re.findall(r"""(?:src|href|action)=["']?(https?://[^"'\s>]+|//[^"'\s>]+)""", html)
    return [url for url in found if not url.startswith("http://127.0.0.1")]
