"""The ledger: append-only, by day, and everything summed from it agrees with it."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import Error as DatabaseError
from django.db import connection, transaction

from budgets import money, totals
from budgets.models import AccountKind, Organization, PeriodTotal, derived_account_id
from budgets.money import Units
from budgets.periods import FOREVER, Period
from spend import events, ledger
from spend.models import Day, LabelDay, QuarterHour, SpendEvent
from tests.budgets.support import PathAccount, account, context, payload_of
from tests.conftest import Cast
from tests.spend.support import apply, entry, now, priced, rolled_up, row_of, rows_of

pytestmark = pytest.mark.usefixtures("alone")

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def spend(cast: Cast, *ats: datetime, amount: int = 5) -> tuple[PathAccount, list[str]]:
    """Record one event at each of these times on a new account; return it and the events' ids."""
    of = account(cast.organization)
    path = context(cast.organization, [of])
    entries = [entry(path, amount, at=at) for at in ats]
    apply(*entries)
    return of, [each.id for each in entries]


def partition_of(id: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM spend_event WHERE id = %s", [id])
        (name,) = cursor.fetchone()
    return str(name)


# --- Append-only, by day -----------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE spend_event SET amount_units = 0 WHERE id = %s",
        "UPDATE spend_event SET flags = '{}' WHERE id = %s",
        "DELETE FROM spend_event WHERE id = %s",
    ],
)
def test_row_is_never_altered_and_never_deleted(statement: str, cast: Cast) -> None:
    _, (id,) = spend(cast, NOON)

    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(statement, [id])

    assert rows_of(id) == [("usage", 5)]


def test_whole_ledger_cannot_be_emptied_either(cast: Cast) -> None:
    _, (id,) = spend(cast, NOON)

    with pytest.raises(DatabaseError, match="append-only"):
        _truncate_and_roll_back("spend_event")

    assert rows_of(id) == [("usage", 5)]


def test_what_the_response_cache_has_saved_is_in_the_row_and_in_every_roll_up(cast: Cast) -> None:
    path = context(cast.organization, [account(cast.organization)])
    outcome = priced(1, flags=(events.CACHE_HIT,), saved_units=Units(40))
    hits = [
        replace(entry(path, 1, at=NOON), payload=payload_of(path, outcome=outcome))
        for _ in range(2)
    ]

    apply(*hits, entry(path, 5, at=NOON))

    assert row_of(hits[0].id).saved_units == 40
    for rollup in (Day, QuarterHour):
        (kept,) = rollup._default_manager.filter(account_id=path.path[0].id)
        assert (kept.amount_units, kept.events, kept.saved_units) == (7, 3, 80)


def test_a_saving_is_never_less_than_nothing(cast: Cast) -> None:
    _, (id,) = spend(cast, NOON)
    columns = ", ".join(f'"{each}"' for each in ledger.COLUMNS)
    others = columns.replace('"id"', "gen_random_uuid()")

    for saved in ("-1", "NULL"):
        values = others.replace('"saved_units"', saved)
        rows = f"SELECT {values} FROM spend_event WHERE id = %s"
        with (
            pytest.raises(DatabaseError, match="event_saved_is_known"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"INSERT INTO spend_event ({columns}) {rows}", [id])


def test_partition_of_a_day_is_made_on_demand_and_once() -> None:
    days = [date(2031, 1, 1), date(2031, 1, 2), date(2031, 1, 1)]
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS spend_event_20310101, spend_event_20310102")

    made = [ledger.make_partitions(days), ledger.make_partitions(days)]

    assert made == [2, 0]


def test_event_lands_in_the_partition_of_its_admission_whenever_it_is_recorded(
    cast: Cast,
) -> None:
    yesterday = now() - timedelta(days=1)
    midnight = datetime(2026, 3, 15, tzinfo=UTC)

    _, ids = spend(cast, yesterday, midnight, midnight - timedelta(milliseconds=1))

    names = [f"spend_event_{yesterday:%Y%m%d}", "spend_event_20260315", "spend_event_20260314"]
    assert [partition_of(id) for id in ids] == names


def test_row_without_accounts_or_of_an_unknown_kind_is_refused(cast: Cast) -> None:
    _, (id,) = spend(cast, NOON)
    names = ", ".join(f'"{column}"' for column in ledger.COLUMNS if column not in {"id", "kind"})

    for kind, accounts in (("gift", "accounts"), ("usage", "'{}'")):
        columns = names.replace('"accounts"', accounts)
        with pytest.raises(DatabaseError, match="event_"), connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO spend_event (id, kind, {names})"
                f" SELECT %s, %s, {columns} FROM spend_event WHERE id = %s",
                [uuid4(), kind, id],
            )


