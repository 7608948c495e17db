"""Types of what the endpoints of prices may be sent; amounts are texts."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from budgets.api.fields import Parsed
from budgets.errors import InvalidInput
from spend import instants, price_terms

_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})"
)


class NumberText(Parsed):
    """An exact number from 0 on, as text."""

    def __init__(self, *, most: Decimal, decimals: int, above_zero: bool = False, **options: Any):
        super().__init__(**options)
        self.most = most
        self.decimals = decimals
        self.above_zero = above_zero

    def parse(self, text: str) -> Decimal:
        try:
            return price_terms.number(
                text, field="", most=self.most, decimals=self.decimals, above_zero=self.above_zero
            )
        except InvalidInput as error:
            raise ValueError(error.problem) from error


class RateText(NumberText):
    """What so many units cost."""

    def __init__(self, **options: Any) -> None:
        most, decimals = price_terms.RATE_MAX, price_terms.RATE_DECIMALS_MAX
        super().__init__(most=most, decimals=decimals, **options)


class FactorText(NumberText):
    """By what rates are multiplied in a region."""

    def __init__(self, **options: Any) -> None:
        most, decimals = price_terms.REGION_FACTOR_MAX, price_terms.REGION_FACTOR_DECIMALS_MAX
        super().__init__(most=most, decimals=decimals, above_zero=True, **options)


class Instant(Parsed):
    """A day of UTC, or a time with its zone, such as ``2026-11-01T09:30Z``."""

    def parse(self, text: str) -> datetime:
        return instants.parse(text)
