"""
Writes out what a class costs below the bound from which on a list has a rate for it.

Some lists have a class for long requests only. Below the bound it costs what it would if it had no
rate there: that of the same class under less conditions, else that of the class it is a kind of.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from spend.catalogues.listing import ListedModel, ListedPrice, Listing
from spend.components import FALLBACKS
from spend.rates import STANDARD, Key, Rate

Place = tuple[Key, str, str]
"""Class with variant, service tier, window."""


def completed(listing: Listing) -> Listing:
    """Return the list with a rate from 0 tokens on wherever there is one that is inherited."""
    return replace(listing, models=tuple(map(_model, listing.models)))


def _model(model: ListedModel) -> ListedModel:
    return replace(model, prices=tuple(map(_price, model.prices)))


def _price(price: ListedPrice) -> ListedPrice:
    added = tuple(_missing(price))
    return replace(price, rates=(*price.rates, *added)) if added else price


def _missing(price: ListedPrice) -> Iterator[Rate]:
    """Yield the rates from 0 tokens on that the price lacks and inherits."""
    base = {_place(each): each for each in price.rates if each.tier_from == 0}
    lacking = {_place(each): each for each in price.rates if _place(each) not in base}
    for rate in lacking.values():
        found = _inherited(rate, base)
        if found is not None:
            yield replace(rate, rate=found.rate, per=found.per, tier_from=0)


def _inherited(rate: Rate, base: Mapping[Place, Rate]) -> Rate | None:
    tiers = dict.fromkeys((rate.service_tier, STANDARD))
    spans = dict.fromkeys((rate.window, ""))
    for key in dict.fromkeys((rate.key, rate.component, *FALLBACKS.get(rate.component, ()))):
        for place in ((key, tier, span) for tier in tiers for span in spans):
            if place in base:
                return base[place]
    return None


def _place(rate: Rate) -> Place:
    return (rate.key, rate.service_tier, rate.window)
