"""
What a price may say: each value is checked here once, for the admin, the API and programs alike.

Numbers come as text, as whole numbers or as decimals; digits are ASCII digits, without exponents
or separators. An error names its field: ``rates[2].per``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Final

from budgets import money
from budgets.errors import InvalidInput
from spend import units, windows
from spend.components import Component, rated
from spend.jumps import Charged, is_jump
from spend.rates import STANDARD_NAMES, Rate, UnitRate

RATE_MAX: Final = Decimal(10**6)
RATE_DECIMALS_MAX: Final = 18
RATES_MAX: Final = 500
PER_MAX: Final = 2**31 - 1
TIER_MAX: Final = 2**31 - 1
VARIANT_LENGTH_MAX: Final = 64
REGION_FACTOR_MAX: Final = Decimal(100)
REGION_FACTOR_DECIMALS_MAX: Final = 18
REGIONS_MAX: Final = 100
JUMP_MAX: Final = 10
"""A rate that is more than so many times the one before, or less than such a part, is a jump."""
_SHORT: Final = Context(prec=6)
_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,60})?")
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_SERVICE_TIER: Final = re.compile(r"[a-z][a-z0-9_-]{0,23}")
_REGION: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class NotConfirmed(InvalidInput):
    """What was given is likely a slip, and would be written if it was confirmed."""


@dataclass(frozen=True, slots=True)
class Jump:
    """
    What a class is charged, far from before; ``before`` is None where nothing was.

    ``index`` is the place of the rate among the new ones, None where its rate is there no more.
    """

    index: int | None
    before: Rate | None
    after: Rate

    @property
    def problem(self) -> str:
        told = units.written(self.after)
        if self.index is None:
            told = f"no more of {units.name_of(self.after.component)}, which then costs {told}"
        if self.before is None:
            return f"is {told}, which is a lot; confirm it, or mend what it is for"
        was = units.written(self.before)
        return f"is {told}, and was {was}{_times(self.before, self.after)}; confirm it, or mend it"


def number(
    value: object,
    *,
    field: str,
    most: Decimal,
    decimals: int = RATE_DECIMALS_MAX,
    above_zero: bool = False,
) -> Decimal:
    """
    Return an exact number from 0 to ``most``.

    :raises InvalidInput: if it is none, or needs more decimals
    """
    found = _decimal(value)
    if found is None:
        raise InvalidInput(field, "must be a number in digits, such as 2.50")
    least = "above 0 and at most" if above_zero else "from 0 to"
    if not 0 <= found <= most or (above_zero and not found):
        raise InvalidInput(field, f"must be {least} {money.plain(most)}")
    if not money.fits_in_decimals(found, decimals):
        raise InvalidInput(field, f"must not have more than {decimals} decimals")
    return abs(found)


def whole(value: object, *, field: str, least: int = 0, most: int) -> int:
    """
    Return a whole number in a range.

    :raises InvalidInput: if it is none
    """
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(field, "must be a whole number in digits")
    if not least <= value <= most:
        raise InvalidInput(field, f"must be from {least} to {most}")
    return value


def rates(given: Sequence[Mapping[str, object]]) -> tuple[Rate, ...]:
    """
    Return the rates of a price: at least one, none twice, none for large requests only, and no
    two that hold at the same time by their windows.

    :raises InvalidInput: naming the place that does not fit
    """
    if not 0 < len(given) <= RATES_MAX:
        raise InvalidInput("rates", f"must be from 1 to {RATES_MAX} rates")
    found = tuple(rate(each, field=f"rates[{index}]") for index, each in enumerate(given))
    known = set(map(place, found))
    for index, each in enumerate(found):
        if (each.key, each.service_tier, each.window, 0) not in known:
            problem = f"has no rate of {each.component} from 0 input tokens on beside it"
            raise InvalidInput(f"rates[{index}].tier_from", problem)
        if place(each) in map(place, found[:index]):
            raise InvalidInput(f"rates[{index}].component", "is there twice")
    overlap = find_overlap(found)
    if overlap is not None:
        problem = "holds at times at which another window of this class does"
        raise InvalidInput(f"rates[{overlap}].window", problem)
    return found


def find_overlap(rates: Sequence[Rate]) -> int | None:
    """Return the place of a rate whose window holds while another one of its class does."""
    first: dict[tuple[object, ...], dict[str, int]] = {}
    for index, each in enumerate(rates):
        if each.window:
            first.setdefault((each.key, each.service_tier), {}).setdefault(each.window, index)
    overlaps = ((of_class, windows.find_overlap(of_class)) for of_class in first.values())
    return next((of_class[text] for of_class, text in overlaps if text is not None), None)


def rate(given: Mapping[str, object], *, field: str) -> Rate:
    """
    Return one rate; without ``per`` it is for as many units as price pages tell prices of.

    :raises InvalidInput: naming what does not fit, below ``field``
    """
    component = _component(given.get("component"), field=f"{field}.component")
    per = given.get("per")
    return Rate(
        component,
        number(given.get("rate"), field=f"{field}.rate", most=RATE_MAX),
        whole(_or(given.get("tier_from"), 0), field=f"{field}.tier_from", most=TIER_MAX),
        units.default_per(component)
        if per is None
        else whole(per, field=f"{field}.per", least=1, most=PER_MAX),
        _service_tier(_or(given.get("service_tier"), ""), field=f"{field}.service_tier"),
        _variant(_or(given.get("variant"), ""), field=f"{field}.variant"),
        _window(_or(given.get("window"), ""), field=f"{field}.window"),
    )


def region_factors(given: object) -> dict[str, str]:
    """
    Return by what rates are multiplied in each region, as exact decimals in text.

    :raises InvalidInput: naming the region that does not fit
    """
    if not isinstance(given, Mapping) or len(given) > REGIONS_MAX:
        raise InvalidInput("region_factors", f"must be an object of at most {REGIONS_MAX} regions")
    found = {}
    for name, value in given.items():
        field = f"region_factors.{name}"[:255]
        if not isinstance(name, str) or not _REGION.fullmatch(name):
            raise InvalidInput(field, "is no name of a region, such as us or eu-west-1")
        factor = number(
            value, field=field, most=REGION_FACTOR_MAX,
            decimals=REGION_FACTOR_DECIMALS_MAX, above_zero=True,
        )  # fmt: skip
        found[name] = money.plain(factor)
    return found


def jumps(new: Sequence[Rate], old: Sequence[Rate], *, currency: str) -> list[Jump]:
    """Return what is charged far from what it was at the price before, or dear without one."""
    now, then = Charged(old, currency=currency), Charged(new, currency=currency)
    indexes: dict[tuple[object, ...], int] = {place(each): at for at, each in enumerate(new)}
    gone = [each for each in old if place(each) not in indexes]
    found = []
    for each in (*new, *gone):
        costs = now.like(each), then.like(each)
        if is_jump(*costs, component=each.component, currency=currency, jump_max=JUMP_MAX):
            before, after = (_costing(each, cost) for cost in costs)
            found.append(Jump(indexes.get(place(each)), before, after or each))
    return found


def factor(before: Rate, after: Rate) -> Decimal | None:
    """Return how many times the rate before a rate is, to 6 digits; None is: it was 0."""
    if not before.rate:
        return None
    ratio = money.WIDE.divide(
        after.rate * before.per, money.WIDE.multiply(before.rate, Decimal(after.per))
    )
    return ratio.normalize(_SHORT)


def place(rate: Rate) -> tuple[object, ...]:
    """Return what tells rates of one price apart: class and conditions."""
    return (rate.key, rate.service_tier, rate.window, rate.tier_from)


def _costing(rate: Rate, cost: UnitRate | None) -> Rate | None:
    return None if cost is None else replace(rate, rate=cost.value, per=cost.per)


def _or(value: object, default: object) -> object:
    return default if value is None else value


def _times(before: Rate, after: Rate) -> str:
    ratio = factor(before, after)
    return f" (× {money.plain(ratio)})" if ratio else ""


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return Decimal(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, int | Decimal):
        found = Decimal(value)
        return found if found.is_finite() else None
    return None


def _component(value: object, *, field: str) -> Component:
    try:
        return rated(str(value))
    except ValueError as error:
        raise InvalidInput(field, "is no class of usage that is known here") from error


def _service_tier(value: object, *, field: str) -> str:
    if value in STANDARD_NAMES and value:
        raise InvalidInput(field, "must be left out for standard requests")
    if value and not (isinstance(value, str) and _SERVICE_TIER.fullmatch(value)):
        raise InvalidInput(field, "must be small letters, digits, - and _, such as batch")
    return str(value)


def _variant(value: object, *, field: str) -> str:
    is_fit = isinstance(value, str) and value.isprintable() and len(value) <= VARIANT_LENGTH_MAX
    if not is_fit:
        raise InvalidInput(field, f"must be printable, {VARIANT_LENGTH_MAX} characters at most")
    return str(value)


def _window(value: object, *, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(field, "must be a text")
    try:
        windows.parse(value) if value else ()
    except windows.InvalidWindow as error:
        raise InvalidInput(field, str(error)) from error
    return str(value)
