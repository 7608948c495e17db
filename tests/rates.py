"""Exchange rates for tests, in currencies that no other test uses: what is written stays."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from budgets import money
from budgets.currencies import CURRENCIES
from spend.exchange import Quoted, Source
from spend.models import ExchangeRate
from spend.services import exchange_rates
from spend.services.exchange_rates import Added

KNOWN = frozenset({"USD", "EUR", "GBP", "CHF", "JPY"})
_unused: Iterator[str] = (
    code for code in CURRENCIES if code not in KNOWN and code not in money.DECIMALS
)


def now() -> datetime:
    return datetime.now(UTC)


def today() -> date:
    return now().date()


def unused_currency() -> str:
    """Return a currency of nine decimals that has no rate and no organization."""
    return next(_unused)


def days_ago(days: int) -> date:
    return today() - timedelta(days=days)


def add(
    pair: tuple[str, str], value: str, *, on: date | None = None, source: Source = Source.MANUAL
) -> ExchangeRate:
    """Add a rate; return its row, in force or not."""
    return adding((pair, value, on or today()), source=source).rows[0]


def adding(*rates: tuple[tuple[str, str], str, date], source: Source = Source.MANUAL) -> Added:
    """Add several rates at once."""
    quoted = [Quoted(*pair, day, Decimal(value), source) for pair, value, day in rates]
    return exchange_rates.add_rates(rates=quoted, now=now())
