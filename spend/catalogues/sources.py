"""Where price lists are from; each is read, completed, checked and named as the price book does."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Final

from spend.catalogues import csv_list, genai, litellm
from spend.catalogues.checks import checked
from spend.catalogues.completing import completed
from spend.catalogues.listing import InvalidPriceList, Listing
from spend.catalogues.providers import canonical

GENAI: Final = genai.SOURCE
LITELLM: Final = litellm.SOURCE
CSV: Final = csv_list.SOURCE
SEED: Final = "seed"
SEED_FILE: Final = "seed_prices.json"
NAMES: Final = (GENAI, LITELLM, CSV)
VERSION_DIGITS: Final = 12

_READERS: Final[Mapping[str, Callable[..., Listing]]] = {LITELLM: litellm.read, CSV: csv_list.read}


def read(*, source: str, content: bytes | None = None) -> Listing:
    """
    Return a source's list; that of ``genai-prices`` is installed, others are in ``content``.

    :raises InvalidPriceList: naming the model and field that does not fit
    """
    if source == GENAI:
        return checked(completed(genai.read()))
    if source not in _READERS or content is None:
        raise InvalidPriceList(f"is none of {', '.join(NAMES)}", field=source)
    listing = _READERS[source](content, version=version_of(content))
    return checked(completed(canonical(listing)))


def read_seed() -> Listing:
    """Return the list that comes with this package: what genai-prices has no prices of."""
    content = files("spend.catalogues").joinpath(SEED_FILE).read_bytes()
    listing = litellm.read(content, version=version_of(content))
    return checked(completed(canonical(replace(listing, source=SEED))))


def version_of(content: bytes) -> str:
    """Return what names this very content where a list has no version of its own."""
    return hashlib.sha256(content).hexdigest()[:VERSION_DIGITS]
