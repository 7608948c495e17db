import argparse
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.db import OperationalError
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from budgets import display
from costplatform import demo, ports
from costplatform.demo.limits import Standing
from costplatform.demo.workloads import NoPrice

SEED_MAX: Final = 2**32 - 1
BAR_CHARACTERS: Final = 30
LINES_A_STEP: Final = 4
PAGES: Final = (
    ("Ledger", "spend_spendevent"),
    ("Budgets", "budgets_budget"),
    ("Organizations", "budgets_organization"),
    ("Teams", "budgets_team"),
    ("Keys", "budgets_apikey"),
)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers within bounds, for an option."""

    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from {low} to {high}")

    return read


class TerminalProgress:
    """Shows how far the work is: a bar that moves at a terminal, else a few lines."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._moves = out.isatty()
        self._told = 0

    def step(self, what: str) -> None:
        self._told = 0
        self._say(f"{what} …\n")

    def advance(self, done: int, *, of: int) -> None:
        parts = LINES_A_STEP * done // of
        if self._moves:
            bar = "█" * (BAR_CHARACTERS * done // of)
            ending = "\n" if done == of else ""
            self._say(f"\r  {bar:░<{BAR_CHARACTERS}} {done:,} of {of:,}{ending}")
        elif parts > self._told:
            self._told = parts
            self._say(f"  {done:,} of {of:,}\n")

    def _say(self, text: str) -> None:
        self._out.write(text, ending="")
        self._out.flush()


class Command(BaseCommand):
    help = (
        "Fill the database with months of example spend: three organizations with teams, users, "
        "keys, budgets and requests. Their deployments are blocked: nothing can be sent. "
        "It may run beside `costplatform up`."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        usual = demo.Options()
        parser.add_argument(
            "--months", type=whole_number(1, demo.MONTHS_MAX), default=usual.months,
            help=f"how far back the spend goes, 1 to {demo.MONTHS_MAX} ({usual.months})",
        )  # fmt: skip
        parser.add_argument(
            "--events", type=whole_number(demo.EVENTS_MIN, demo.EVENTS_MAX), default=usual.events,
            help=f"how many requests, {demo.EVENTS_MIN} to {demo.EVENTS_MAX} ({usual.events})",
        )  # fmt: skip
        parser.add_argument(
            "--seed", type=whole_number(0, SEED_MAX), default=usual.seed,
            help=f"another number makes other spend ({usual.seed})",
        )  # fmt: skip
        parser.add_argument(
            "--again", action="store_true", help="add to the example data of an earlier run"
        )

    def handle(self, *, months: int, events: int, seed: int, again: bool, **_: Any) -> None:
        options = demo.Options(months=months, events=events, seed=seed, again=again)
        began = time.monotonic()
        try:
            made = demo.run(
                options=options, now=timezone.now(), progress=TerminalProgress(self.stdout)
            )
        except demo.AlreadyFilled as error:
            raise CommandError(
                "this database has example data already, perhaps of a run that was interrupted; "
                "--again adds more, under new organizations"
            ) from error
        except NoPrice as error:
            raise CommandError(
                f"the price book has no price of {error}; `costplatform seed` imports prices"
            ) from error
        except KeyboardInterrupt as error:
            raise CommandError(
                "stopped; what was written until now stays, and all sums agree"
            ) from error
        except OperationalError as error:
            raise CommandError(
                "the database cannot be reached; start `costplatform up` first, in another terminal"
            ) from error
        self._tell(made, seconds=time.monotonic() - began)

    def _tell(self, made: demo.Made, *, seconds: float) -> None:
        names = ", ".join(str(each) for each in made.organizations)
        spent = display.amount(made.spent, made.currency)
        self.stdout.write(
            self.style.SUCCESS(f"Done in {seconds:.0f} s: {spent} in {made.requests:,} requests")
        )
        self.stdout.write(
            f"of {made.keys} keys in {names}, since {made.since:%Y-%m-%d}.\n"
            "\nLimits in their running period:\n"
        )
        for standing in sorted(made.standings, key=_share, reverse=True):
            limit = display.amount(standing.limit, made.currency)
            percent = display.percent(standing.spent, standing.limit)
            self.stdout.write(f"  {percent:>8}  of {limit:<14} {standing.what}\n")
        self._tell_pages(made)

    def _tell_pages(self, made: demo.Made) -> None:
        spike = made.until - timedelta(days=demo.rhythm.SPIKE_DAYS_AGO)
        self.stdout.write(f"\nOne key's traffic explodes on {spike:%Y-%m-%d}. Look at:\n")
        for title, page in PAGES:
            if (path := _path_of(page)) is not None:
                self.stdout.write(f"  {title:<14} http://{_host()}:{settings.PORT}{path}\n")
        self.stdout.write("\n`costplatform verify-ledger` proves that all sums agree.\n")


def _share(standing: Standing) -> Any:
    return display.share(standing.spent, standing.limit)


def _path_of(page: str) -> str | None:
    try:
        return reverse(f"admin:{page}_changelist")
    except NoReverseMatch:
        return None


def _host() -> str:
    return {"0.0.0.0": ports.LOOPBACK, "::": "[::1]"}.get(settings.HOST, settings.HOST)  # noqa: S104
