"""
The ledger in Postgres: append rows once, keep roll-ups and totals in step, and sum it.

One row a request; an orphan that was met by its true settle stays, beside a row that takes it
back. Everything here runs in the recorder's transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson
from django.db import DataError, connection, transaction
from psycopg.types.json import Jsonb

from budgets import money
from budgets.models import AccountKind
from budgets.money import Units
from budgets.periods import FOREVER, Period
from budgets.storekeeper import Entry
from budgets.totals import AccountPeriod
from spend import events
from spend.currencies.exchange import Rate
from spend.events import Described, Payload
from spend.models import Day, EventKind, LabelDay, LabelQuarterHour, QuarterHour, SpendEvent
from spend.pricing import Line

COST_DECIMALS: Final = 18
QUARTER: Final = timedelta(minutes=15)
LABEL_KINDS: Final = (AccountKind.END_USER, AccountKind.TAG)
COLUMNS: Final = tuple(str(field.column) for field in SpendEvent._meta.fields)
_NAMES: Final = ", ".join(f'"{column}"' for column in COLUMNS)


@dataclass(frozen=True, slots=True)
class Recording:
    """A stream entry made ready for the ledger."""

    entry: Entry
    payload: Payload
    request_id: UUID

    @property
    def is_orphan(self) -> bool:
        return self.entry.kind == EventKind.ORPHAN


@dataclass(frozen=True, slots=True)
class Appended:
    """What a batch changed: the rows that are new, and the accounts whose counters are wrong."""

    new_ids: frozenset[UUID]
    accounts_to_reload: frozenset[UUID]


def make_partitions(days: Iterable[date]) -> int:
    """Make the ledger's partitions for these days where they are missing; return how many."""
    made = 0
    for day in sorted(set(days)):
        made += _make_partition(day)
    return made


def append(recordings: Sequence[Recording], *, now: datetime) -> Appended:
    """
    Add what the ledger does not have: true rows, orphans without one, and what takes back an
    orphan that its true row has met. Within the caller's transaction.
    """
    _stage(recordings, now)
    new_true = _insert_true()
    new_orphans = _insert_orphans()
    reversed_requests = _insert_reversals(recordings, new_true)
    new_ids = new_true | new_orphans
    unexpected = {
        account
        for recording in _not_inserted(recordings, new_ids)
        for account in recording.entry.all_accounts
    }
    unexpected |= {
        account
        for recording in recordings
        if recording.request_id in reversed_requests
        for account in recording.entry.all_accounts
    }
    return Appended(frozenset(new_ids), frozenset(unexpected))


def adjust(rows: Sequence[Mapping[str, object]]) -> frozenset[UUID]:
    """
    Add adjusting rows to ledger, roll-ups and totals; return the accounts whose counters are wrong.

    Within a transaction that has the recorder locked out. Rows that are there are not added again.
    """
    _stage_rows([row[column] for column in COLUMNS] for row in rows)
    _insert(f"SELECT {_NAMES} FROM spend_staged")
    roll_up()
    add_to_totals()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT account FROM ({charges_of('spend_fresh')}) charge")
        return frozenset(account for (account,) in cursor.fetchall())


def takes(recording: Recording, *, now: datetime) -> bool:
    """Return whether Postgres can store this row; within the caller's transaction."""
    try:
        with transaction.atomic():
            _stage([recording], now)
    except DataError:
        return False
    return True


def roll_up() -> None:
    """Add the rows that :func:`append` has just inserted to every roll-up."""
    labels = [kind.value for kind in LABEL_KINDS]
    with connection.cursor() as cursor:
        for table, by_day, wants_labels in (
            (QuarterHour, False, False), (Day, True, False),
            (LabelQuarterHour, False, True), (LabelDay, True, True),
        ):  # fmt: skip
            cursor.execute(
                _ROLL_UP.format(
                    table=table._meta.db_table,
                    bucket="day" if by_day else "bucket_start",
                    expression=_LOCAL_DAY if by_day else _QUARTER_HOUR,
                    among="= ANY" if wants_labels else "<> ALL",
                ),
                [labels],
            )


def add_to_totals() -> None:
    """
    Add the rows that :func:`append` has just inserted to all period totals that hold them; where
    the books of a period are closed, its closings say what came late.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH touched AS (
                UPDATE budgets_periodtotal AS total
                SET amount_units = total.amount_units + added.amount,
                    events = total.events + added.n
                FROM (
                    SELECT t.id, sum(charge.amount_units) AS amount, count(*) AS n
                    FROM ({charges_of("spend_fresh")}) charge
                    JOIN budgets_periodtotal t ON t.account_id = charge.account
                         AND t.period_start <= charge.admitted_at
                         AND charge.admitted_at < t.period_end
                    GROUP BY t.id
                ) added
                WHERE total.id = added.id
                RETURNING total.*
            )
            UPDATE budgets_closing AS closing
            SET late_units = touched.amount_units - closing.spent_units,
                late_events = touched.events - closing.events
            FROM touched
            WHERE touched.is_closed AND closing.account_id = touched.account_id
                  AND closing.period_start = touched.period_start
                  AND closing.period_end = touched.period_end
            """
        )


