"""Rates and what follows from them: exact, dated, and never invented."""

from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets import money
from budgets.errors import InvalidInput
from spend.currencies import exchange
from spend.currencies.exchange import SAME, Offered, Quoted, Rate, RateTable, Source

pytestmark = pytest.mark.no_servers

MONDAY = date(2026, 11, 23)
FRIDAY, SATURDAY = MONDAY - timedelta(days=3), MONDAY - timedelta(days=2)
JUMP = Decimal("1.2")
BAD_RATES = (
    "NaN", "sNaN", "Infinity", "-Infinity", "1e400", "1e308", "-1", "-0", "1e-30", "１２", "٣",
    "1,000", "0x10", "", " 1", "1 ", "+1", ".5", "1.", "0", "0.0", "0." + "0" * 15 + "1",
    "100000000.1", "9" * 400, "1_000", "true", "[]", "1.0\n",
)  # fmt: skip
rates = st.decimals("0.000001", "1000000", places=15)


def quoted(pair: str, value: str, *, on: date = MONDAY, source: Source = Source.ECB) -> Quoted:
    return Quoted(pair[:3], pair[3:], on, Decimal(value), source)


def rate(table: RateTable, pair: str, *, on: date = MONDAY, stale_after: int = 4) -> Rate | None:
    return table.rate(of=pair[:3], into=pair[3:], on=on, stale_after_days=stale_after)


def value(table: RateTable, pair: str, *, on: date = MONDAY) -> str | None:
    found = rate(table, pair, on=on)
    return None if found is None else money.plain(found.value)


def offered(**fields: str) -> Offered:
    return Offered(
        **{"base": "EUR", "quote": "USD", "day": "2026-11-23", "rate": "1.0825"} | fields
    )


# --- What follows from rates ---------------------------------------------------------------


def test_a_currency_in_itself_is_worth_one_and_needs_no_rate() -> None:
    assert rate(exchange.NO_RATES, "EUREUR") == SAME


@pytest.mark.parametrize("pair", ["EURUSD", "USDEUR", "USDGBP"])
def test_without_a_rate_there_is_none_and_never_one(pair: str) -> None:
    assert rate(exchange.NO_RATES, pair) is None
    assert rate(exchange.table_of([quoted("EURJPY", "170")]), pair) is None


def test_a_rate_is_used_straight_inverted_and_across() -> None:
    table = exchange.table_of([quoted("EURUSD", "1.25"), quoted("EURGBP", "0.8")])

    found = [value(table, pair) for pair in ("EURUSD", "USDEUR", "GBPUSD", "USDGBP")]

    assert found == ["1.25", "0.8", "1.5625", "0.64"]


def test_a_rate_quoted_against_another_base_leads_on_through_it() -> None:
    table = exchange.table_of([quoted("USDEUR", "0.5"), quoted("EURGBP", "0.8")])

    assert value(table, "USDGBP") == "0.4"
    assert value(table, "GBPUSD") == "2.5"


@given(one=rates, other=rates)
def test_a_cross_rate_is_rounded_once_half_to_even(one: Decimal, other: Decimal) -> None:
    table = exchange.table_of([quoted("EURUSD", str(one)), quoted("EURGBP", str(other))])
    exact = Fraction(other) / Fraction(one)

    found = rate(table, "USDGBP")

    if found is None:
        assert exact * 10**15 <= Fraction(1, 2) or exact > 10**8
        return
    with localcontext(prec=200):
        nearest = (Decimal(exact.numerator) / exact.denominator).quantize(
            Decimal("1E-15"), ROUND_HALF_EVEN
        )
    assert found.value == nearest


def test_a_rate_that_rounds_to_nothing_is_none() -> None:
    table = exchange.table_of([quoted("EURUSD", "90000000"), quoted("EURGBP", "0.000000000000001")])

    assert rate(table, "USDGBP") is None


# --- Dates ---------------------------------------------------------------------------------


def test_the_newest_rate_of_the_day_or_before_counts_and_none_of_the_future() -> None:
    table = exchange.table_of(
        [quoted("EURUSD", "1.1", on=FRIDAY), quoted("EURUSD", "1.2", on=MONDAY)]
    )
    days = (FRIDAY - timedelta(days=1), FRIDAY, SATURDAY, MONDAY, MONDAY + timedelta(days=1))

    found = [value(table, "EURUSD", on=day) for day in days]

    assert found == [None, "1.1", "1.1", "1.2", "1.2"]


@pytest.mark.parametrize(("days_old", "is_stale"), [(0, False), (3, False), (4, False), (5, True)])
def test_a_rate_is_stale_after_so_many_days_of_the_calendar(days_old: int, is_stale: bool) -> None:
    table = exchange.table_of([quoted("EURUSD", "1.1", on=FRIDAY)])

    found = rate(table, "EURUSD", on=FRIDAY + timedelta(days=days_old))

    assert found == Rate(Decimal("1.1"), FRIDAY, is_stale)


@pytest.mark.parametrize(("stale_after", "is_stale"), [(2, True), (3, False)])
def test_fridays_rate_on_monday_is_stale_only_where_weekends_are_not_allowed_for(
    stale_after: int, is_stale: bool
) -> None:
    table = exchange.table_of([quoted("EURUSD", "1.1", on=FRIDAY)])

    found = rate(table, "EURUSD", stale_after=stale_after)

    assert found is not None
    assert found.is_stale is is_stale


