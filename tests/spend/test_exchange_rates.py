"""Rates in Postgres: never edited, doubted where they should be, and the same twice is nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from pytest_django.fixtures import Settings

from budgets.errors import InvalidInput, NotFound
from budgets.models import Change
from budgets.snapshots import GLOBAL_SCOPE, version_of
from spend.currencies import ratebook
from spend.currencies.exchange import Source
from spend.models import ExchangeRate, RateFetch, RateState
from spend.services import exchange_rates
from tests import rates

YESTERDAY = 1


def states(pair: tuple[str, str]) -> list[tuple[str, str, bool]]:
    """Return (rate, state, replaced) of all rows of a pair, in the order in which they came."""
    rows = ExchangeRate.objects.filter(base=pair[0], quote=pair[1]).order_by("id")
    return [(f"{row.rate.normalize():f}", row.state, row.replaced_at is not None) for row in rows]


def worth(pair: tuple[str, str], on: date) -> Decimal | None:
    table = ratebook.read_table(on=rates.today())
    found = table.rate(of=pair[0], into=pair[1], on=on, stale_after_days=4)
    return found.value if found else None


# --- Adding --------------------------------------------------------------------------------


def test_adding_the_same_again_changes_nothing_not_even_the_version(pair: tuple[str, str]) -> None:
    first = rates.add(pair, "2")
    version, history = version_of(GLOBAL_SCOPE), Change.objects.count()

    again = rates.add(pair, "2.0")

    assert again.pk == first.pk
    assert (version_of(GLOBAL_SCOPE), Change.objects.count()) == (version, history)


def test_a_correction_is_another_row_that_replaces_the_one_before(pair: tuple[str, str]) -> None:
    rates.add(pair, "2")

    rates.add(pair, "2.1")

    assert states(pair) == [("2", "in_force", True), ("2.1", "in_force", False)]
    assert worth(pair, rates.today()) == Decimal("2.1")


def test_a_rate_of_another_source_replaces_nothing(pair: tuple[str, str]) -> None:
    rates.add(pair, "2", source=Source.ECB)
    rates.add(pair, "2.1", source=Source.HTTP)

    assert states(pair) == [("2", "in_force", False), ("2.1", "in_force", False)]
    assert worth(pair, rates.today()) == Decimal("2.1")


def test_every_rate_raises_the_version_that_gateways_check(pair: tuple[str, str]) -> None:
    before = version_of(GLOBAL_SCOPE)

    rates.add(pair, "2")

    assert version_of(GLOBAL_SCOPE) > before


@pytest.mark.parametrize("rate", ["0.2", "20", "0.5", "2.41", "1.66"])
def test_a_doubtful_rate_is_quarantined_and_the_one_before_stays(
    pair: tuple[str, str], rate: str
) -> None:
    rates.add(pair, "2", on=rates.days_ago(YESTERDAY))

    doubtful = rates.add(pair, rate)

    assert doubtful.state == RateState.QUARANTINED
    assert "the last rate in force is 2" in doubtful.doubt
    assert worth(pair, rates.today()) == 2


def test_how_far_a_rate_may_jump_is_a_setting(pair: tuple[str, str], settings: Settings) -> None:
    settings.EXCHANGE_RATE_JUMP_MAX = Decimal(3)
    rates.add(pair, "2", on=rates.days_ago(YESTERDAY))

    assert rates.add(pair, "5").state == RateState.IN_FORCE
    assert rates.add(pair, "16").state == RateState.QUARANTINED


def test_a_pairs_first_rate_is_held_against_what_follows_from_others(pair: tuple[str, str]) -> None:
    rates.add(pair, "2")

    inverted = rates.add((pair[1], pair[0]), "2")
    right = rates.add((pair[1], pair[0]), "0.5")

    assert (inverted.state, right.state) == ("quarantined", "in_force")
    assert "looks inverted: the last rate in force is 0.5" in inverted.doubt


def test_many_days_at_once_are_each_held_against_the_day_before(pair: tuple[str, str]) -> None:
    values = ("2", "2.2", "22", "2.4", "2.6")
    given = [(pair, value, rates.days_ago(9 - n)) for n, value in enumerate(values)]

    added = rates.adding(*reversed(given))

    assert [f"{row.rate:f}" for row in added.quarantined] == ["22"]
    assert len(added.in_force) == 4
    assert worth(pair, rates.today()) == Decimal("2.6")


def test_an_older_rate_that_comes_late_changes_nothing_newer(pair: tuple[str, str]) -> None:
    rates.add(pair, "2")
    rates.add(pair, "2.2", on=rates.days_ago(5))

    assert worth(pair, rates.today()) == 2


def test_a_table_holds_only_what_is_needed_from_now_on(pair: tuple[str, str]) -> None:
    days = (300, 30, 3, 2, 0, -3)
    rates.adding(*((pair, "2", rates.days_ago(days_ago)) for days_ago in days))

    kept = ratebook.read_table(on=rates.today()).quoted[pair]

    assert [each.day for each in kept] == [rates.days_ago(n) for n in (-3, 0, 2)]


# --- Deciding ------------------------------------------------------------------------------


def test_an_approved_correction_replaces_the_rate_that_it_corrects(pair: tuple[str, str]) -> None:
    rates.add(pair, "2")
    doubtful = rates.add(pair, "20")

    exchange_rates.approve_rate(rate_id=doubtful.pk, reason="it is so", now=rates.now())

    assert states(pair) == [("2", "in_force", True), ("20", "in_force", False)]
    assert worth(pair, rates.today()) == 20


def test_a_rate_in_force_can_be_taken_out_and_the_older_counts_again(pair: tuple[str, str]) -> None:
    rates.add(pair, "2", on=rates.days_ago(YESTERDAY))
    wrong = rates.add(pair, "2.1")

    exchange_rates.reject_rate(rate_id=wrong.pk, reason="of another day", now=rates.now())

    assert worth(pair, rates.today()) == 2


def test_what_is_replaced_or_in_force_is_not_decided_on(pair: tuple[str, str]) -> None:
    replaced, in_force = rates.add(pair, "2"), rates.add(pair, "2.1")

    with pytest.raises(InvalidInput, match="replaced already"):
        exchange_rates.reject_rate(rate_id=replaced.pk, reason="why", now=rates.now())
    with pytest.raises(InvalidInput, match="is in force, not quarantined"):
        exchange_rates.approve_rate(rate_id=in_force.pk, reason="why", now=rates.now())
    with pytest.raises(NotFound):
        exchange_rates.approve_rate(rate_id=0, reason="why", now=rates.now())


# --- What the database sees to -------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE spend_exchangerate SET rate = rate + 1 WHERE base = %s",
        "UPDATE spend_exchangerate SET date = date - 1 WHERE base = %s",
        "UPDATE spend_exchangerate SET source = 'ecb' WHERE base = %s",
        "DELETE FROM spend_exchangerate WHERE base = %s",
        "TRUNCATE spend_exchangerate -- %s",
    ],
)
def test_a_rate_is_never_edited_or_deleted_not_even_by_sql(
    pair: tuple[str, str], statement: str
) -> None:
    rates.add(pair, "2")

    with (
        pytest.raises(DatabaseError, match="never edited"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement.replace("%s", f"'{pair[0]}'"))

    assert states(pair) == [("2", "in_force", False)]


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("exchange_rate_in_range", {"rate": Decimal(0)}),
        ("exchange_rate_in_range", {"rate": Decimal(-1)}),
        ("exchange_rate_in_range", {"rate": Decimal(10**8 + 1)}),
        ("exchange_rate_of_two_currencies", {"quote": "USD"}),
        ("exchange_rate_state_is_known", {"state": "maybe"}),
        ("exchange_rate_quarantined_says_why", {"state": "quarantined"}),
        ("exchange_rate_replaced_was_in_force", {"state": "rejected", "replaced_at": rates.now()}),
    ],
)
def test_what_cannot_be_is_refused_by_name(constraint: str, fields: dict[str, object]) -> None:
    usual = {
        "source": "manual", "base": "USD", "quote": "CHF", "date": date(2020, 1, 1), "rate": 1,
        "state": "in_force", "created_at": rates.now(),
    }  # fmt: skip

    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ExchangeRate.objects.create(**usual | fields)


def test_no_two_rates_of_a_source_count_on_one_day(pair: tuple[str, str]) -> None:
    kept = rates.add(pair, "2")
    kept.pk, kept.rate = None, Decimal(3)

    with pytest.raises(IntegrityError, match="exchange_rate_in_force_once"), transaction.atomic():
        kept.save(force_insert=True)


# --- Fetches -------------------------------------------------------------------------------


def test_the_last_fetches_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_rates, "FETCHES_KEPT", 3)

    for n in range(5):
        exchange_rates.keep_fetch(RateFetch(at=rates.now(), problem=f"try {n}"))

    assert [each.problem for each in RateFetch.objects.all()] == ["try 4", "try 3", "try 2"]


# --- In parallel ---------------------------------------------------------------------------


def test_the_same_rate_added_by_many_at_once_is_one_rate(pair: tuple[str, str]) -> None:
    def add(_: int) -> int:
        try:
            return rates.add(pair, "2").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(add, range(16)))

    assert len(made) == 1
    assert states(pair) == [("2", "in_force", False)]
