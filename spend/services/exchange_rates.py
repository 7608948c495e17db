"""
The one way in for exchange rates, whoever brings them: what is doubtful waits for a person, what
corrects a rate replaces it, and what is there already changes nothing.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from django.conf import settings
from django.db import connection

from budgets.changes import change
from budgets.errors import InvalidInput, NotFound
from budgets.snapshots import GLOBAL_SCOPE
from spend.currencies import exchange, ratebook
from spend.currencies.exchange import PRECEDENCE, Quoted, RateTable
from spend.models import ExchangeRate, RateFetch, RateState
from spend.models.currencies import REASON_LENGTH_MAX

RATES_MAX: Final = 500_000
FETCHES_KEPT: Final = 1_000
BATCH: Final = 5_000
Key = tuple[str, str, str, date]


@dataclass(slots=True)
class Added:
    """What became of rates that were added, row by row."""

    in_force: list[ExchangeRate] = field(default_factory=list)
    quarantined: list[ExchangeRate] = field(default_factory=list)
    unchanged: list[ExchangeRate] = field(default_factory=list)

    @property
    def rows(self) -> list[ExchangeRate]:
        return [*self.in_force, *self.quarantined, *self.unchanged]


def add_rates(*, rates: Sequence[Quoted], now: datetime) -> Added:
    """
    Put rates in force from the next request on, but for the doubtful, which are quarantined.

    Adding the same again changes nothing, whatever was decided about it.
    """
    assert len(rates) <= RATES_MAX, "whoever reads rates bounds them"
    added = Added()
    if not rates:
        return added
    with change(scope=GLOBAL_SCOPE):
        _lock()
        known = _known(rates)
        for each in sorted(rates, key=lambda each: each.day):
            _add(each, known, added, now)
        _write(added, known, now)
    return added


def approve_rate(*, rate_id: int, reason: str, now: datetime) -> ExchangeRate:
    """
    Put a quarantined rate in force from the next request on.

    :raises InvalidInput: if it is not quarantined, or no reason is given
    :raises NotFound: if there is none
    """

    def put_in_force(rate: ExchangeRate) -> None:
        if rate.state != RateState.QUARANTINED:
            raise InvalidInput("id", f"is {rate.get_state_display().lower()}, not quarantined")
        same = ExchangeRate.objects.in_force().filter(
            source=rate.source, base=rate.base, quote=rate.quote, date=rate.date
        )
        same.update(replaced_at=now)
        rate.state = RateState.IN_FORCE

    return _decide(rate_id, reason, now, put_in_force)


def reject_rate(*, rate_id: int, reason: str, now: datetime) -> ExchangeRate:
    """
    Let a rate not count, or no longer from the next request on; what was converted stays.

    :raises InvalidInput: if it does not count or wait, or no reason is given
    :raises NotFound: if there is none
    """

    def take_out(rate: ExchangeRate) -> None:
        if rate.state == RateState.REJECTED or rate.replaced_at is not None:
            how = "rejected" if rate.state == RateState.REJECTED else "replaced"
            raise InvalidInput("id", f"is {how} already")
        rate.state = RateState.REJECTED

    return _decide(rate_id, reason, now, take_out)


def keep_fetch(fetch: RateFetch) -> RateFetch:
    """Keep how an attempt to fetch rates ended; forget the oldest."""
    fetch.save()
    kept = RateFetch.objects.values_list("pk", flat=True)[FETCHES_KEPT : FETCHES_KEPT + 1]
    for oldest in kept:
        RateFetch.objects.filter(pk__lte=oldest).delete()
    return fetch


@dataclass(slots=True)
class _Known:
    """What there is already of the pairs that are added, kept up while adding."""

    waiting: dict[Key, list[ExchangeRate]] = field(default_factory=dict)
    """Quarantined and rejected ones."""
    counting: dict[Key, ExchangeRate] = field(default_factory=dict)
    replaced: list[int] = field(default_factory=list)
    _by_pair: dict[tuple[str, str], list[tuple[date, int, Decimal]]] = field(default_factory=dict)
    _tables: dict[date, RateTable] = field(default_factory=dict)

    def counts(self, row: ExchangeRate) -> None:
        pair = self._by_pair.setdefault((row.base, row.quote), [])
        if (corrected := self.counting.get(_key(row))) is not None:
            pair.remove(_standing(corrected))
        self.counting[_key(row)] = row
        insort(pair, _standing(row))

    def waits(self, row: ExchangeRate) -> None:
        self.waiting.setdefault(_key(row), []).append(row)

    def same_as(self, rate: Quoted) -> ExchangeRate | None:
        key = (rate.source.value, rate.base, rate.quote, rate.day)
        counting = self.counting.get(key)
        rows = [*([counting] if counting else []), *self.waiting.get(key, [])]
        return next((row for row in rows if row.rate == rate.value), None)

    def previous_of(self, rate: Quoted) -> Decimal | None:
        """Return the last rate in force: of the pair, else what follows from others."""
        pair = self._by_pair.get((rate.base, rate.quote), [])
        at = bisect_right(pair, rate.day, key=lambda each: each[0])
        if at:
            return pair[at - 1][2]
        if rate.day not in self._tables:
            self._tables[rate.day] = ratebook.read_table(on=rate.day)
        found = self._tables[rate.day].rate(
            of=rate.base, into=rate.quote, on=rate.day, stale_after_days=0
        )
        return found.value if found else None


def _known(rates: Collection[Quoted]) -> _Known:
    """Read what is known of these days, and the last of each pair before the first of them."""
    known = _Known()
    first, last = min(each.day for each in rates), max(each.day for each in rates)
    of_pairs = ExchangeRate.objects.filter(
        base__in={each.base for each in rates}, quote__in={each.quote for each in rates}
    )
    before = of_pairs.in_force().filter(date__lt=first)
    newest = before.order_by("-source", "-base", "-quote", "-date")
    for row in newest.distinct("source", "base", "quote"):
        known.counts(row)
    for row in of_pairs.filter(date__range=(first, last), replaced_at=None).order_by("date"):
        if row.state == RateState.IN_FORCE:
            known.counts(row)
        else:
            known.waits(row)
    return known


def _add(rate: Quoted, known: _Known, added: Added, now: datetime) -> None:
    same = known.same_as(rate)
    if same is not None:
        added.unchanged.append(same)
        return
    previous = known.previous_of(rate)
    jump_max = settings.EXCHANGE_RATE_JUMP_MAX
    doubt = (
        exchange.doubt_about(rate.value, previous=previous, jump_max=jump_max) if previous else ""
    )
    row = _row(rate, doubt, now)
    if doubt:
        known.waits(row)
        added.quarantined.append(row)
        return
    corrected = known.counting.get(_key(row))
    if corrected is not None:
        assert corrected.pk is not None, "a rate is given once"
        known.replaced.append(corrected.pk)
    known.counts(row)
    added.in_force.append(row)


def _row(rate: Quoted, doubt: str, now: datetime) -> ExchangeRate:
    return ExchangeRate(
        source=rate.source.value, base=rate.base, quote=rate.quote, date=rate.day, rate=rate.value,
        state=RateState.QUARANTINED if doubt else RateState.IN_FORCE, doubt=doubt, created_at=now,
    )  # fmt: skip


def _write(added: Added, known: _Known, now: datetime) -> None:
    if known.replaced:
        ExchangeRate.objects.filter(pk__in=known.replaced).update(replaced_at=now)
    new = [*added.in_force, *added.quarantined]
    if new:
        ExchangeRate.objects.bulk_create(new, batch_size=BATCH)


def _decide(
    rate_id: int, reason: str, now: datetime, decide: Callable[[ExchangeRate], None]
) -> ExchangeRate:
    reason = reason.strip()
    if not 0 < len(reason) <= REASON_LENGTH_MAX:
        problem = f"is needed, with {REASON_LENGTH_MAX} characters at most"
        raise InvalidInput("reason", problem)
    with change(scope=GLOBAL_SCOPE, reason=reason):
        _lock()
        rate = ExchangeRate.objects.filter(pk=rate_id).first()
        if rate is None:
            raise NotFound("id", rate_id)
        decide(rate)
        rate.reason, rate.decided_at = reason, now
        rate.save(update_fields=["state", "reason", "decided_at"])
    return rate


def _lock() -> None:
    """Let one change of rates wait for the other; readers do not wait."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE spend_exchangerate IN SHARE ROW EXCLUSIVE MODE")


def _key(row: ExchangeRate) -> Key:
    return (row.source, row.base, row.quote, row.date)


def _standing(row: ExchangeRate) -> tuple[date, int, Decimal]:
    """Return what puts the rates of a pair in order: the last one is the one that counts."""
    return (row.date, PRECEDENCE[exchange.Source(row.source)], row.rate)