def test_a_cross_rate_is_as_old_as_the_older_of_the_two() -> None:
    table = exchange.table_of([quoted("EURUSD", "1.25"), quoted("EURGBP", "0.8", on=FRIDAY)])

    found = rate(table, "USDGBP")

    assert found is not None
    assert found.day == FRIDAY


# --- Sources -------------------------------------------------------------------------------


def test_of_one_date_the_stronger_source_counts() -> None:
    sources = [Source.ECB, Source.MANUAL, Source.HTTP]
    all_of_them = [quoted("EURUSD", f"1.{n}", source=each) for n, each in enumerate(sources, 1)]

    without_manual = [each for each in all_of_them if each.source != Source.MANUAL]

    assert value(exchange.table_of(all_of_them), "EURUSD") == "1.2"
    assert value(exchange.table_of(without_manual), "EURUSD") == "1.3"


def test_a_newer_rate_counts_whatever_its_source() -> None:
    table = exchange.table_of(
        [quoted("EURUSD", "1.1", on=FRIDAY, source=Source.MANUAL), quoted("EURUSD", "1.2")]
    )

    assert value(table, "EURUSD") == "1.2"


def test_a_manual_rate_the_other_way_round_beats_the_banks_of_the_same_day() -> None:
    table = exchange.table_of(
        [quoted("EURUSD", "1.1"), quoted("USDEUR", "0.8", source=Source.MANUAL)]
    )

    assert value(table, "EURUSD") == "1.25"


def test_a_rate_of_its_own_beats_a_way_across_of_the_same_day_and_source() -> None:
    table = exchange.table_of(
        [quoted("EURUSD", "1.25"), quoted("EURGBP", "0.8"), quoted("USDGBP", "0.7")]
    )

    assert value(table, "USDGBP") == "0.7"


# --- Conversion ----------------------------------------------------------------------------


@given(cost=st.decimals(0, 10**9, places=18), worth=rates)
def test_a_conversion_is_exact_and_what_was_held_comes_back_to_the_unit(
    cost: Decimal, worth: Decimal
) -> None:
    way = Rate(worth, MONDAY)

    converted = way.convert(cost)
    units = money.to_units(converted, currency="EUR") if converted < 10**9 else 7
    held = money.to_decimal(units, currency="EUR")

    assert Fraction(converted) == Fraction(cost) * Fraction(worth)
    assert money.to_units(way.convert(way.convert_back(held)), currency="EUR") == units


def test_what_is_not_converted_is_the_same() -> None:
    assert SAME.convert(Decimal("0.1")) == SAME.convert_back(Decimal("0.1")) == Decimal("0.1")


# --- What is taken for a rate --------------------------------------------------------------


@pytest.mark.parametrize("text", BAD_RATES)
def test_what_is_no_rate_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        exchange.checked(offered(rate=text), source=Source.ECB, today=MONDAY)

    assert refused.value.field == "rate"


@pytest.mark.parametrize(
    ("field", "name", "text"),
    [
        ("base", "base", "eur"), ("base", "base", "ZZZ"), ("quote", "quote", "BTC"),
        ("quote", "quote", "EUR"), ("day", "date", "2026-11-31"), ("day", "date", "20261123"),
        ("day", "date", "２０２６-11-23"), ("day", "date", "1998-12-31"), ("day", "date", ""),
        ("day", "date", "2026-12-25"), ("day", "date", "9999-12-31"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_field(field: str, name: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        exchange.checked(offered(**{field: text}), source=Source.ECB, today=MONDAY)

    assert refused.value.field == name


@pytest.mark.parametrize("text", ["1", "1.0825", "0.000000000000001", "100000000", "007.5"])
def test_a_rate_in_digits_is_taken_exactly(text: str) -> None:
    found = exchange.checked(offered(rate=text), source=Source.HTTP, today=MONDAY)

    assert found == Quoted("EUR", "USD", MONDAY, Decimal(text), Source.HTTP)


# --- Doubt ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("previous", "now", "word"),
    [
        ("1.08", "1.05", ""), ("1.08", "1.296", ""), ("1.5", "1.25", ""), ("0.995", "1.01", ""),
        ("1.003", "0.997", ""), ("1.08", "1.2961", "jumps"), ("1.5", "1.2499", "jumps"),
        ("1.08", "10.8", "jumps"), ("1.08", "0.108", "jumps"), ("170", "1700", "jumps"),
        ("1.08", "0.926", "inverted"), ("170", "0.00588", "inverted"), ("0.83", "1.2", "inverted"),
    ],
)  # fmt: skip
def test_a_rate_that_jumps_or_looks_inverted_is_doubted(previous: str, now: str, word: str) -> None:
    found = exchange.doubt_about(Decimal(now), previous=Decimal(previous), jump_max=JUMP)

    assert (word in found) if word else found == ""


@given(previous=rates)
def test_ten_times_as_much_is_always_doubted(previous: Decimal) -> None:
    assert exchange.doubt_about(previous * 10, previous=previous, jump_max=JUMP)
    assert exchange.doubt_about(previous / 10, previous=previous, jump_max=JUMP)
