"""
What a usage costs at a price: exact, pure, nothing rounded.

Usage comes in disjoint classes ("components"), each priced once. A class without a rate of its
own takes the rate of the class it is a kind of (cached input that of input); a class that has
neither is unpriced, which is not the same as a rate of 0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from typing import Final

from budgets.money import EXACT


class Component(StrEnum):
    """A class of usage; each is counted in whole numbers of its own unit, and nothing twice."""

    INPUT = "input"
    """Text tokens, as are all classes up to CITATION tokens of some kind."""
    CACHED_READ = "cached_read"
    CACHED_READ_AUDIO = "cached_read_audio"
    CACHED_READ_IMAGE = "cached_read_image"
    CACHE_WRITE_5M = "cache_write_5m"
    CACHE_WRITE_1H = "cache_write_1h"
    INPUT_AUDIO = "input_audio"
    INPUT_IMAGE = "input_image"
    INPUT_VIDEO = "input_video"
    OUTPUT = "output"
    REASONING = "reasoning"
    OUTPUT_AUDIO = "output_audio"
    OUTPUT_IMAGE = "output_image"
    OUTPUT_VIDEO = "output_video"
    CITATION = "citation"
    INPUT_CHARACTERS = "input_characters"
    INPUT_AUDIO_MS = "input_audio_ms"
    INPUT_VIDEO_MS = "input_video_ms"
    INPUT_IMAGES = "input_images"
    OUTPUT_CHARACTERS = "output_characters"
    OUTPUT_AUDIO_MS = "output_audio_ms"
    OUTPUT_VIDEO_MS = "output_video_ms"
    IMAGES = "images"
    """Images made, in the size and quality that the request's variant says."""
    COMPUTE_MS = "compute_ms"
    """How long a model that is paid by time has worked."""
    QUERY = "query"
    """Searches of a reranker or a search engine."""
    WEB_SEARCH = "web_search"
    FILE_SEARCH = "file_search"
    CODE_SESSION = "code_session"
    PAGE = "page"
    ANNOTATED_PAGE = "annotated_page"
    REQUEST = "request"


_C = Component
FALLBACKS: Final[Mapping[Component, tuple[Component, ...]]] = {
    _C.CACHED_READ: (_C.INPUT,),
    _C.CACHED_READ_AUDIO: (_C.CACHED_READ, _C.INPUT_AUDIO, _C.INPUT),
    _C.CACHED_READ_IMAGE: (_C.CACHED_READ, _C.INPUT_IMAGE, _C.INPUT),
    _C.CACHE_WRITE_5M: (_C.INPUT,),
    _C.CACHE_WRITE_1H: (_C.CACHE_WRITE_5M, _C.INPUT),
    _C.INPUT_AUDIO: (_C.INPUT,),
    _C.INPUT_IMAGE: (_C.INPUT,),
    _C.INPUT_VIDEO: (_C.INPUT,),
    _C.REASONING: (_C.OUTPUT,),
    _C.OUTPUT_AUDIO: (_C.OUTPUT,),
    _C.OUTPUT_IMAGE: (_C.OUTPUT,),
    _C.OUTPUT_VIDEO: (_C.OUTPUT,),
    _C.CITATION: (_C.OUTPUT,),
}
"""Whose rate a class takes that has none of its own: that of the first which has one."""
INPUT_COMPONENTS: Final = (
    _C.INPUT, _C.CACHED_READ, _C.CACHED_READ_AUDIO, _C.CACHED_READ_IMAGE,
    _C.CACHE_WRITE_5M, _C.CACHE_WRITE_1H, _C.INPUT_AUDIO, _C.INPUT_IMAGE, _C.INPUT_VIDEO,
)  # fmt: skip
OUTPUT_COMPONENTS: Final = (
    _C.OUTPUT, _C.REASONING, _C.OUTPUT_AUDIO, _C.OUTPUT_IMAGE, _C.OUTPUT_VIDEO, _C.CITATION,
)  # fmt: skip
INPUT_COUNTS: Final = (
    _C.INPUT_CHARACTERS, _C.INPUT_AUDIO_MS, _C.INPUT_VIDEO_MS, _C.INPUT_IMAGES,
)  # fmt: skip
OUTPUT_COUNTS: Final = (
    _C.OUTPUT_CHARACTERS, _C.OUTPUT_AUDIO_MS, _C.OUTPUT_VIDEO_MS, _C.IMAGES, _C.COMPUTE_MS,
)  # fmt: skip
"""What else the input and the output are measured in; charged where tokens are not."""
FEES: Final = frozenset({_C.REQUEST, _C.COMPUTE_MS})
"""Classes that a price need not have: where there is no rate there is no such fee."""

