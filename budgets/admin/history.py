"""What the history trigger has kept, told as field: old → new."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.apps import apps
from django.db.models import Model, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.urls import NoReverseMatch, reverse

from budgets import money
from budgets.models import Account, AccountBudget, Budget, BudgetTemplate, Change, Reset

VALUE_LENGTH_MAX: Final = 500
MODELS_MAX: Final = 1_000
EMPTY: Final[tuple[object, ...]] = (None, "", [], {}, False)
UNTOLD: Final = ("id", "created_at", "updated_at", "private_to_id", "window_of_id")
WORDS: Final = {"insert": "created", "update": "changed", "delete": "deleted"}


@dataclass(frozen=True, slots=True)
class FieldChange:
    name: str
    old: str
    new: str


def rows_of(obj: Model) -> Q:
    return Q(table_name=obj._meta.db_table, object_id=str(obj.pk))


def rows_of_budgets(account: Account) -> Q:
    """
    Return the rows of an account's budgets and of those of its models, of which were put on it and
    taken off, of its resets, and of what it gives to accounts under it.
    """
    ids = [str(account.pk), *map(str, _limited_models(account))]
    held = (
        Budget.objects.filter(accounts__in=map(UUID, ids)).values_list("pk", flat=True).distinct()
    )
    own = _names_one_of("private_to_id", ids) | _names_one_of("window_of_id", ids)
    return (
        Q(table_name=AccountBudget._meta.db_table) & _names_one_of("account_id", ids)
        | Q(table_name=Reset._meta.db_table) & _names_one_of("account_id", ids[:1])
        | Q(table_name=BudgetTemplate._meta.db_table) & _names_one_of("holder_id", ids[:1])
        | Q(table_name=Budget._meta.db_table) & (Q(object_id__in=list(map(str, held))) | own)
    )


def _names_one_of(field: str, ids: list[str]) -> Q:
    """Return rows that name one of these, before the change or after it."""
    return Q(**{f"after__{field}__in": ids}) | Q(**{f"before__{field}__in": ids})


def _limited_models(account: Account) -> list[UUID]:
    limited = Account.objects.filter(holder=account, budgets__isnull=False).distinct()
    return list(limited.values_list("pk", flat=True)[:MODELS_MAX])


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
    if change.table_name == BudgetTemplate._meta.db_table:
        return _told_of_template(change)
    return Told(
        change=change,
        verb=WORDS.get(change.action, change.action),
        name=_name_with_holder(change),
        link=object_link(change),
        fields=field_changes(change),
    )


def _name_with_holder(change: Change) -> str:
    """Return what the row was called; of the limit of a single model, also which."""
    row, name = _row(change), object_name(change)
    if change.table_name != Budget._meta.db_table or not row.get("private_to_id"):
        return name
    account = Account.objects.filter(pk=row["private_to_id"]).first()
    return f"limit of {account.label}" if account and account.model else name


def _told_of_link(change: Change) -> Told:
    words = "put on" if change.action == "insert" else "taken off"
    account = Account.objects.filter(pk=_row(change)["account_id"]).first()
    whose = account.label if account and account.model else account or "an account"
    return _told_of_budget(change, f"{words} {whose}")


def _told_of_template(change: Change) -> Told:
    row = _row(change)
    words = "given to" if change.action == "insert" else "taken from"
    kind = str(row["applies_to"]).replace("_", " ")
    holder = Account.objects.filter(pk=row["holder_id"]).first()
    return _told_of_budget(change, f"{words} each {kind} of {holder or 'an account'}")


def _told_of_budget(change: Change, verb: str) -> Told:
    id: Any = _row(change)["budget_id"]
    budget = Budget.objects.filter(pk=id).first()
    link = None if budget is None else reverse("admin:budgets_budget_change", args=[budget.pk])
    name = f"budget #{id}" if budget is None else _budget_name(budget)
    return Told(change=change, verb=verb, name=name, link=link, fields=[])


def _budget_name(budget: Budget) -> str:
    if budget.private_to_id:
        return "own limit"
    return "further budget" if budget.window_of_id else f"budget {budget}"


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
    if change.table_name == BudgetTemplate._meta.db_table:
        return f"template for each {str(row['applies_to']).replace('_', ' ')}"
    if row.get("private_to_id"):
        return "own limit"
    if row.get("window_of_id"):
        return "further budget"
    name = row.get("name") or row.get("alias") or row.get("model_name")
    name = name or row.get("external_id") or row.get("public_id")
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
