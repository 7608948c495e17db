from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError
from django.utils import timezone

from budgets import changes
from budgets.errors import InvalidInput, NotFound
from spend import proposals_told
from spend.catalogues import export, sources
from spend.catalogues.diff import Difference
from spend.catalogues.listing import InvalidPriceList, Listing
from spend.catalogues.litellm_checks import BYTES_MAX
from spend.models import PriceProposal
from spend.services import price_imports

ACTOR: Final = "command line"
CHANGES_FOUND: Final = 2
LISTED_MAX: Final = 50
READING: Final = {
    "diff": "show what a list would change; writes nothing",
    "propose": "keep what a list would change, for somebody to decide",
}
SOURCES: Final = f"one of {', '.join(sources.NAMES)}"
FILE: Final = "the list; genai-prices is installed and needs none"
FORMATS: Final = ("csv", "litellm")
FORMATS_WORDS: Final = "csv (all prices) or litellm (those in force, as JSON)"
EPILOG: Final = (
    "Exit codes: 0 done; 1 refused, and nothing was written; 2 `diff` has found changes."
)


class Command(BaseCommand):
    help = (
        "Compare price lists with the price book, propose what they would change, and apply or "
        f"reject it. {EPILOG}"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, words in READING.items():
            reading = actions.add_parser(name, help=words, description=words)
            reading.add_argument("source", choices=sources.NAMES, metavar="SOURCE", help=SOURCES)
            reading.add_argument("file", nargs="?", type=Path, metavar="FILE", help=FILE)
        applying = actions.add_parser("apply", help="make a proposal's changes prices")
        applying.add_argument("id", type=int, metavar="ID")
        applying.add_argument(
            "--confirm", nargs="+", default=[], metavar="PROVIDER/MODEL",
            help="models whose jumps are meant",
        )  # fmt: skip
        rejecting = actions.add_parser("reject", help="leave all prices as they are")
        rejecting.add_argument("id", type=int, metavar="ID")
        rejecting.add_argument("note", metavar="NOTE", help="why")
        actions.add_parser("list", help=f"show the last {LISTED_MAX} proposals")
        exporting = actions.add_parser("export", help="write the price book to standard output")
        exporting.add_argument("format", choices=FORMATS, metavar="FORMAT", help=FORMATS_WORDS)

    def handle(self, *, action: str, **options: Any) -> None:
        try:
            with changes.acting(ACTOR, origin=changes.Origin(changes.Source.COMMAND)):
                getattr(self, f"_{action}")(options)
        except InvalidPriceList as error:
            raise CommandError(f"nothing was written: {error}") from error
        except InvalidInput as error:
            raise CommandError(f"nothing was written: {error.field} {error.problem}") from error
        except NotFound as error:
            raise CommandError(f"there is {error}; `prices list` shows them") from error
        except OperationalError as error:
            raise CommandError(
                "the database cannot be reached; start `costplatform up` first, in another terminal"
            ) from error

    def _diff(self, options: dict[str, Any]) -> None:
        listing = _listing(options)
        found = price_imports.difference_of(listing=listing, now=timezone.now())
        self._tell(found)
        if found.applicable:
            raise SystemExit(CHANGES_FOUND)

    def _propose(self, options: dict[str, Any]) -> None:
        made = price_imports.propose(listing=_listing(options), by=ACTOR, now=timezone.now())
        self._tell(made.difference)
        if made.proposal is None:
            self.stdout.write("nothing to propose")
        else:
            words = "proposed as" if made.is_new else "was proposed before, as"
            self.stdout.write(self.style.SUCCESS(f"{words} {made.proposal.pk}"))

    def _apply(self, options: dict[str, Any]) -> None:
        proposal = price_imports.apply(
            proposal_id=options["id"], by=ACTOR, now=timezone.now(), confirmed=options["confirm"]
        )
        for each in proposal.outcome["left_out"]:
            self.stdout.write(f"left out: {each['model']} {each['reason']}")
        count = proposal.outcome["applied"]
        self.stdout.write(self.style.SUCCESS(f"{count} changes applied by {proposal.decided_by}"))

    def _reject(self, options: dict[str, Any]) -> None:
        proposal = price_imports.reject(
            proposal_id=options["id"], by=ACTOR, now=timezone.now(), note=options["note"]
        )
        self.stdout.write(f"{proposal.pk} is rejected: {proposal.note}")

    def _list(self, options: dict[str, Any]) -> None:
        told = PriceProposal.objects.defer("changes", "withdrawn")[:LISTED_MAX]
        for each in told:
            at, counts = f"{each.proposed_at:%Y-%m-%d %H:%M}", proposals_told.counts(each.counts)
            self.stdout.write(f"{each.pk:>6}  {each.state:<8}  {at}  {each}: {counts}")

    def _export(self, options: dict[str, Any]) -> None:
        models = price_imports.book().models.values()
        if options["format"] == "csv":
            self.stdout.write(export.as_csv(models), ending="")
            return
        text, lost = export.as_litellm(models, at=timezone.now())
        self.stdout.write(text, ending="")
        if lost:
            self.stderr.write(f"{lost} rates have no place in that form and are left out")

    def _tell(self, found: Difference) -> None:
        for line in proposals_told.lines(found):
            self.stdout.write(line)


def _listing(options: dict[str, Any]) -> Listing:
    source, path = options["source"], options["file"]
    if (path is None) != (source == sources.GENAI):
        needs = "needs no file" if path else "needs a file"
        raise CommandError(f"{source} {needs}: `costplatform prices diff --help`")
    return sources.read(source=source, content=path and _content(path))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX + 1)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
