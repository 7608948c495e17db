import argparse
import getpass
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError
from django.utils import timezone

from budgets import money, queries
from budgets.errors import InvalidInput, NotFound
from spend import instants
from spend.models import Rerating
from spend.rating import Skip
from spend.rerating import Change, Preview, Scope
from spend.services import reratings

ACCOUNTS_SHOWN_MAX: Final = 200
LABEL_CHARACTERS_MAX: Final = 48
HEADINGS: Final = ("account", "requests", "before", "after", "difference", "")


def instant(text: str) -> datetime:
    try:
        return instants.parse(text)
    except instants.NoInstant as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from error


class Command(BaseCommand):
    help = (
        "Re-rate past requests at today's price book. Without --apply it prints what each account "
        "would be charged, and writes nothing. With --apply the differences are added to the "
        "ledger. Exits with 1 if it cannot be done or has not ended, and with 2 if an option does "
        "not fit."
    )

    _percent_told = -1

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--provider", required=True, help="such as openai")
        parser.add_argument("--model", required=True, help="its name at the provider")
        parser.add_argument(
            "--start", required=True, type=instant, metavar="TIME",
            help="of requests admitted from then on: a day of UTC, or a time such as "
            "2026-11-01T09:30Z",
        )  # fmt: skip
        parser.add_argument(
            "--end", required=True, type=instant, metavar="TIME", help="and before then"
        )
        parser.add_argument("--organization", metavar="ID", help="of this organization only")
        parser.add_argument("--apply", action="store_true", help="write it; needs --reason")
        parser.add_argument(
            "--reason", default="", help="why, for everybody who asks about a charge"
        )

    def handle(self, *, apply: bool, reason: str, **asked: Any) -> None:
        try:
            scope = _scope(asked)
            if apply:
                self._apply(scope, reason)
            else:
                self._preview(scope)
        except InvalidInput as error:
            raise CommandError(f"--{error.field} {error.problem}") from error
        except NotFound as error:
            raise CommandError(f"there is {error}") from error
        except OperationalError as error:
            raise CommandError(
                "the database cannot be reached; start `costplatform up` first, in another terminal"
            ) from error

    def _preview(self, scope: Scope) -> None:
        found = reratings.preview(scope=scope, now=timezone.now())
        if found.changed:
            self.stdout.write("\n".join(_table(_lines(found))))
            left_out = len(found.by_account) - ACCOUNTS_SHOWN_MAX
            if left_out > 0:
                self.stdout.write(f"and {left_out:,} accounts whose charge changes by less")
        skipped = {str(reason): number for reason, number in found.skipped.items()}
        self._tell(found.seen, found.changed, skipped)
        self.stdout.write("Nothing is written. --apply with a --reason writes it.")

    def _apply(self, scope: Scope, reason: str) -> None:
        made = reratings.start(
            scope=scope, by=f"command: {_user()}", reason=reason, now=timezone.now()
        )
        try:
            done = reratings.run(
                rerating_id=made.pk, clock=timezone.now, progress=self._show_progress
            )
        except reratings.AlreadyRunning as error:
            raise CommandError(f"the worker is at work on re-rating {made.pk} already") from error
        except KeyboardInterrupt as error:
            raise CommandError(
                f"stopped; the worker goes on with re-rating {made.pk} within minutes"
            ) from error
        self._tell(done.requests_seen, done.requests_changed, done.skipped)
        for currency, text in done.differences.items():
            self.stdout.write(f"{currency} {text} added in all")
        self.stdout.write(self.style.SUCCESS(f"Re-rating {done.pk} is written."))

    def _show_progress(self, rerating: Rerating) -> None:
        """Say how far it is, a line for each per cent at most."""
        percent = rerating.requests_seen * 100 // (rerating.requests_total or 1)
        if percent > self._percent_told:
            self._percent_told = percent
            self.stdout.write(f"  {rerating.requests_seen:,} of {rerating.requests_total:,}")
            self.stdout.flush()

    def _tell(self, seen: int, changed: int, skipped: Mapping[str, int]) -> None:
        self.stdout.write(f"\n{seen:,} requests, {changed:,} of them change")
        for reason, number in sorted(skipped.items()):
            self.stdout.write(f"{number:,} skipped: {Skip(reason).words}")


def _scope(asked: Mapping[str, Any]) -> Scope:
    organization = asked["organization"]
    return Scope(
        provider=asked["provider"],
        upstream_model=asked["model"],
        start=asked["start"],
        end=asked["end"],
        organization_id=(
            None if organization is None else queries.find_organization(organization).pk
        ),
    )


def _lines(found: Preview) -> Iterator[tuple[str, ...]]:
    yield HEADINGS
    for row in found.rows(most=ACCOUNTS_SHOWN_MAX):
        yield _line(row.label, row.change)
    for _, change in sorted(found.by_currency.items()):
        yield _line("all together", change)


def _line(label: str, change: Change) -> tuple[str, ...]:
    amounts = (change.before, change.after, change.difference)
    return (
        _printable(label), f"{change.requests:,}", *map(money.plain, amounts), change.currency,
    )  # fmt: skip


def _table(lines: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """Yield lines with their columns below each other: names to the left, figures to the right."""
    rows = list(lines)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        figures = "  ".join(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))
        yield f"{first.ljust(widths[0])}  {figures}".rstrip()


def _printable(text: str) -> str:
    """Return a name without what would move a terminal's cursor, and not too long."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    is_long = len(shown) > LABEL_CHARACTERS_MAX
    return f"{shown[: LABEL_CHARACTERS_MAX - 1]}…" if is_long else shown


def _user() -> str:
    try:
        return getpass.getuser()[:64]
    except (OSError, KeyError):
        return "unknown"