# --- Orphans -----------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("kinds", [("orphan", "usage"), ("usage", "orphan")])
def test_orphan_and_true_settle_in_any_order_and_batch_net_to_the_true_cost(
    kinds: tuple[str, str], apart: bool, cast: Cast
) -> None:
    of, id = account(cast.organization), str(uuid4())
    path = context(cast.organization, [of])
    amounts = {"orphan": 100, "usage": 7}
    entries = [entry(path, amounts[kind], at=NOON, id=id, kind=kind) for kind in kinds]

    for batch in [[each] for each in entries] if apart else [entries]:
        apply(*batch)

    total = PeriodTotal.objects.get(account=of.id)
    assert sum(amount for _, amount in rows_of(id)) == 7
    assert total.amount_units == 7
    assert rolled_up(of.id)["Day"][0] == rolled_up(of.id)["QuarterHour"][0] == 7
    assert ("usage", 7) in rows_of(id)


def test_an_orphan_of_another_currency_costs_what_converts_to_the_amount_that_it_held(
    cast: Cast,
) -> None:
    path = context(cast.organization, [account(cast.organization)])
    rate, day = Decimal("0.777777777777777"), date(2026, 3, 13)
    payload = payload_of(path, exchange_rate=rate, exchange_rate_date=day, cost_currency="EUR")

    held = replace(entry(path, 123_456_789, at=NOON, kind="orphan"), payload=payload)
    apply(held)

    row = SpendEvent.objects.get(request_id=held.id)
    assert (row.exchange_rate, row.exchange_rate_date) == (rate, day)
    assert row.cost == Decimal("0.158730157285714444")
    converted = money.EXACT.multiply(row.cost, row.exchange_rate)
    assert money.to_units(converted, currency=row.currency) == row.amount_units == 123_456_789


def test_three_rows_tell_the_story_of_an_orphan_that_came_back(cast: Cast) -> None:
    of, id = account(cast.organization), str(uuid4())
    path = context(cast.organization, [of])

    apply(entry(path, 100, at=NOON, id=id, kind="orphan"))
    apply(entry(path, 7, at=NOON, id=id))

    rows = {row.kind: row for row in SpendEvent.objects.filter(request_id=id)}
    assert {kind: row.amount_units for kind, row in rows.items()} == {
        "orphan": 100, "usage": 7, "orphan_reversal": -100,
    }  # fmt: skip
    request = rows["usage"].request_id
    assert rows["usage"].id == request
    assert rows["orphan"].id == events.orphan_id(request)
    assert rows["orphan_reversal"].id == events.reversal_id(request)
    assert rows["orphan_reversal"].accounts == rows["orphan"].accounts
    assert rows["orphan_reversal"].cost == -rows["orphan"].cost


# --- Sums --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rollups_and_totals_equal_the_ledger(seed: int, cast: Cast) -> None:
    chance = random.Random(seed)
    accounts = [account(cast.organization) for _ in range(3)]
    paths = [context(cast.organization, chance.sample(accounts, n)) for n in (1, 2, 3)]
    entries = [
        entry(
            chance.choice(paths), chance.randrange(10**12),
            at=NOON + timedelta(seconds=chance.randrange(3 * 86_400)),
        )
        for _ in range(60)
    ]  # fmt: skip

    for first in range(0, 60, 17):
        apply(*entries[first : first + 17])

    for of in accounts:
        amounts = [each.amount for each in entries if of.id in each.path]
        expected = sum(amounts), len(amounts)
        total = PeriodTotal.objects.get(account=of.id)
        assert (total.amount_units, total.events) == expected
        assert ledger.sum_of(of.id, FOREVER) == expected
        assert rolled_up(of.id) == {"QuarterHour": expected, "Day": expected}


