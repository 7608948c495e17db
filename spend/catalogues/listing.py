"""What every price list is read into, whatever its own form: models with dated prices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from spend.rates import Rate

BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""From when on a price without a start date applies."""
NAME_SHOWN_MAX: Final = 120


class InvalidPriceList(ValueError):
    """The list is not of its form, or larger than is read; names the model and field, if one is."""

    def __init__(self, problem: str, *, model: str = "", field: str = "") -> None:
        where = ": ".join(each[:NAME_SHOWN_MAX] for each in (model, field) if each)
        super().__init__(f"{where} {problem}" if where else problem)
        self.model = model
        self.field = field


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """All rates of a model from an instant on, in US dollars unless it says otherwise."""

    effective_from: datetime
    rates: tuple[Rate, ...]
    region_factors: Mapping[str, Decimal] = field(default_factory=dict)
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as a list has it; ``left_out`` names what of its price has no equal here."""

    provider: str
    name: str
    prices: tuple[ListedPrice, ...]
    other_names: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    context_window: int | None = None
    output_tokens_max: int | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole price list: where it is from, which one it is, and what it says."""

    source: str
    version: str
    provider_names: Mapping[str, str]
    models: tuple[ListedModel, ...]
