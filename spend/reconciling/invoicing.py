"""Imports of providers' invoices, and which of their keys are ours."""

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any, Final

from django.db import transaction

from budgets import changes
from budgets.errors import Conflict, InvalidInput, NotFound
from budgets.models import PLATFORM
from spend.invoices import formats
from spend.invoices.lines import Invoice, Line
from spend.models import InvoiceImport, InvoiceLine, InvoiceState, Provider, ProviderKey
from spend.reconciling import reconciliation
from spend.reconciling.reconciliation import Comparison
from spend.signals import invoice_drifted

log = logging.getLogger(__name__)

LINES_AT_ONCE: Final = 2_000
MAPPED_TO_MAX: Final = 1_000
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class AlreadyImported(Conflict):
    """The provider's file is here already; ``invoice_id`` is its import."""

    def __init__(self, invoice_id: str) -> None:
        super().__init__("content", f"was imported before, as invoice {invoice_id}")
        self.invoice_id = invoice_id


def preview(*, provider: str, format: str, content: bytes) -> Comparison:
    """
    Return what an import would find, and write nothing.

    :raises BadInvoice: naming every line that does not fit
    :raises InvalidInput: if nobody knows the format or the provider
    """
    return _read(provider, format, content)[1]


def import_invoice(
    *, provider: str, format: str, content: bytes, file_name: str, by: str, now: datetime
) -> InvoiceImport:
    """
    Keep an invoice with all its lines, or nothing of it, and compare it with the ledger.

    :raises AlreadyImported: if this provider's file was imported before
    :raises BadInvoice: naming every line that does not fit
    :raises InvalidInput: if nobody knows the format or the provider
    """
    refuse_again(provider=provider, content=content)
    invoice, comparison = _read(provider, format, content)
    imported = InvoiceImport(
        provider=provider,
        format=format,
        file_name=file_name[:255],
        digest=_digest(content),
        currency=invoice.currency,
        first_day=invoice.first_day,
        last_day=invoice.last_day,
        lines=len(invoice.lines),
        imported_at=now,
        imported_by=by,
        **_figures(comparison, now),
    )
    try:
        with changes.unique("content"):
            _keep(imported, invoice.lines)
    except Conflict:
        refuse_again(provider=provider, content=content)
        raise
    return imported


def find_import(invoice_id: str, *, lock: bool = False) -> InvoiceImport:
    """
    :raises NotFound: if there is none
    """
    rows = InvoiceImport.objects.filter(public_id=invoice_id)
    imported = (rows.select_for_update(no_key=True) if lock else rows).first()
    if imported is None:
        raise NotFound("invoice_id", invoice_id)
    return imported


def compare_again(*, invoice_id: str, now: datetime) -> InvoiceImport:
    """
    Compare an invoice with the ledger as it is now, and keep what came out.

    :raises NotFound: if there is none
    """
    with transaction.atomic():
        imported = find_import(invoice_id, lock=True)
        before = imported.state
        figures = _figures(reconciliation.compare_import(imported), now)
        for name, value in figures.items():
            setattr(imported, name, value)
        imported.save(update_fields=list(figures))
        if before != InvoiceState.DRIFTING:
            _announce_if_drifting(imported)
    return imported


def map_provider_key(
    *, provider: str, external_id: str, deployments: Sequence[str], key_digests: Sequence[str]
) -> ProviderKey:
    """
    Say which requests a provider counts under one of its keys, in place of what was said before.

    :raises InvalidInput: if none are named, too many, or a secret for a token
    """
    if not deployments and not key_digests:
        raise InvalidInput("deployments", "is needed, or key_digests")
    if not all(map(_DIGEST.fullmatch, key_digests)):
        raise InvalidInput("key_digests", "must be tokens of keys: 64 hexadecimal digits")
    if max(len(deployments), len(key_digests)) > MAPPED_TO_MAX:
        raise InvalidInput("deployments", f"must not name more than {MAPPED_TO_MAX}")
    named = {"deployments": list(deployments), "key_digests": list(key_digests)}
    with changes.change(scope=PLATFORM):
        mapped, _ = ProviderKey.objects.update_or_create(
            provider=provider, external_id=external_id, defaults=named
        )
    return mapped


def forget_provider_key(*, provider: str, external_id: str) -> ProviderKey:
    """
    Compare a provider's key no longer by itself; return what was said of it.

    :raises NotFound: if nothing was
    """
    with changes.change(scope=PLATFORM):
        mapped = ProviderKey.objects.filter(provider=provider, external_id=external_id).first()
        if mapped is None:
            raise NotFound("external_id", external_id)
        ProviderKey.objects.filter(pk=mapped.pk).delete()
    return mapped


def _read(provider: str, format: str, content: bytes) -> tuple[Invoice, Comparison]:
    invoice = formats.parse(content, format=format, provider=provider)
    is_known = Provider.objects.filter(slug=provider).exists()
    if not is_known and not reconciliation.has_spend(
        provider=provider, first_day=invoice.first_day, last_day=invoice.last_day
    ):
        raise InvalidInput("provider", "is neither in the price book nor in the ledger")
    return invoice, reconciliation.compare(provider=provider, invoice=invoice)


def refuse_again(*, provider: str, content: bytes) -> None:
    """
    :raises AlreadyImported: if this provider's file was imported before
    """
    digest = _digest(content)
    before = InvoiceImport.objects.filter(provider=provider, digest=digest).first()
    if before is not None:
        raise AlreadyImported(before.public_id)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _keep(imported: InvoiceImport, lines: Sequence[Line]) -> None:
    imported.save(force_insert=True)
    InvoiceLine.objects.bulk_create(
        [
            InvoiceLine(invoice=imported, **{name: getattr(line, name) for name in Line.__slots__})
            for line in lines
        ],
        batch_size=LINES_AT_ONCE,
    )
    _announce_if_drifting(imported)


def _figures(comparison: Comparison, now: datetime) -> dict[str, Any]:
    return {
        "theirs": comparison.theirs,
        "ours": comparison.ours,
        "drift": comparison.drift,
        "drift_percent": comparison.drift_percent,
        "state": comparison.state,
        "compared_at": now,
    }


def _announce_if_drifting(imported: InvoiceImport) -> None:
    if imported.state == InvoiceState.DRIFTING:
        transaction.on_commit(partial(_announce, imported))


def _announce(imported: InvoiceImport) -> None:
    percent = imported.drift_percent
    log.warning(
        "invoice_drift",
        extra={
            "invoice_id": imported.public_id,
            "provider": imported.provider,
            "drift_percent": None if percent is None else str(percent),
        },
    )
    invoice_drifted.send(InvoiceImport, invoice_id=imported.public_id)
