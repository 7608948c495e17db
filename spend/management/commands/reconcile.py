import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from budgets.errors import InvalidInput
from spend.invoices.files import FILE_BYTES_MAX
from spend.invoices.formats import FORMATS
from spend.models import InvoiceState
from spend.reconciling import invoice_text, invoicing, reconciliation
from spend.reconciling.reconciliation import Comparison

ACTOR: Final = "command"
DRIFTING, NOT_DONE = 1, 2


class Command(BaseCommand):
    help = (
        "Compare a provider's invoice with the ledger, by day and model, and keep it. Exits with "
        "0, with 1 if it drifts beyond INVOICE_DRIFT_PERCENT_MAX, or with 2 and the lines that do "
        "not fit, and then nothing is kept. A file that was imported before is only compared."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="The provider's file.")
        parser.add_argument("--provider", required=True, help="Such as openai.")
        parser.add_argument("--format", required=True, choices=list(FORMATS))
        parser.add_argument("--dry-run", action="store_true", help="Compare, and keep nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = self._compared(**options)
        except InvalidInput as error:
            raise CommandError(
                f"{error.field} {error.problem}; nothing was kept", returncode=NOT_DONE
            ) from error
        for line in invoice_text.table(found):
            self.stdout.write(line)
        if found.state == InvoiceState.DRIFTING:
            sys.exit(DRIFTING)

    def _compared(
        self, *, file: Path, provider: str, format: str, dry_run: bool, **_: Any
    ) -> Comparison:
        content = _content_of(file)
        if dry_run:
            return invoicing.preview(provider=provider, format=format, content=content)
        try:
            imported = invoicing.import_invoice(
                provider=provider, format=format, content=content,
                file_name=file.name, by=ACTOR, now=timezone.now(),
            )  # fmt: skip
        except invoicing.AlreadyImported as before:
            self.stdout.write(f"imported before, as invoice {before.invoice_id}; compared again")
            imported = invoicing.compare_again(invoice_id=before.invoice_id, now=timezone.now())
        else:
            self.stdout.write(f"imported as invoice {imported.public_id}, {imported.lines} lines")
        return reconciliation.compare_import(imported)


def _content_of(file: Path) -> bytes:
    """Return what the file holds, and of one that is too large a byte more than it may."""
    try:
        with file.open("rb") as opened:
            return opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", returncode=NOT_DONE) from error
