"""How reports convert and round, and what they say of it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from spend.models import SpendEvent
from spend.reporting import report_figures
from spend.reporting.report_figures import Amount, GroupSum
from spend.reporting.report_sums import Group
from tests import rates
from tests.spend.report_support import (
    FIRST,
    SECOND,
    THIRD,
    amounts,
    rate,
    report,
    spender,
)

Pair = tuple[str, str]
CENT = Decimal("0.01")


@pytest.fixture
def pair(currency: str) -> Pair:
    """A currency without rates, and one that has minor units."""
    return currency, "EUR"


# --- Converting ----------------------------------------------------------------------------


def test_what_was_spent_in_the_currency_of_the_report_is_told_as_it_is() -> None:
    acme = spender()
    acme.spend("1.25")
    acme.spend("0.5", on=SECOND)

    found = report(acme)

    assert found.currency == "USD"
    assert amounts(found) == {("2026-03-02",): Decimal("1.25"), ("2026-03-03",): Decimal("0.50")}
    assert found.total.amount == Decimal("1.75")
    assert not found.rates
    assert not found.not_converted
    assert found.rounding == 0


def test_each_day_is_converted_at_its_own_rate(pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "2")
    rate(*pair, "2.2", on=SECOND)
    for day in (FIRST, SECOND, THIRD):
        acme.spend("10", on=day)

    found = report(acme, currency=pair[1])

    assert [row.figures.amount for row in found.rows] == [20, 22, 22]
    assert found.total.amount == 64
    assert found.total.original == (Amount(pair[0], Decimal(30)),)
    used = [(each.first_day, each.last_day, each.rate.value, each.rate.day) for each in found.rates]
    assert used == [(FIRST, FIRST, 2, FIRST), (SECOND, THIRD, Decimal("2.2"), SECOND)]


def test_a_later_correction_of_a_rate_changes_the_report_but_not_the_ledger(pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "2")
    request = acme.spend("10")
    kept = SpendEvent.objects.get(id=request).exchange_rate

    rate(*pair, "2.1")

    assert report(acme, currency=pair[1]).total.amount == 21
    assert SpendEvent.objects.get(id=request).exchange_rate == kept


def test_three_currencies_make_one_total_and_are_told_apart() -> None:
    with rates.lent(3) as (first, second, third):
        spenders = [spender(code) for code in (first, second, third)]
        rate(first, third, "3")
        rate(third, second, "0.25")
        for each in spenders:
            each.spend("1", model="shared")

        found = report(*spenders, by=[Group.MODEL], currency=third)

    (row,) = found.rows
    assert row.figures.amount == found.total.amount == 3 + 4 + 1
    assert {each.currency: each.amount for each in row.figures.original} == {
        first: 1, second: 1, third: 1,
    }  # fmt: skip
    assert {each.currency: each.rate.value for each in found.rates} == {first: 3, second: 4}


def test_a_day_without_a_rate_is_told_apart_and_in_no_total(pair: Pair) -> None:
    acme, other = spender(pair[0]), spender(pair[1])
    rate(*pair, "2", on=THIRD)
    for day in (FIRST, SECOND, THIRD):
        acme.spend("1.5", on=day)
    other.spend("7")

    found = report(acme, other, currency=pair[1])

    assert found.total.amount == 7 + 3
    (missing,) = found.not_converted
    assert (missing.currency, missing.days) == (pair[0], 2)
    assert missing.amount == 3
    assert (missing.first_day, missing.last_day) == (FIRST, SECOND)
    assert found.rows[0].figures.amount == 7
    assert found.rows[0].figures.not_converted == (Amount(pair[0], Decimal("1.5")),)
    assert found.rows[1].figures.amount == 0
    assert found.rows[2].figures.not_converted == ()


def test_a_rate_of_the_future_converts_nothing(pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "2", on=SECOND)
    acme.spend("1")

    found = report(acme, currency=pair[1], last_day=FIRST)

    assert found.total.amount == 0
    assert found.not_converted[0].amount == 1


def test_a_stale_rate_converts_and_is_marked_on_its_day_and_row(pair: Pair) -> None:
    acme = spender(pair[0])
    fresh = FIRST + timedelta(days=settings.EXCHANGE_RATE_STALE_DAYS)
    stale = fresh + timedelta(days=1)
    rate(*pair, "2")
    acme.spend("1", on=fresh)
    acme.spend("1", on=stale)

    found = report(acme, currency=pair[1], last_day=stale)

    assert [row.figures.is_stale for row in found.rows] == [False, True]
    assert [(each.first_day, each.rate.is_stale) for each in found.rates] == [
        (fresh, False), (stale, True),
    ]  # fmt: skip
    assert found.total.is_stale


def test_days_are_those_of_the_organizations_zone(pair: Pair) -> None:
    acme = spender(pair[0], time_zone="Asia/Tokyo")
    rate(*pair, "2")
    rate(*pair, "2.2", on=SECOND)
    evening = datetime(2026, 3, 2, 20, tzinfo=UTC)
    acme.spend("1", at=evening, team=acme.team(), user=acme.user())

    by_rollups = report(acme, currency=pair[1])
    by_ledger = report(acme, by=[Group.TEAM, Group.USER], currency=pair[1])

    assert amounts(by_rollups) == {("2026-03-03",): Decimal("2.20")}
    assert by_ledger.total == by_rollups.total


# --- Rounding ------------------------------------------------------------------------------


def test_the_total_is_rounded_once_and_the_rest_is_a_line_of_its_own() -> None:
    acme = spender()
    for n in range(3):
        acme.spend("0.004", model=f"m{n}")

    found = report(acme, by=[Group.MODEL])

    assert [row.figures.amount for row in found.rows] == [0, 0, 0]
    assert found.total.amount == CENT
    assert found.rounding == CENT
    assert found.total.exact == Decimal("0.012")


def test_converting_the_sum_is_summing_what_was_converted(pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "0.333333333333333")
    for n in range(7):
        acme.spend("0.000000001", model=f"m{n}")

    found = report(acme, by=[Group.MODEL], currency=pair[1])

    assert found.total.exact == 7 * Decimal("0.000000001") * Decimal("0.333333333333333")
    assert sum(row.figures.exact for row in found.rows) == found.total.exact


@pytest.mark.parametrize(
    ("code", "exact", "shown"),
    [
        ("JPY", "0.5", "0"), ("JPY", "1.5", "2"), ("USD", "0.005", "0.00"),
        ("USD", "0.015", "0.02"), ("KWD", "0.0015", "0.002"), ("USD", "-0.005", "-0.00"),
    ],
)  # fmt: skip
def test_amounts_are_rounded_half_to_even_to_minor_units(code: str, exact: str, shown: str) -> None:
    assert f"{report_figures.rounded(Decimal(exact), currency=code):f}" == shown


def test_no_row_is_rounded_by_more_than_half_a_minor_unit() -> None:
    # The most that can be: every row lies just below a half.
    sums = [group_sum(Decimal("0.004999999")) for _ in range(1_000)]
    total = report_figures.figures_of(sums, currency="USD")
    rows = [report_figures.figures_of([each], currency="USD") for each in sums]

    rounding = report_figures.rounding_of(total, rows)

    assert rounding == Decimal("5.00")
    assert rounding <= len(rows) * CENT / 2 + CENT / 2


@given(st.lists(st.decimals(-(10**9), 10**9, places=24), max_size=60))
def test_rows_and_rounding_always_add_up_to_the_total(amounts_of_rows: list[Decimal]) -> None:
    sums = [group_sum(amount) for amount in amounts_of_rows]
    total = report_figures.figures_of(sums, currency="USD")
    rows = [report_figures.figures_of([each], currency="USD") for each in sums]

    rounding = report_figures.rounding_of(total, rows)

    assert sum((row.amount for row in rows), rounding) == total.amount
    assert abs(rounding) <= (len(rows) + 1) * CENT / 2


def group_sum(converted: Decimal) -> GroupSum:
    return GroupSum(("x",), "EUR", 1, 0, converted, False, 1, 0, 0, 0)