def test_quarter_hours_hold_what_was_admitted_in_them(cast: Cast) -> None:
    minute = timedelta(minutes=1)

    of, _ = spend(cast, NOON, NOON + 15 * minute - timedelta(milliseconds=1), NOON + 15 * minute)

    buckets = QuarterHour.objects.filter(account_id=of.id).order_by("bucket_start")
    assert list(buckets.values_list("bucket_start", "events")) == [
        (NOON, 2),
        (NOON + 15 * minute, 1),
    ]


def test_days_are_those_of_the_organizations_zone(cast: Cast) -> None:
    Organization.objects.filter(pk=cast.organization.pk).update(time_zone="Pacific/Kiritimati")
    kiritimati_midnight = datetime(2026, 3, 14, 10, tzinfo=UTC)

    of, _ = spend(cast, kiritimati_midnight, kiritimati_midnight - timedelta(milliseconds=1))

    days = Day.objects.filter(account_id=of.id).order_by("day")
    assert list(days.values_list("day", "events")) == [
        (date(2026, 3, 14), 1),
        (date(2026, 3, 15), 1),
    ]


def test_models_and_deployments_are_summed_apart(cast: Cast) -> None:
    of = account(cast.organization)
    path = context(cast.organization, [of])
    entries = [entry(path, amount, at=NOON) for amount in (1, 10, 100)]
    named = [
        (entries[0], payload_of(path, model="a")),
        (entries[1], payload_of(path, model="b")),
        (entries[2], payload_of(path, model="b", deployment="other")),
    ]

    apply(*(replace(each, payload=payload) for each, payload in named))

    rows = QuarterHour.objects.filter(account_id=of.id).values_list("model", "amount_units")
    assert sorted(rows) == [("a", 1), ("b", 10), ("b", 100)]


def test_end_users_and_tags_are_summed_apart_from_accounts(cast: Cast) -> None:
    organization = cast.organization
    id = derived_account_id(organization_id=organization.pk, kind=AccountKind.TAG, text="t")
    path = context(organization, [account(organization), PathAccount(id, AccountKind.TAG, "t")])
    once = entry(path, 5, at=NOON)

    apply(replace(once, payload=payload_of(path, tags=("t",))))

    assert LabelDay.objects.get(account_id=id).amount_units == 5
    assert not Day.objects.filter(account_id=id).exists()
    assert ledger.sum_of(id, FOREVER) == (5, 1)


def test_total_holds_what_was_admitted_from_its_start_until_before_its_end(cast: Cast) -> None:
    of = account(cast.organization)
    day = Period(datetime(2026, 3, 14, tzinfo=UTC), datetime(2026, 3, 15, tzinfo=UTC))
    with transaction.atomic():
        totals.lock_partition()
        totals.make_missing(wanted={(of.id, day)})
    path = context(cast.organization, [of])

    apply(*(entry(path, n, at=at) for n, at in ((1, day.start), (10, day.end))))

    assert PeriodTotal.objects.get(account=of.id, period_start=day.start).amount_units == 1


def test_requests_are_known_by_their_true_row_or_their_orphan(cast: Cast) -> None:
    path = context(cast.organization, [account(cast.organization)])
    true, orphan = entry(path, 1, at=NOON), entry(path, 1, at=NOON, kind="orphan")
    apply(true, orphan)
    ids = [UUID(true.id), UUID(orphan.id)]

    assert ledger.recorded_requests([*ids, uuid4()]) == set(ids)


def test_negative_amounts_and_the_largest_are_kept_to_the_unit(cast: Cast) -> None:
    of, _ = spend(cast, NOON, amount=2**63 - 1 - 10**18)

    assert ledger.sum_of(of.id, FOREVER) == (2**63 - 1 - 10**18, 1)


def _truncate_and_roll_back(table: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {table}")
        transaction.set_rollback(True)
