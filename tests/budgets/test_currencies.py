"""Which currencies there are, and that no other is taken anywhere."""

import os
import subprocess
import sys

import pytest
from django.core.exceptions import ValidationError

from budgets import currencies, money
from budgets.fields import validate_currency

NONE_OF_THEM = (
    "usd",
    "US",
    "USDX",
    "ＵＳＤ",
    "ZZZ",
    "XXX",
    "XTS",
    "XAU",
    "XDR",
    "BTC",
    "BGN",
    "HRK",
    "",
)


@pytest.mark.parametrize("code", ["USD", "EUR", "JPY", "KWD", "CLP", "ZWG", "XCG"])
def test_a_currency_in_use_is_taken(code: str) -> None:
    assert currencies.check(code) == code
    validate_currency(code)


@pytest.mark.parametrize("code", NONE_OF_THEM)
def test_what_is_no_currency_in_use_is_refused(code: str) -> None:
    with pytest.raises(currencies.UnknownCurrency):
        currencies.check(code)
    with pytest.raises(ValidationError, match="ISO 4217"):
        validate_currency(code)


def test_minor_units_are_those_of_the_standard() -> None:
    told = {code: currencies.CURRENCIES[code].minor_units for code in ("JPY", "USD", "KWD", "UYW")}

    assert told == {"JPY": 0, "USD": 2, "KWD": 3, "UYW": 4}
    assert all(each.name for each in currencies.CURRENCIES.values())


def test_every_currency_keeps_at_least_two_decimals_more_than_its_shops_do() -> None:
    for code, currency in currencies.CURRENCIES.items():
        assert money.decimals_of(code) >= currency.minor_units + 2, code
    assert set(money.DECIMALS) <= set(currencies.CURRENCIES)


@pytest.mark.no_servers
def test_a_platform_currency_that_there_is_not_ends_the_start_with_its_name() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import costplatform.settings"],
        env=os.environ | {"PLATFORM_CURRENCY": "ZZZ"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 1
    assert ended.stderr.startswith("PLATFORM_CURRENCY: ")
