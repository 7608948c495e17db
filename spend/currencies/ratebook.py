"""Which exchange rates there are, and how good they are."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from django.conf import settings
from django.db.models import Count, Max, Q, QuerySet

from spend.currencies import exchange
from spend.currencies.exchange import Quoted, RateTable, Source
from spend.models import ExchangeRate, RateFetch, RateState

# From pair to pair by the index that keeps rates in force apart: of decades only the newest of
# each pair is looked at.
_NEWEST_BEFORE: Final = """
    WITH RECURSIVE pairs AS (
        (SELECT source, base, quote FROM spend_exchangerate
         WHERE state = 'in_force' AND replaced_at IS NULL
         ORDER BY source, base, quote LIMIT 1)
        UNION ALL
        SELECT following.* FROM pairs CROSS JOIN LATERAL (
            SELECT source, base, quote FROM spend_exchangerate
            WHERE state = 'in_force' AND replaced_at IS NULL
                  AND (source, base, quote) > (pairs.source, pairs.base, pairs.quote)
            ORDER BY source, base, quote LIMIT 1) following
    )
    SELECT newest.* FROM pairs CROSS JOIN LATERAL (
        SELECT * FROM spend_exchangerate rate
        WHERE state = 'in_force' AND replaced_at IS NULL
              AND (rate.source, rate.base, rate.quote) = (pairs.source, pairs.base, pairs.quote)
              AND rate.date < %s
        ORDER BY rate.date DESC LIMIT 1) newest
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the rates stand: the newest date in force, who waits, and how fetching goes."""

    newest: date | None
    days_old: int | None
    quarantined: int
    last_good: RateFetch | None
    last: RateFetch | None

    @property
    def is_stale(self) -> bool:
        return self.days_old is not None and self.days_old > settings.EXCHANGE_RATE_STALE_DAYS


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rates are wanted."""

    base: str = ""
    quote: str = ""
    source: str = ""
    state: str = ""
    day: date | None = None


def read_table(*, on: date, until: date | None = None) -> RateTable:
    """
    Return what is needed to convert on ``on``, the day before, and every later day before
    ``until``: of each source and pair the newest rate before, and all that follow. Older ones
    stay where they are.
    """
    following = ExchangeRate.objects.in_force().filter(date__gte=on)
    if until is not None:
        following = following.filter(date__lt=until)
    before = ExchangeRate.objects.raw(_NEWEST_BEFORE, [on])
    return exchange.table_of(map(quoted, [*before, *following]))


def quoted(row: ExchangeRate) -> Quoted:
    return Quoted(row.base, row.quote, row.date, row.rate, Source(row.source))


def rates(asked: Asked) -> QuerySet[ExchangeRate]:
    """Return rates, the newest date first."""
    named = {"base": asked.base, "quote": asked.quote, "source": asked.source, "state": asked.state}
    wanted = {name: value for name, value in named.items() if value}
    found = ExchangeRate.objects.filter(**wanted)
    return found if asked.day is None else found.filter(date=asked.day)


def standing(*, now: datetime) -> Standing:
    """Return how the rates stand, in three queries."""
    today = now.date()
    counts = ExchangeRate.objects.aggregate(
        newest=Max(
            "date", filter=Q(state=RateState.IN_FORCE, replaced_at=None, date__lte=today)
        ),
        quarantined=Count("id", filter=Q(state=RateState.QUARANTINED)),
    )  # fmt: skip
    newest = counts["newest"]
    return Standing(
        newest=newest,
        days_old=None if newest is None else (today - newest).days,
        quarantined=counts["quarantined"],
        last_good=RateFetch.objects.filter(problem="").first(),
        last=RateFetch.objects.first(),
    )
