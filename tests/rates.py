"""Exchange rates for tests, in currencies that no other test uses: what is written stays."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction

from budgets import money, storekeeper
from budgets.currencies import CURRENCIES
from spend.currencies.exchange import Quoted, Source
from spend.models import ExchangeRate
from spend.services import exchange_rates
from spend.services.exchange_rates import Added

# Those of the bank's history, which a test seeds.
OF_THE_BANK = frozenset({
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "IDR", "ILS",
    "INR", "ISK", "JPY", "KRW", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "RON", "SEK", "SGD",
    "THB", "TRY", "USD", "ZAR",
})  # fmt: skip
_unused: deque[str] = deque(
    code for code in CURRENCIES if code not in OF_THE_BANK and code not in money.DECIMALS
)


def now() -> datetime:
    return datetime.now(UTC)


def today() -> date:
    return now().date()


def unused_currency() -> str:
    """Return a currency of nine decimals that has no rate."""
    return _unused.popleft()


@contextmanager
def lent(count: int) -> Iterator[list[str]]:
    """Lend currencies that have no rates; what is written about them is forgotten afterwards."""
    codes = [unused_currency() for _ in range(count)]
    yield codes
    with transaction.atomic(), connection.cursor() as cursor:
        # Nothing but a test may do so.
        cursor.execute(
            "ALTER TABLE spend_exchangerate DISABLE TRIGGER exchange_rate_is_never_edited"
        )
        cursor.execute(
            "DELETE FROM spend_exchangerate WHERE base = ANY(%(codes)s) OR quote = ANY(%(codes)s)",
            {"codes": codes},
        )
        cursor.execute(
            "ALTER TABLE spend_exchangerate ENABLE TRIGGER exchange_rate_is_never_edited"
        )
        cursor.execute("SELECT costplatform_raise_version(0)")
    storekeeper.publish_versions()
    _unused.extend(codes)


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
