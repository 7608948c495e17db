"""How prices, discounts and margins are told in lists and on pages."""

from datetime import datetime
from decimal import Decimal
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from budgets import money
from budgets.admin.lists import state
from spend import price_queries, price_samples, pricebook, units
from spend.components import Component
from spend.models import PriceAdjustment, PriceRate, PriceVersion

MILLION: Final = 10**6
EVERYBODY: Final = "everybody"


def in_and_out(version: PriceVersion) -> SafeString:
    """Return what a million input and output tokens cost, at the first tier."""
    rates = {rate.component: rate for rate in version.rates.all() if is_plain(rate)}
    parts = [
        (money.plain(rates[component].for_units(MILLION)), words)
        for component, words in ((Component.INPUT, "in"), (Component.OUTPUT, "out"))
        if component in rates
    ]
    if not parts:
        return _without_tokens(version)
    amounts = format_html_join(" · ", "{} {}", parts)
    return format_html('<span class="cp-number">{} {}</span>', version.currency, amounts)


def _without_tokens(version: PriceVersion) -> SafeString:
    """Return the first rate in words, where a price is not of tokens of text."""
    rates = list(version.rates.all())
    if not rates:
        return format_html('<span class="cp-quiet">{}</span>', "no rates")
    told = units.written(pricebook.rate_of(rates[0]))
    more = f" and {len(rates) - 1} more" if len(rates) > 1 else ""
    return format_html('<span class="cp-number">{} {}{}</span>', version.currency, told, more)


def is_plain(rate: PriceRate) -> bool:
    return not (rate.tier_from or rate.service_tier or rate.variant or rate.window)


def unpriced() -> SafeString:
    return format_html(
        '<strong class="cp-error">{}</strong>', state("full", "money_off", "Unpriced")
    )


def state_told(kind: str, *, in_force: bool = True) -> SafeString:
    """Return a state in words; what has begun but is not in force has been followed by another."""
    if kind == price_queries.LATER:
        return state("warning", "schedule", "Later")
    if kind == price_queries.NOW and in_force:
        return state("fine", "check_circle", "Now")
    words = "Replaced" if kind == price_queries.REPLACED else "No longer"
    return format_html('<span class="cp-quiet">{}</span>', words)


def version_state(version: PriceVersion, *, newest: int, now: datetime) -> SafeString:
    kind = price_queries.state_of(version, now=now)
    return state_told(kind, in_force=version.pk == newest)


def sample(version: PriceVersion) -> str | None:
    """Return what the sample request costs, if the price is of tokens of text."""
    rates = [pricebook.rate_of(each) for each in version.rates.all()]
    cost = price_samples.sample_cost(rates, currency=version.currency)
    return None if cost is None else f"{version.currency} {money.plain(cost)}"


def adjustment_told(row: PriceAdjustment) -> str:
    """Return what a discount or margin does: ``5 % off, then 10 % on top``."""
    parts = [
        _percent(row.discount_percent, "off"),
        _percent(row.margin_percent, "on top"),
        f"{money.plain(row.margin_per_request)} more each request"
        if row.margin_per_request
        else "",
    ]
    return ", then ".join(each for each in parts if each) or "the list price"


def _percent(value: Decimal, words: str) -> str:
    return f"{money.plain(value)} % {words}" if value else ""
