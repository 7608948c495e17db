"""
Money as integers: units of 10⁻ᵈ of a currency, and back. No floats, one rounding.

``d`` is 9 for most currencies and less where a unit of the currency is worth little, so that
64 bits hold a thousand million US dollars' worth of any of them.
"""

from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
)
from typing import Final, NewType

Units = NewType("Units", int)

DECIMALS_MOST: Final = 9
DECIMALS: Final[dict[str, int]] = {
    "CLP": 6, "COP": 6, "CRC": 7, "CZK": 8, "DKK": 8, "HKD": 8, "HUF": 7, "IDR": 5, "INR": 7,
    "IRR": 4, "ISK": 7, "JPY": 7, "KRW": 6, "LBP": 5, "MXN": 8, "NGN": 6, "NOK": 8, "PHP": 8,
    "PKR": 7, "RUB": 8, "SEK": 8, "THB": 8, "TRY": 8, "TWD": 8, "UAH": 8, "UZS": 5, "VND": 5,
    "ZAR": 8,
}  # fmt: skip
UNITS_MAX: Final = 2**63 - 1
LIMIT_MAX: Final = Decimal(10**9)
LIMIT_DECIMALS: Final = 9
# What a price of 10⁻¹⁸ costs for any number of tokens, times an exchange rate of 10⁻¹⁵.
EXACT: Final = Context(prec=100, traps=[Inexact, InvalidOperation])
WIDE: Final = Context(prec=100)


class AmountTooLarge(ValueError):
    """The amount does not fit in 64 bits of its currency's units."""


def decimals_of(currency: str) -> int:
    return DECIMALS.get(currency, DECIMALS_MOST)


def to_units(amount: Decimal, *, currency: str) -> Units:
    """
    Return ``amount`` in units of ``currency``, rounded once, half to even.

    :raises AmountTooLarge: if it does not fit in 64 bits
    """
    return _units(amount, currency, ROUND_HALF_EVEN)


def limit_to_units(limit: Decimal, *, currency: str) -> Units:
    """
    Return a limit in units of ``currency``, rounded down: a limit is never exceeded by rounding.

    :raises AmountTooLarge: if it does not fit in 64 bits
    """
    return _units(limit, currency, ROUND_FLOOR)


def ceiling_to_units(amount: Decimal, *, currency: str) -> Units:
    """
    Return a ceiling in units of ``currency``, rounded up: no cost below it rounds above it.

    :raises AmountTooLarge: if it does not fit in 64 bits
    """
    return _units(amount, currency, ROUND_CEILING)


def to_decimal(units: int, *, currency: str) -> Decimal:
    """Return ``units`` as an exact amount of ``currency``, with as many decimals as it keeps."""
    return EXACT.scaleb(Decimal(units), -decimals_of(currency))


def fits_in_decimals(amount: Decimal, decimals: int) -> bool:
    """Return whether ``amount`` needs no more than so many digits behind the point."""
    return bool(WIDE.quantize(amount, Decimal(1).scaleb(-decimals)) == amount)


def plain(amount: Decimal) -> str:
    """Return ``amount`` in digits without an exponent or needless zeros: ``0.00000125``, ``12``."""
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def plain_units(units: int, *, currency: str) -> str:
    """Return ``units`` as :func:`plain` writes the amount that they are."""
    whole, rest = divmod(abs(units), 10 ** decimals_of(currency))
    sign = "-" if units < 0 else ""
    if not rest:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{rest:0{decimals_of(currency)}d}".rstrip("0")


def _units(amount: Decimal, currency: str, rounding: str) -> Units:
    assert isinstance(amount, Decimal), "money is never a float"
    shifted = WIDE.scaleb(amount, decimals_of(currency))
    units = int(shifted.to_integral_value(rounding=rounding))
    if abs(units) > UNITS_MAX:
        raise AmountTooLarge(f"{plain(amount)} {currency} does not fit in 64 bits")
    return Units(units)
