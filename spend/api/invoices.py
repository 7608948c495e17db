"""``/api/v1/invoices``: providers' invoices beside the ledger. Money is a text, as all below it."""

from typing import Any, Final

from django.utils import timezone
from rest_framework import serializers

from budgets import queries
from budgets.api.answers import MoneyText
from budgets.api.budgets import headers_of
from budgets.api.endpoints import ACTOR, Answer, Asked, ManagementView, Strict, endpoint
from budgets.api.fields import (
    OPTIONAL,
    Flag,
    OneOf,
    ProviderName,
    PublicId,
    QueryWhole,
    Text,
    TextList,
)
from budgets.api.inputs import Paged
from budgets.queries import PAGE_SIZE_MAX
from spend.invoices.differences import Explained, Side
from spend.invoices.formats import FORMATS
from spend.models import InvoiceImport, ProviderKey
from spend.reconciling import invoicing, reconciliation
from spend.reconciling.reconciliation import Comparison

CONTENT_CHARACTERS_MAX: Final = 1_500_000
"""What fits into a body; larger files come by the admin or the command."""


class ImportInvoice(Strict):
    provider = ProviderName()
    format = OneOf(tuple(FORMATS))
    content = Text(max_length=CONTENT_CHARACTERS_MAX, help_text="The whole file, as text.")
    file_name = Text(**OPTIONAL)
    dry_run = Flag(default=False, help_text="Compare, and keep nothing.")


