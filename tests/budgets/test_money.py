"""Money is whole units of a currency: rounded once, exact both ways, and bounded."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets import money
from budgets.money import AmountTooLarge, Units

pytestmark = pytest.mark.no_servers

CURRENCIES = ["USD", "EUR", "KWD", "XXX", *money.DECIMALS]
amounts = st.decimals(min_value=-(10**9), max_value=10**9, places=18)
currencies = st.sampled_from(CURRENCIES)


@pytest.mark.parametrize(
    ("amount", "units"),
    [
        ("1", 1_000_000_000),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("0.00000000250000000000000001", 3),
        ("-0.0000000015", -2),
        ("-0.0000000025", -2),
        ("0.000000002499999999999999999999", 2),
    ],
)
def test_cost_is_rounded_half_to_even(amount: str, units: int) -> None:
    assert money.to_units(Decimal(amount), currency="USD") == units


def test_rounding_happens_once() -> None:
    """Twice would give 3: 2.4999… to 2.5, then to 3 or 2."""
    amount = Decimal("0.0000000024999999999999999999999999999")

    assert money.to_units(amount, currency="USD") == 2


@pytest.mark.parametrize("amount", ["0.0000000019", "0.000000001"])
def test_limit_is_rounded_down(amount: str) -> None:
    assert money.limit_to_units(Decimal(amount), currency="USD") == 1


@pytest.mark.parametrize("amount", ["0.00000000100000000000000001", "0.000000002"])
def test_ceiling_is_rounded_up(amount: str) -> None:
    assert money.ceiling_to_units(Decimal(amount), currency="USD") == 2


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [("USD", 9), ("EUR", 9), ("JPY", 7), ("VND", 5), ("IRR", 4), ("KRW", 6), ("ABC", 9)],
)
def test_currency_has_as_many_decimals_as_its_worth_allows(currency: str, decimals: int) -> None:
    assert money.decimals_of(currency) == decimals
    assert money.to_units(Decimal(1), currency=currency) == 10**decimals


@pytest.mark.parametrize("currency", CURRENCIES)
def test_the_highest_limit_fits_in_every_currency(currency: str) -> None:
    units = money.limit_to_units(money.LIMIT_MAX, currency=currency)

    assert units == 10 ** (9 + money.decimals_of(currency))
    assert units <= money.UNITS_MAX


@pytest.mark.parametrize("rounding", [money.to_units, money.limit_to_units, money.ceiling_to_units])
@pytest.mark.parametrize("sign", [1, -1])
def test_amount_beyond_64_bits_is_refused(rounding: object, sign: int) -> None:
    most = sign * Decimal(2**63 - 1).scaleb(-9)

    assert rounding(most, currency="USD") == sign * (2**63 - 1)  # type: ignore[operator]
    with pytest.raises(AmountTooLarge, match="USD"):
        rounding(most + sign * Decimal("0.000000001"), currency="USD")  # type: ignore[operator]


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises((ArithmeticError, ValueError)):
        money.to_units(Decimal(amount), currency="USD")


@given(units=st.integers(-(2**63) + 1, 2**63 - 1), currency=currencies)
def test_units_survive_the_way_to_a_decimal_and_back(units: int, currency: str) -> None:
    amount = money.to_decimal(units, currency=currency)

    assert amount.scaleb(money.decimals_of(currency), context=money.WIDE) == units
    assert money.to_units(amount, currency=currency) == units
    assert money.limit_to_units(amount, currency=currency) == units
    assert money.ceiling_to_units(amount, currency=currency) == units


@given(amount=amounts, currency=currencies)
def test_rounding_is_off_by_half_a_unit_at_most_and_never_in_the_forbidden_direction(
    amount: Decimal, currency: str
) -> None:
    exact = money.WIDE.scaleb(amount, money.decimals_of(currency))

    nearest, down, up = (
        rounding(amount, currency=currency)
        for rounding in (money.to_units, money.limit_to_units, money.ceiling_to_units)
    )

    assert abs(money.WIDE.subtract(exact, Decimal(nearest))) <= Decimal("0.5")
    assert down <= exact <= up
    assert up - down <= 1
    assert down <= nearest <= up


@given(amount=amounts, more=amounts.filter(lambda each: each >= 0), currency=currencies)
def test_no_cost_below_a_ceiling_rounds_above_it(
    amount: Decimal, more: Decimal, currency: str
) -> None:
    ceiling = money.ceiling_to_units(money.EXACT.add(amount, more), currency=currency)

    assert money.to_units(amount, currency=currency) <= ceiling


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.00000125", "0.00000125"),
        ("1E-18", "0.000000000000000001"),
        ("12.000", "12"),
        ("1E+3", "1000"),
        ("100", "100"),
        ("-0.0", "0"),
        ("0E-9", "0"),
        ("-1.50", "-1.5"),
    ],
)
def test_plain_text_has_no_exponent_and_no_needless_zeros(amount: str, text: str) -> None:
    assert money.plain(Decimal(amount)) == text


@given(
    amount=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20)
)
def test_plain_text_is_the_same_number_in_digits(amount: Decimal) -> None:
    text = money.plain(amount)

    assert Decimal(text) == amount
    assert set(text) <= set("-0123456789.")
    assert not text.endswith(".")


def test_units_keep_the_decimals_of_their_currency() -> None:
    assert str(money.to_decimal(Units(1_500_000_000), currency="USD")) == "1.500000000"
    assert str(money.to_decimal(Units(15_000_000), currency="JPY")) == "1.5000000"


@given(st.integers(-(10**18), 10**18), st.sampled_from(["USD", "JPY", "VND", "EUR"]))
def test_units_are_written_as_their_amount_is(units: int, currency: str) -> None:
    amount = money.to_decimal(units, currency=currency)

    assert money.plain_units(units, currency=currency) == money.plain(amount)
