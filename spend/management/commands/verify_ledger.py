from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from spend import verification


class Command(BaseCommand):
    help = (
        "Recompute from the ledger, to the last unit, every live counter, period total and "
        "roll-up. Exits with 1 and the first difference if there is one."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = verification.verify_and_keep(now=timezone.now())
        except verification.NeverQuiet as error:
            raise CommandError(
                "the recorder did not come to rest within ten seconds; is one running?"
            ) from error
        self.stdout.write(
            f"{report.ledger_rows} ledger rows ({report.orphans} orphaned), "
            f"{report.counters} counters, {report.totals} period totals, "
            f"{report.rollup_rows} roll-up rows"
        )
        if report.differences:
            first, count = report.differences[0], len(report.differences)
            raise CommandError(f"drift in {count} places; the first: {first}")
        self.stdout.write(self.style.SUCCESS("drift 0"))