def charges_of(events: str) -> str:
    """
    Return SQL for what each account is charged by the rows of a table of events: those that the
    row names, and where a holder has an account for the row's model, that one too.
    """
    return f"""
        SELECT held.account, event.admitted_at, event.amount_units
        FROM {events} event CROSS JOIN unnest(event.accounts) AS held(account)
        UNION ALL
        SELECT narrow.id, event.admitted_at, event.amount_units
        FROM {events} event CROSS JOIN unnest(event.accounts) AS held(account)
        JOIN budgets_account narrow ON narrow.holder_id = held.account
             AND narrow.model = event.model
    """


def sum_of(account: UUID, period: Period) -> tuple[int, int]:
    """Return (amount in units, rows) of an account in a period."""
    return sums_of([(account, period)])[account, period]


def sums_of(wanted: Iterable[AccountPeriod]) -> dict[AccountPeriod, tuple[int, int]]:
    """
    Return (amount in units, rows) of accounts in periods: of whole quarter-hours from the
    roll-ups, of what a bound cuts off one from the events themselves.
    """
    wanted = list(wanted)
    parts = [_parts(period) for _, period in wanted]
    sums = _sums(_OF_QUARTERS, [(n, wanted[n][0], whole) for n, (whole, _) in enumerate(parts)])
    edges = [(n, wanted[n][0], edge) for n, (_, edges) in enumerate(parts) for edge in edges]
    for n, (amount, rows) in (_sums(_OF_EVENTS, edges) if edges else {}).items():
        sums[n] = (sums[n][0] + amount, sums[n][1] + rows)
    return {each: sums[n] for n, each in enumerate(wanted)}


def _parts(period: Period) -> tuple[Period, list[Period]]:
    """Return the whole quarter-hours of a period, and what is left before and after them."""
    first = min(_quarter_until(period.start + QUARTER - timedelta.resolution), period.end)
    last = max(_quarter_until(period.end), first)
    edges = [Period(period.start, first), Period(last, period.end)]
    return Period(first, last), [each for each in edges if each.start < each.end]


def _quarter_until(at: datetime) -> datetime:
    """Return the last whole quarter-hour that is not after ``at``."""
    return at - (at - FOREVER.start) % QUARTER


def _sums(sql: str, wanted: Sequence[tuple[int, UUID, Period]]) -> dict[int, tuple[int, int]]:
    """Return (amount in units, rows) by the numbers that are wanted, added up for each."""
    with connection.cursor() as cursor:
        cursor.execute(
            sql,
            [
                [n for n, _, _ in wanted],
                [account for _, account, _ in wanted],
                [period.start for *_, period in wanted],
                [period.end for *_, period in wanted],
            ],
        )
        return {n: (int(amount), int(rows)) for n, amount, rows in cursor.fetchall()}


_OF_QUARTERS: Final = """
    SELECT wanted.n, coalesce(sum(kept.amount_units), 0), coalesce(sum(kept.events), 0)
    FROM unnest(%s::int[], %s::uuid[], %s::timestamptz[], %s::timestamptz[])
         AS wanted(n, id, period_start, period_end)
    LEFT JOIN budgets_account account ON account.id = wanted.id
    LEFT JOIN LATERAL (
        SELECT account_id, bucket_start, model, amount_units, events
        FROM spend_quarterhour
        UNION ALL
        SELECT account_id, bucket_start, model, amount_units, events
        FROM spend_labelquarterhour
    ) kept ON kept.account_id = coalesce(account.holder_id, account.id)
         AND kept.bucket_start >= wanted.period_start
         AND kept.bucket_start < wanted.period_end
         AND account.model IN ('', kept.model)
    GROUP BY wanted.n
"""
_OF_EVENTS: Final = """
    SELECT wanted.n, coalesce(sum(event.amount_units), 0), count(event.id)
    FROM unnest(%s::int[], %s::uuid[], %s::timestamptz[], %s::timestamptz[])
         AS wanted(n, id, first, last)
    LEFT JOIN budgets_account account ON account.id = wanted.id
    LEFT JOIN spend_event event ON event.admitted_at >= wanted.first
         AND event.admitted_at < wanted.last
         AND coalesce(account.holder_id, account.id) = ANY (event.accounts)
         AND account.model IN ('', event.model)
    GROUP BY wanted.n
"""


