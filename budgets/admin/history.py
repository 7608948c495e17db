"""What the history trigger has kept, told as field: old → new."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.apps import apps
from django.db.models import Model, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.urls import NoReverseMatch, reverse

from budgets import money
from budgets.models import Account, AccountBudget, Budget, Change

VALUE_LENGTH_MAX: Final = 500
EMPTY: Final[tuple[object, ...]] = (None, "", [], {}, False)
UNTOLD: Final = ("id", "created_at", "updated_at")
WORDS: Final = {"insert": "created", "update": "changed", "delete": "deleted"}


@dataclass(frozen=True, slots=True)
class FieldChange:
    name: str
    old: str
    new: str


def rows_of(obj: Model) -> Q:
    return Q(table_name=obj._meta.db_table, object_id=str(obj.pk))


def rows_of_budgets(account: Account) -> Q:
    """Return the rows of an account's budgets, and of which were put on it and taken off."""
    links = Q(table_name=AccountBudget._meta.db_table)
    of_account = Q(after__account_id=str(account.pk)) | Q(before__account_id=str(account.pk))
    held = [str(pk) for pk in Budget.objects.filter(accounts=account).values_list("pk", flat=True)]
    return (links & of_account) | Q(table_name=Budget._meta.db_table, object_id__in=held)


def read(rows: Q) -> QuerySet[Change]:
    return with_exact_numbers(Change.objects.filter(rows).order_by("-at", "-id"))


def with_exact_numbers(changes: QuerySet[Change]) -> QuerySet[Change]:
    """Have both sides of each change as text too: read as usual, amounts would become floats."""
    return changes.annotate(
        before_text=Cast("before", TextField()), after_text=Cast("after", TextField())
    )


@dataclass(frozen=True, slots=True)
class Told:
    """A change as people read it."""

    change: Change
    verb: str
    name: str
    link: str | None
    fields: list[FieldChange]


def told(change: Change) -> Told:
    """Return a change in words; a budget is put on an account, and taken off it."""
    if change.table_name == AccountBudget._meta.db_table:
        return _told_of_link(change)
    return Told(
        change=change,
        verb=WORDS.get(change.action, change.action),
        name=object_name(change),
        link=object_link(change),
        fields=field_changes(change),
    )


def _told_of_link(change: Change) -> Told:
    row: Any = _row(change)
    account = Account.objects.filter(pk=row["account_id"]).first()
    budget = Budget.objects.filter(pk=row["budget_id"]).first()
    name = f"budget #{row['budget_id']}"
    if budget is not None:
        name = "own limit" if budget.private_to_id else f"budget {budget}"
    words = "put on" if change.action == "insert" else "taken off"
    return Told(
        change=change,
        verb=f"{words} {account or 'an account'}",
        name=name,
        link=None if budget is None else reverse("admin:budgets_budget_change", args=[budget.pk]),
        fields=[],
    )


def field_changes(change: Change) -> list[FieldChange]:
    """Return each field that a change altered; of a new or deleted row, each that is not empty."""
    before, after = _exactly(change, "before_text"), _exactly(change, "after_text")
    return [
        FieldChange(name, _text(before.get(name)), _text(after.get(name)))
        for name in dict.fromkeys([*before, *after])
        if name not in UNTOLD and _is_told(change.action, before.get(name), after.get(name))
    ]


def object_name(change: Change) -> str:
    """Return what the row was called, with the kind of thing it is."""
    model = _models().get(change.table_name)
    kind = str(model._meta.verbose_name) if model else change.table_name
    row = _row(change)
    if row.get("private_to_id"):
        return "own limit"
    name = row.get("name") or row.get("alias") or row.get("model_name") or row.get("public_id")
    return f"{kind} {name or change.object_id}"


def object_link(change: Change) -> str | None:
    """Return the page of the row, if it is still there to be looked at."""
    model = _models().get(change.table_name)
    if model is None or change.action == "delete":
        return None
    try:
        return reverse(
            f"admin:{model._meta.app_label}_{model._meta.model_name}_change",
            args=[change.object_id],
        )
    except NoReverseMatch:
        return None


def _row(change: Change) -> Mapping[str, Any]:
    return change.after or change.before or {}


def _exactly(change: Any, side: str) -> dict[str, Any]:
    text = getattr(change, side)
    return json.loads(text, parse_float=Decimal) if text else {}


def _is_told(action: str, old: object, new: object) -> bool:
    if action == "update":
        return old != new
    return (new if action == "insert" else old) not in EMPTY


def _text(value: object) -> str:
    text = "–" if value is None or value == "" else str(value)
    if isinstance(value, Decimal):
        text = money.plain(value)
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[:VALUE_LENGTH_MAX]}…"


def _models() -> dict[str, type[Model]]:
    return {model._meta.db_table: model for model in apps.get_models()}
