"""How amounts, shares and instants are written."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from budgets import display

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        ("0", "USD", "USD 0.00"),
        ("1234.5", "USD", "USD 1,234.50"),
        ("0.005", "USD", "<USD 0.01"),
        ("-0.000000001", "USD", "−<USD 0.01"),
        ("0.3", "JPY", "<JPY 1"),
        ("1200", "JPY", "JPY 1,200"),
        ("1.2345", "KWD", "KWD 1.234"),
        ("999999999.999999999", "USD", "USD 1,000,000,000.00"),
    ],
)
def test_an_amount_has_its_currency_and_is_never_zero_when_it_is_not(
    value: str, currency: str, text: str
) -> None:
    assert display.amount(Decimal(value), currency) == text


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "USD 0.00"),
        ("0.00123456", "USD 0.0012"),
        ("-0.0000009876", "−USD 0.00000099"),
        ("0.01", "USD 0.01"),
        ("12.345", "USD 12.34"),
    ],
)
def test_a_tiny_amount_keeps_two_digits_where_there_is_room(value: str, text: str) -> None:
    assert display.fine_amount(Decimal(value), "USD") == text


@pytest.mark.no_servers
def test_the_exact_amount_has_all_its_decimals_and_no_exponent() -> None:
    assert display.exact(Decimal("1.250E-7"), "USD") == "USD 0.000000125"


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        ("99.999", "100", "99.9 %"),
        ("100", "100", "100.0 %"),
        ("250", "100", "250.0 %"),
        ("0", "0", "100.0 %"),
        ("1", "3", "33.3 %"),
    ],
)
def test_a_share_is_rounded_down_and_a_limit_of_zero_is_used_up(
    part: str, whole: str, text: str
) -> None:
    assert display.percent(Decimal(part), Decimal(whole)) == text


@pytest.mark.no_servers
def test_what_is_left_is_rounded_down_and_an_overrun_is_called_one() -> None:
    assert display.left(Decimal(10), Decimal("0.001"), "USD") == "USD 9.99 left"
    assert display.left(Decimal(10), Decimal("9.999"), "USD") == "<USD 0.01 left"
    assert display.left(Decimal(10), Decimal(12), "USD") == "over by USD 2.00"


@pytest.mark.no_servers
def test_a_rate_is_shown_exactly_for_a_million() -> None:
    assert display.per_million(Decimal("0.00000125")) == "1.25"
    assert display.per_million(Decimal("0.000000000000000001")) == "0.000000000001"


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("away", "text"),
    [
        (timedelta(days=8, hours=23), "in 8 days"),
        (timedelta(hours=1), "in 1 hour"),
        (timedelta(seconds=20), "in less than a minute"),
        (timedelta(seconds=-20), "just now"),
        (-timedelta(minutes=3), "3 minutes ago"),
        (timedelta(days=800), "in 2 years"),
    ],
)
def test_how_far_an_instant_is_away_is_rounded_down(away: timedelta, text: str) -> None:
    assert display.relative(NOW + away, now=NOW) == text


@pytest.mark.no_servers
def test_a_moment_names_its_zone() -> None:
    paris = datetime(2026, 12, 1, tzinfo=ZoneInfo("Europe/Paris"))

    assert display.moment(paris) == "2026-12-01 00:00 Europe/Paris"
