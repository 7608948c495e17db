"""What every list must hold to before anything is done with it, whatever its form."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from budgets.currencies import CURRENCIES
from spend import price_terms, windows
from spend.catalogues.listing import InvalidPriceList, ListedModel, ListedPrice, Listing
from spend.rates import RATE_MAX, Rate

MODELS_MAX: Final = 20_000
RATES_MAX: Final = 200_000
RATES_OF_A_MODEL_MAX: Final = 1_000
RATE_DECIMALS: Final = 18
NAME_LENGTH_MAX: Final = 255
TEXT_LENGTH_MAX: Final = {"service_tier": 24, "variant": 64}
COUNT_MAX: Final = 2**31 - 1
FACTOR_MAX: Final = Decimal(100)
PROVIDER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
QUANTUM: Final = Decimal(1).scaleb(-RATE_DECIMALS)


def checked(listing: Listing) -> Listing:
    """
    Return the list as it is.

    :raises InvalidPriceList: if it is too long, or naming the model and field that does not fit
    """
    if len(listing.models) > MODELS_MAX:
        raise InvalidPriceList(f"has more than {MODELS_MAX:,} models")
    if sum(len(price.rates) for each in listing.models for price in each.prices) > RATES_MAX:
        raise InvalidPriceList(f"has more than {RATES_MAX:,} rates")
    for model in listing.models:
        _check_model(model)
    return listing


def rounded(rate: Decimal) -> Decimal:
    """Return a list's rate with the decimals that are kept: half even, in the eighteenth."""
    exponent = rate.as_tuple().exponent
    is_long = isinstance(exponent, int) and -exponent > RATE_DECIMALS
    return rate.quantize(QUANTUM) if is_long else rate


def _check_model(model: ListedModel) -> None:
    called = f"{model.provider}/{model.name}"
    if not PROVIDER.fullmatch(model.provider):
        raise InvalidPriceList("is no provider's name", model=called, field="provider")
    for name in (model.name, *model.other_names, *model.prefixes):
        if not (name and len(name) <= NAME_LENGTH_MAX and name.isprintable()):
            raise InvalidPriceList("is no model's name", model=called, field="model")
    if sum(len(price.rates) for price in model.prices) > RATES_OF_A_MODEL_MAX:
        raise InvalidPriceList(f"has more than {RATES_OF_A_MODEL_MAX:,} rates", model=called)
    for price in model.prices:
        _check_price(called, price)


def _check_price(called: str, price: ListedPrice) -> None:
    if price.currency not in CURRENCIES:
        raise InvalidPriceList("is no currency of ISO 4217", model=called, field="currency")
    for region, factor in price.region_factors.items():
        if not 0 < factor <= FACTOR_MAX:
            raise InvalidPriceList(f"is not from 0 to {FACTOR_MAX}", model=called, field=region)
    for rate in price.rates:
        _check_rate(called, rate)
    _check_distinct(called, price.rates)
    _check_bases(called, price.rates)
    overlap = price_terms.find_overlap(price.rates)
    if overlap is not None:
        raise InvalidPriceList("overlaps another one", model=called, field="window")


def _check_rate(called: str, rate: Rate) -> None:
    field = rate.component.value
    if not (rate.rate.is_finite() and 0 <= rate.rate <= RATE_MAX):
        raise InvalidPriceList(f"is not from 0 to {RATE_MAX:,}", model=called, field=field)
    if rate.rate and not rounded(rate.rate):
        raise InvalidPriceList(f"is less than {QUANTUM}, but not 0", model=called, field=field)
    for name, value, least in (("per", rate.per, 1), ("tier_from", rate.tier_from, 0)):
        if not least <= value <= COUNT_MAX:
            raise InvalidPriceList(
                f"is not from {least} to {COUNT_MAX:,}", model=called, field=name
            )
    for name, most in TEXT_LENGTH_MAX.items():
        if len(getattr(rate, name)) > most:
            raise InvalidPriceList(f"is longer than {most}", model=called, field=name)
    if rate.window:
        _check_window(called, rate.window)


def _check_window(called: str, window: str) -> None:
    try:
        windows.parse(window)
    except windows.InvalidWindow as error:
        raise InvalidPriceList(str(error), model=called, field="window") from error


def _check_distinct(called: str, rates: Iterable[Rate]) -> None:
    seen = set()
    for rate in rates:
        conditions = (rate.key, rate.tier_from, rate.service_tier, rate.window)
        if conditions in seen:
            raise InvalidPriceList("is given twice", model=called, field=rate.component.value)
        seen.add(conditions)


def _check_bases(called: str, rates: Iterable[Rate]) -> None:
    """Refuse a class that has rates for long requests only: shorter ones would be unpriced."""
    base = {(each.key, each.service_tier, each.window) for each in rates if each.tier_from == 0}
    for rate in rates:
        if (rate.key, rate.service_tier, rate.window) not in base:
            problem = "has no rate from 0 input tokens on"
            raise InvalidPriceList(problem, model=called, field=rate.component.value)