class ListInvoices(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    provider = ProviderName(**OPTIONAL)


class OneInvoice(Paged):
    """Pages are of the places that are compared."""

    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    invoice_id = PublicId()


class CompareInvoice(Strict):
    invoice_id = PublicId()


class MapProviderKey(Strict):
    provider = ProviderName()
    external_id = Text()
    deployments = TextList(default=list)
    key_digests = TextList(child=Text(max_length=64), default=list)


class OneProviderKey(Strict):
    provider = ProviderName()
    external_id = Text()


class Invoice(serializers.ModelSerializer):
    """An import, with the sums of the last comparison; of tokens where ``currency`` is empty."""

    invoice_id = serializers.CharField(source="public_id")
    theirs = MoneyText()
    ours = MoneyText()
    drift = MoneyText()
    drift_percent = MoneyText(allow_null=True)

    class Meta:
        model = InvoiceImport
        fields = (
            "invoice_id", "provider", "format", "file_name", "digest", "currency", "first_day",
            "last_day", "lines", "theirs", "ours", "drift", "drift_percent", "state",
            "compared_at", "imported_at", "imported_by",
        )  # fmt: skip


class Said(serializers.Serializer):
    amount = MoneyText()
    input_tokens = serializers.IntegerField(allow_null=True)
    output_tokens = serializers.IntegerField(allow_null=True)
    requests = serializers.IntegerField(allow_null=True)


class CausePart(serializers.Serializer):
    cause = serializers.CharField()
    amount = MoneyText()


class ComparedPlace(serializers.Serializer):
    """A day of a model and, where it is mapped, of a provider's key; null: nothing is there."""

    day = serializers.DateField()
    model = serializers.CharField()
    key = serializers.CharField()
    theirs = Said(allow_null=True)
    ours = Said(allow_null=True)
    difference = MoneyText()
    causes = CausePart(many=True)


class Compared(serializers.Serializer):
    """An invoice beside the ledger as it is now; without an id where nothing was kept."""

    invoice_id = serializers.CharField(allow_null=True)
    provider = serializers.CharField()
    currency = serializers.CharField()
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    theirs = MoneyText()
    ours = MoneyText()
    difference = MoneyText()
    drift = MoneyText()
    drift_percent = MoneyText(allow_null=True)
    state = serializers.CharField()
    causes = CausePart(many=True)
    other_currencies = serializers.ListField(child=serializers.CharField())
    unmapped_keys = serializers.ListField(child=serializers.CharField())
    unlisted_requests = serializers.IntegerField()
    places = ComparedPlace(many=True)


class MappedKey(serializers.ModelSerializer):
    class Meta:
        model = ProviderKey
        fields = ("provider", "external_id", "deployments", "key_digests")


class Invoices(ManagementView):
    @endpoint(takes=ListInvoices, answers=Invoice, many=True)
    def get(self, asked: Asked) -> Answer:
        """List imported invoices, the newest first."""
        rows = InvoiceImport.objects.order_by("-imported_at", "-pk")
        if asked.get("provider"):
            rows = rows.filter(provider=asked["provider"])
        page = queries.page_of(rows, number=asked["page"], size=asked["size"])
        return Answer(page.rows, headers_of(page))

    @endpoint(takes=ImportInvoice, answers=Compared, operation_id="invoice_import")
    def post(self, asked: Asked) -> dict[str, Any]:
        """Import a provider's invoice, whole or not at all, and compare it with the ledger."""
        given = {
            "provider": asked["provider"],
            "format": asked["format"],
            "content": asked["content"].encode(),
        }
        if asked["dry_run"]:
            return compared(invoicing.preview(**given), size=PAGE_SIZE_MAX)
        imported = invoicing.import_invoice(
            **given, file_name=asked.get("file_name") or "", by=ACTOR, now=timezone.now()
        )
        found = reconciliation.compare_import(imported)
        return compared(found, invoice_id=imported.public_id, size=PAGE_SIZE_MAX)


class InvoiceInfo(ManagementView):
    @endpoint(takes=OneInvoice, answers=Compared)
    def get(self, asked: Asked) -> Answer:
        """Compare an imported invoice with the ledger as it is now."""
        imported = invoicing.find_import(asked["invoice_id"])
        found = reconciliation.compare_import(imported)
        told = compared(
            found, invoice_id=imported.public_id, number=asked["page"], size=asked["size"]
        )
        pages = -(-len(found.rows) // asked["size"])
        headers = {"x-total-count": str(len(found.rows)), "x-total-pages": str(pages)}
        return Answer(told, headers)


class InvoiceCompare(ManagementView):
    @endpoint(takes=CompareInvoice, answers=Invoice)
    def post(self, asked: Asked) -> InvoiceImport:
        """Compare an invoice again, and keep what comes out as its state."""
        return invoicing.compare_again(invoice_id=asked["invoice_id"], now=timezone.now())


class ProviderKeys(ManagementView):
    @endpoint(takes=ListInvoices, answers=MappedKey, many=True)
    def get(self, asked: Asked) -> Answer:
        """List which keys of providers are compared by themselves."""
        rows = ProviderKey.objects.order_by("provider", "external_id")
        if asked.get("provider"):
            rows = rows.filter(provider=asked["provider"])
        page = queries.page_of(rows, number=asked["page"], size=asked["size"])
        return Answer(page.rows, headers_of(page))

    @endpoint(takes=MapProviderKey, answers=MappedKey, operation_id="provider_key_map")
    def post(self, asked: Asked) -> ProviderKey:
        """Say which of our requests a provider counts under one of its keys."""
        return invoicing.map_provider_key(**asked)


class ProviderKeyDelete(ManagementView):
    @endpoint(takes=OneProviderKey, answers=MappedKey)
    def post(self, asked: Asked) -> ProviderKey:
        """Compare a provider's key no longer by itself."""
        return invoicing.forget_provider_key(**asked)


def compared(
    found: Comparison, *, invoice_id: str | None = None, number: int = 1, size: int
) -> dict[str, Any]:
    """Return a comparison as it is answered, with one page of its places."""
    start = (number - 1) * size
    return {
        "invoice_id": invoice_id,
        "provider": found.provider,
        "currency": found.currency,
        "first_day": found.first_day,
        "last_day": found.last_day,
        "theirs": found.theirs,
        "ours": found.ours,
        "difference": found.difference,
        "drift": found.drift,
        "drift_percent": found.drift_percent,
        "state": found.state.value,
        "causes": [{"cause": c.value, "amount": sum_} for c, sum_ in found.by_cause.items()],
        "other_currencies": found.other_currencies,
        "unmapped_keys": found.unmapped_keys,
        "unlisted_requests": found.unlisted,
        "places": [_place(row) for row in found.rows[start : start + size]],
    }


def _place(row: Explained) -> dict[str, Any]:
    place = row.cell.place
    return {
        "day": place.day,
        "model": place.model,
        "key": place.key,
        "theirs": _side(row.cell.theirs),
        "ours": _side(row.cell.ours),
        "difference": row.cell.difference,
        "causes": [{"cause": part.cause.value, "amount": part.amount} for part in row.parts],
    }


def _side(side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    input_tokens, output_tokens = side.tokens or (None, None)
    return {
        "amount": side.amount,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "requests": side.requests,
    }