def recorded_requests(ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these requests the ledger has a row of."""
    rows = SpendEvent.objects.filter(id__in=[*ids, *map(events.orphan_id, ids)])
    return set(rows.values_list("request_id", flat=True))


def true_rows(ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these requests the ledger has the true row of, and not only an orphan."""
    return set(SpendEvent.objects.filter(id__in=ids).values_list("id", flat=True))


def _make_partition(day: date) -> int:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = start + timedelta(days=1)
    with connection.cursor() as cursor:
        name = f"spend_event_{day:%Y%m%d}"
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone()[0] is not None:
            return 0
        # The name and both bounds are made of digits of a date, nothing that anybody sends.
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF spend_event"
            f" FOR VALUES FROM ('{start:%Y-%m-%d}+00') TO ('{end:%Y-%m-%d}+00')"
        )
    return 1


def _stage(recordings: Sequence[Recording], now: datetime) -> None:
    _stage_rows(_row(recording, now) for recording in recordings)


def _stage_rows(rows: Iterable[Sequence[object]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE IF NOT EXISTS spend_staged (LIKE spend_event) ON COMMIT DELETE ROWS;"
            "CREATE TEMP TABLE IF NOT EXISTS spend_fresh (LIKE spend_event) ON COMMIT DELETE ROWS;"
            "TRUNCATE spend_staged, spend_fresh"
        )
        # Errors while copying are psycopg's own; elsewhere Django makes them its own.
        with (
            connection.wrap_database_errors,
            cursor.copy(f"COPY spend_staged ({_NAMES}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)


def _row(recording: Recording, now: datetime) -> list[object]:
    entry, described, outcome = (
        recording.entry,
        recording.payload.described,
        recording.payload.outcome,
    )
    is_orphan = recording.is_orphan
    flags = [*outcome.flags, events.ORPHANED] if is_orphan else list(outcome.flags)
    values: dict[str, object] = {
        "id": events.orphan_id(recording.request_id) if is_orphan else recording.request_id,
        "admitted_at": entry.admitted_at,
        "part": 0,
        "request_id": recording.request_id,
        "kind": entry.kind,
        "settled_at": outcome.settled_at or now,
        "recorded_at": now,
        "accounts": list(entry.path),
        "amount_units": entry.amount,
        "cost": outcome.cost,
        "status": outcome.status,
        "input_tokens": events.input_tokens(outcome.usage),
        "output_tokens": events.output_tokens(outcome.usage),
        "usage": as_json({component.value: n for component, n in outcome.usage.items()}),
        "lines": lines_as_json(outcome.lines),
        "flags": flags,
        "saved_units": outcome.saved_units,
        "rerating_id": None,
        **outcome.conditions._asdict(),
    }  # fmt: skip
    if is_orphan:
        # It is charged what it held, which only the live store knows.
        values |= {"cost": _as_cost(entry.amount, described), "reserved_units": entry.amount}
    for name in events.FIELDS:
        values.setdefault(name, getattr(described, name))
    values["tags"] = list(described.tags)
    return [values[column] for column in COLUMNS]


def _as_cost(amount: Units, described: Described) -> Decimal:
    """Return what an amount is in the price's currency, at the rate of its admission."""
    rate = Rate(described.exchange_rate, described.exchange_rate_date)
    return rate.convert_back(money.to_decimal(amount, currency=described.currency))


def as_json(value: object) -> Jsonb:
    return Jsonb(value, dumps=orjson.dumps)


def lines_as_json(lines: Iterable[Line]) -> Jsonb:
    return as_json(
        [[line.component.value, line.quantity, str(line.rate), str(line.amount)] for line in lines]
    )


def _insert(select: str, values: Sequence[Any] = ()) -> list[tuple[UUID, UUID]]:
    """Insert what ``select`` yields where it is new; return (id, request id) of the new rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH fresh AS (INSERT INTO spend_event ({_NAMES}) {select}"
            f" ON CONFLICT (admitted_at, id, part) DO NOTHING RETURNING *),"
            f" kept AS (INSERT INTO spend_fresh ({_NAMES}) SELECT {_NAMES} FROM fresh)"
            " SELECT id, request_id FROM fresh",
            list(values) or None,
        )
        return list(cursor.fetchall())


def _insert_true() -> set[UUID]:
    rows = _insert(f"SELECT {_NAMES} FROM spend_staged WHERE kind <> 'orphan'")
    return {id for id, _ in rows}


def _insert_orphans() -> set[UUID]:
    """An orphan whose request has its true row is dropped, whenever that was admitted."""
    rows = _insert(
        f"SELECT {_NAMES} FROM spend_staged orphan WHERE kind = 'orphan' AND NOT EXISTS ("
        " SELECT FROM spend_event met WHERE met.id = orphan.request_id"
        " AND met.part = orphan.part)"
    )
    return {id for id, _ in rows}


def _insert_reversals(recordings: Sequence[Recording], new_true: set[UUID]) -> set[UUID]:
    """A true row that comes after its orphan takes it back; return the requests concerned."""
    new = [recording for recording in recordings if recording.request_id in new_true]
    orphans = {(each.entry.admitted_at, events.orphan_id(each.request_id)) for each in new}
    met = [*_present(orphans), *_present_whenever(filter(_has_another_time, new))]
    if not met:
        return set()
    rows = _insert(
        f"SELECT {_REVERSAL} FROM spend_event orphan"
        " JOIN unnest(%s::timestamptz[], %s::uuid[], %s::uuid[])"
        " AS met(admitted_at, orphan_id, reversal_id)"
        " ON orphan.admitted_at = met.admitted_at AND orphan.id = met.orphan_id",
        [
            [at for at, _, _ in met],
            [id for _, id, _ in met],
            [events.reversal_id(request) for _, _, request in met],
        ],
    )
    return {request for _, request in rows}


def _present(orphans: Iterable[tuple[datetime, UUID]]) -> list[tuple[datetime, UUID, UUID]]:
    """Return (admitted_at, id, request id) of those orphans that the ledger has."""
    pairs = list(orphans)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kept.admitted_at, kept.id, kept.request_id FROM spend_event kept"
            " JOIN unnest(%s::timestamptz[], %s::uuid[]) AS wanted(admitted_at, id)"
            " ON kept.admitted_at = wanted.admitted_at AND kept.id = wanted.id",
            [[at for at, _ in pairs], [id for _, id in pairs]],
        )
        return list(cursor.fetchall())


def _has_another_time(recording: Recording) -> bool:
    """
    Return whether the time of admission may not be the one that the orphan has: the gateway
    never learned it, or the store was not asked.
    """
    outcome = recording.payload.outcome
    return events.UNCHECKED in outcome.flags or (outcome.status == 0 and not outcome.usage)


def _present_whenever(recordings: Iterable[Recording]) -> list[tuple[datetime, UUID, UUID]]:
    """Return (admitted_at, id, request id) of orphans of these requests at any other time."""
    times = {events.orphan_id(each.request_id): each.entry.admitted_at for each in recordings}
    if not times:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT admitted_at, id, request_id FROM spend_event WHERE id = ANY(%s)",
            [list(times)],
        )
        return [row for row in cursor.fetchall() if row[0] != times[row[1]]]


def _not_inserted(recordings: Sequence[Recording], new_ids: set[UUID]) -> Iterable[Recording]:
    """Yield each recording that added no row: one that was there, or stands twice in the batch."""
    left = set(new_ids)
    for recording in recordings:
        id = events.orphan_id(recording.request_id) if recording.is_orphan else recording.request_id
        if id in left:
            left.remove(id)
        else:
            yield recording


_TAKEN_BACK: Final = {
    "id": "met.reversal_id",
    "kind": f"'{EventKind.ORPHAN_REVERSAL}'",
    "amount_units": "-orphan.amount_units",
    "cost": "-orphan.cost",
    "input_tokens": "-orphan.input_tokens",
    "output_tokens": "-orphan.output_tokens",
    "recorded_at": "now()",
    "settled_at": "now()",
}
_REVERSAL: Final = ", ".join(_TAKEN_BACK.get(name, f'orphan."{name}"') for name in COLUMNS)
_QUARTER_HOUR: Final = "date_bin('15 minutes', fresh.admitted_at, 'epoch'::timestamptz)"
_LOCAL_DAY: Final = "(fresh.admitted_at AT TIME ZONE organization.time_zone)::date"
_ROLL_UP: Final = """
    INSERT INTO {table} AS kept (account_id, {bucket}, model, provider, deployment,
                                 amount_units, events, input_tokens, output_tokens,
                                 saved_units)
    SELECT account.id, {expression}, fresh.model, fresh.provider, fresh.deployment,
           sum(fresh.amount_units), count(*), sum(fresh.input_tokens), sum(fresh.output_tokens),
           sum(fresh.saved_units)
    FROM spend_fresh fresh
    CROSS JOIN unnest(fresh.accounts) AS held(account_id)
    JOIN budgets_account account ON account.id = held.account_id
    JOIN budgets_organization organization ON organization.id = fresh.organization_id
    WHERE account.kind {among} (%s)
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (account_id, {bucket}, model, provider, deployment) DO UPDATE SET
        amount_units = kept.amount_units + excluded.amount_units,
        events = kept.events + excluded.events,
        input_tokens = kept.input_tokens + excluded.input_tokens,
        output_tokens = kept.output_tokens + excluded.output_tokens,
        saved_units = kept.saved_units + excluded.saved_units
"""
