import sys
from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from budgets import changes, currencies, money
from budgets.errors import InvalidInput
from spend.currencies import exchange, fetching, rate_files, ratebook
from spend.currencies.exchange import Source
from spend.currencies.rate_files import BadFile
from spend.models import ExchangeRate, RateState
from spend.services import exchange_rates
from spend.services.exchange_rates import Added

SEEDED: Final = timedelta(days=366)
LISTED_MAX: Final = 1_000
STANDARD_INPUT: Final = "-"


class Command(BaseCommand):
    help = "List, import, seed and fetch exchange rates."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listed = actions.add_parser("list", help="show rates, those of the newest date first")
        listed.add_argument("--base", type=_currency)
        listed.add_argument("--quote", type=_currency)
        listed.add_argument("--state", choices=RateState.values)
        listed.add_argument("--count", type=_count, default=50, help="how many at most (50)")
        imported = actions.add_parser(
            "import", help="add rates from a table with the columns date,base,quote,rate"
        )
        imported.add_argument("file", help="its path, or - for the standard input")
        seeded = actions.add_parser(
            "seed", help="add the ECB's rates that came with this installation, without a network"
        )
        seeded.add_argument("--since", type=_day, help="the first day (366 days ago)")
        actions.add_parser("fetch", help="fetch from EXCHANGE_RATES_URL now")

    def handle(self, *args: Any, **options: Any) -> None:
        now = datetime.now(UTC)
        action = options["action"]
        with changes.acting(by="command", origin=changes.Origin(changes.Source.COMMAND)):
            if action == "list":
                self._list(options)
            elif action == "import":
                self._import(options["file"], now)
            elif action == "seed":
                self._seed(options["since"] or (now - SEEDED).date(), now)
            else:
                self._fetch(now)

    def _list(self, options: dict[str, Any]) -> None:
        base, quote, state = (options[name] or "" for name in ("base", "quote", "state"))
        asked = ratebook.Asked(base=base, quote=quote, state=state)
        for rate in ratebook.rates(asked)[: options["count"]]:
            self.stdout.write(_told(rate))

    def _import(self, path: str, now: datetime) -> None:
        try:
            body = _read(path)
            rates = rate_files.read_import(body, source=Source.MANUAL, today=now.date())
        except OSError as error:
            raise CommandError(f"file: {path} cannot be read: {error.strerror}") from error
        except BadFile as error:
            told = "\n  ".join(error.problems[: rate_files.PROBLEMS_TOLD_MAX])
            raise CommandError(f"file: {path}, of which nothing was taken:\n  {told}") from error
        self._tell(exchange_rates.add_rates(rates=rates, now=now))

    def _seed(self, since: date, now: datetime) -> None:
        kept = resources.files("currency_converter") / "eurofxref-hist.zip"
        rates = rate_files.read_feed(kept.read_bytes(), today=now.date(), since=since)
        if not rates:
            raise CommandError("--since: what came with this installation ends before that day")
        self._tell(exchange_rates.add_rates(rates=rates, now=now))

    def _fetch(self, now: datetime) -> None:
        if not settings.EXCHANGE_RATES_URL:
            raise CommandError("EXCHANGE_RATES_URL: is empty, so nothing is fetched")
        kept = fetching.fetch(url=settings.EXCHANGE_RATES_URL, now=now)
        if kept.problem:
            raise CommandError(f"EXCHANGE_RATES_URL: {kept.problem}")
        self.stdout.write(
            f"{kept.added} rates in force, {kept.quarantined} quarantined, the newest of"
            f" {kept.newest}"
        )

    def _tell(self, added: Added) -> None:
        self.stdout.write(
            f"{len(added.in_force)} rates in force, {len(added.quarantined)} quarantined,"
            f" {len(added.unchanged)} were there already"
        )
        for rate in added.quarantined[: rate_files.PROBLEMS_TOLD_MAX]:
            self.stdout.write(self.style.WARNING(_told(rate)))


def _told(rate: ExchangeRate) -> str:
    state = "replaced" if rate.replaced_at else rate.get_state_display().lower()
    doubt = f" ({rate.doubt})" if rate.doubt else ""
    value = money.plain(rate.rate)
    return (
        f"{rate.pk} {rate.date} 1 {rate.base} = {value} {rate.quote} {rate.source} {state}{doubt}"
    )


def _read(path: str) -> bytes:
    """Return one byte more than may be, at most."""
    bytes_max = rate_files.IMPORT_BYTES_MAX + 1
    if path == STANDARD_INPUT:
        return sys.stdin.buffer.read(bytes_max)
    with Path(path).open("rb") as file:
        return file.read(bytes_max)


def _currency(text: str) -> str:
    try:
        return currencies.check(text)
    except currencies.UnknownCurrency as error:
        raise ArgumentTypeError(str(error)) from error


def _day(text: str) -> date:
    try:
        return exchange.day_of(text, today=datetime.now(UTC).date())
    except InvalidInput as error:
        raise ArgumentTypeError(error.problem) from error


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= LISTED_MAX):
        raise ArgumentTypeError(f"must be from 1 to {LISTED_MAX}")
    return int(text)