Usage = Mapping[Component, int]


@dataclass(frozen=True, slots=True)
class Rate:
    """``rate`` of one unit of ``component``, in requests of over ``tier_from`` input tokens."""

    component: Component
    rate: Decimal
    tier_from: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """The rates in force at one time, in one currency; ``reference`` says which version it is."""

    currency: str
    rates: tuple[Rate, ...]
    reference: str

    def rate_of(self, component: Component, *, input_tokens: int) -> Decimal | None:
        """Return what one unit costs in a request of so many input tokens, or None if unpriced."""
        tiers = [each for each in self.rates if each.component == component]
        if not tiers:
            rates = (
                self.rate_of(kind, input_tokens=input_tokens)
                for kind in FALLBACKS.get(component, ())
            )
            return next((rate for rate in rates if rate is not None), None)
        crossed = [each for each in tiers if each.tier_from == 0 or input_tokens > each.tier_from]
        return max(crossed, key=lambda each: each.tier_from).rate if crossed else None


@dataclass(frozen=True, slots=True)
class Line:
    component: Component
    quantity: int
    rate: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Cost:
    """An exact amount with its line items; what had no rate is named and not in the amount."""

    amount: Decimal
    lines: tuple[Line, ...]
    unpriced: tuple[Component, ...]


class UnboundedCost(Exception):
    """Nothing bounds what the request can cost; ``what`` says which part."""

    def __init__(self, what: str) -> None:
        super().__init__(f"nothing bounds the {what} of this request")
        self.what = what


def cost(*, price: Price, usage: Usage) -> Cost:
    """Return what ``usage`` costs: the sum of its classes, each at its rate, exactly."""
    input_tokens = total_of(usage, INPUT_COMPONENTS)
    lines, unpriced = [], []
    for component, quantity in usage.items():
        rate = price.rate_of(component, input_tokens=input_tokens)
        if quantity and rate is None and component not in FEES:
            unpriced.append(component)
        elif quantity and rate is not None:
            lines.append(Line(component, quantity, rate, _times(rate, quantity)))
    amount = _sum(line.amount for line in lines)
    return Cost(amount=amount, lines=tuple(lines), unpriced=tuple(unpriced))


def ceiling(
    *, price: Price, input_tokens_max: int | None, output_tokens_max: int | None
) -> Decimal:
    """
    Return the most that one request within these bounds can cost, at its dearest classes and tier.

    :raises UnboundedCost: if a bound is None where tokens have a price above 0
    """
    request = _dearest(price, [Component.REQUEST], input_tokens_max)
    return _sum(
        [
            request,
            _most(price, INPUT_COMPONENTS, input_tokens_max, input_tokens_max, "input"),
            _most(price, OUTPUT_COMPONENTS, output_tokens_max, input_tokens_max, "output"),
        ]
    )


def total_of(usage: Usage, components: Iterable[Component]) -> int:
    return sum(usage.get(component, 0) for component in components)


def _times(rate: Decimal, quantity: int) -> Decimal:
    """Multiply without rounding: the usual operator keeps 28 digits only."""
    return EXACT.multiply(rate, Decimal(quantity))


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(EXACT.add, amounts, Decimal(0))


def _most(
    price: Price,
    components: Iterable[Component],
    tokens_max: int | None,
    input_tokens_max: int | None,
    what: str,
) -> Decimal:
    rate = _dearest(price, components, input_tokens_max)
    if rate == 0:
        return Decimal(0)
    if tokens_max is None:
        raise UnboundedCost(what)
    return _times(rate, tokens_max)


def _dearest(
    price: Price, components: Iterable[Component], input_tokens_max: int | None
) -> Decimal:
    """Return the highest rate of these classes over every tier that the request can reach."""
    rates = [
        each.rate
        for each in price.rates
        if each.component in components
        and (each.tier_from == 0 or input_tokens_max is None or input_tokens_max > each.tier_from)
    ]
    return max(rates, default=Decimal(0))
