"""
What the clock does for the price book: it looks at lists and proposes what they would change.

It decides nothing. A list that cannot be fetched or read is logged and counted, and everything
stays as it is until the next time.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from budgets.changes import SYSTEM
from spend.catalogues import fetching, sources
from spend.catalogues.listing import InvalidPriceList, Listing
from spend.models import PriceProposal, PriceVersion
from spend.services import price_imports

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    PROPOSED = "proposed"
    UNCHANGED = "unchanged"
    """Nothing would change, or nothing that was not proposed before."""
    FETCH_FAILED = "fetch_failed"
    INVALID = "invalid"


def propose_fetched(*, url: str, seconds_max: int, now: datetime) -> Outcome:
    """Fetch a price map in LiteLLM's form and propose what it would change."""

    def read() -> Listing:
        content = fetching.fetch(url, seconds_max=seconds_max)
        return sources.read(source=sources.LITELLM, content=content)

    return _proposed(read, now=now)


def propose_upgraded(*, now: datetime) -> Outcome:
    """
    Propose what the installed package genai-prices would change, once for each of its versions.

    Before its prices are in the book at all the first start adds them; there is nothing to do.
    """
    listing = sources.read(source=sources.GENAI)
    of_package = PriceVersion.objects.filter(source=listing.source)
    seen = PriceProposal.objects.filter(
        source=listing.source, source_version=listing.version
    ).exists()
    is_known = seen or of_package.filter(source_version=listing.version).exists()
    if is_known or not of_package.exists():
        return Outcome.UNCHANGED
    return _proposed(lambda: listing, now=now)


def _proposed(read: Callable[[], Listing], *, now: datetime) -> Outcome:
    try:
        made = price_imports.propose(listing=read(), by=SYSTEM, now=now, insist=False)
    except fetching.FetchFailed as error:
        log.warning("prices_not_fetched", extra={"reason": error.reason})
        return Outcome.FETCH_FAILED
    except InvalidPriceList as error:
        log.warning("prices_not_read", extra={"model": error.model, "field": error.field})
        return Outcome.INVALID
    return Outcome.PROPOSED if made.is_new else Outcome.UNCHANGED
