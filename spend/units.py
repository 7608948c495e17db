"""How people read usage on price pages: tokens by the million, time by the second."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from budgets import money
from spend.components import MILLISECONDS, TOKENS, Component
from spend.rates import Rate

DECIMALS_SHOWN: Final = 2
RATE_DECIMALS: Final = 18
MILLION: Final = 10**6
SECOND_MS: Final = 1_000

_C = Component
_NAMES: Final[Mapping[Component, str]] = {
    _C.CACHED_READ: "cached input",
    _C.CACHED_READ_AUDIO: "cached input: audio",
    _C.CACHED_READ_IMAGE: "cached input: images",
    _C.CACHE_WRITE_5M: "cache write (5 minutes)",
    _C.CACHE_WRITE_1H: "cache write (1 hour)",
    _C.INPUT_AUDIO: "input: audio tokens",
    _C.INPUT_IMAGE: "input: image tokens",
    _C.INPUT_VIDEO: "input: video tokens",
    _C.OUTPUT_AUDIO: "output: audio tokens",
    _C.OUTPUT_IMAGE: "output: image tokens",
    _C.OUTPUT_VIDEO: "output: video tokens",
    _C.CITATION: "citations",
    _C.INPUT_CHARACTERS: "input: characters",
    _C.INPUT_AUDIO_MS: "input: time of audio",
    _C.INPUT_VIDEO_MS: "input: time of video",
    _C.INPUT_IMAGES: "input: images",
    _C.OUTPUT_CHARACTERS: "output: characters",
    _C.OUTPUT_AUDIO_MS: "output: time of audio",
    _C.OUTPUT_VIDEO_MS: "output: time of video",
    _C.IMAGES: "images made",
    _C.COMPUTE_MS: "time of computing",
    _C.QUERY: "searches and rerankings",
    _C.WEB_SEARCH: "web searches",
    _C.FILE_SEARCH: "file searches",
    _C.CODE_SESSION: "code sessions",
    _C.PAGE: "pages",
    _C.ANNOTATED_PAGE: "annotated pages",
    _C.REQUEST: "each request",
    _C.STATED_PICO_USD: "cost that the provider states",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """What is counted: its singular and plural, and how many a price page tells the price of."""

    one: str
    many: str
    default_per: int = 1


_TOKEN: Final = Unit("token", "tokens", MILLION)
_CHARACTER: Final = Unit("character", "characters", MILLION)
_UNITS: Final[Mapping[Component, Unit]] = {
    _C.INPUT_CHARACTERS: _CHARACTER,
    _C.OUTPUT_CHARACTERS: _CHARACTER,
    _C.INPUT_AUDIO_MS: Unit("second of audio", "seconds of audio", SECOND_MS),
    _C.OUTPUT_AUDIO_MS: Unit("second of audio", "seconds of audio", SECOND_MS),
    _C.INPUT_VIDEO_MS: Unit("second of video", "seconds of video", SECOND_MS),
    _C.OUTPUT_VIDEO_MS: Unit("second of video", "seconds of video", SECOND_MS),
    _C.COMPUTE_MS: Unit("second", "seconds", SECOND_MS),
    _C.INPUT_IMAGES: Unit("image", "images"),
    _C.IMAGES: Unit("image", "images"),
    _C.QUERY: Unit("search", "searches"),
    _C.WEB_SEARCH: Unit("search", "searches"),
    _C.FILE_SEARCH: Unit("search", "searches"),
    _C.CODE_SESSION: Unit("session", "sessions"),
    _C.PAGE: Unit("page", "pages"),
    _C.ANNOTATED_PAGE: Unit("page", "pages"),
    _C.REQUEST: Unit("request", "requests"),
    _C.STATED_PICO_USD: Unit("millionth of a millionth of a dollar", "millionths of a millionth"),
}


def name_of(component: Component) -> str:
    """Return what people call a class of usage."""
    return _NAMES.get(component, component.value.replace("_", " "))


def unit_of(component: Component) -> Unit:
    return _TOKEN if component in TOKENS else _UNITS[component]


def default_per(component: Component) -> int:
    """Return for how many units price pages tell the price of this class."""
    return unit_of(component).default_per


def per_words(component: Component, per: int) -> str:
    """Return ``per`` units in words: ``1,000,000 tokens``, ``second of audio``, ``image``."""
    unit = unit_of(component)
    if component in MILLISECONDS:
        return _seconds(unit, per)
    return unit.one if per == 1 else f"{per:,} {unit.many}"


def written(rate: Rate) -> str:
    """Return a rate as price pages tell it: ``2.50 per 1,000,000 tokens``."""
    shown = as_usual(rate)
    return f"{amount(shown.rate)} per {per_words(shown.component, shown.per)}"


def as_usual(rate: Rate) -> Rate:
    """Return the same rate for as many units as price pages tell prices of, if that is exact."""
    per = default_per(rate.component)
    scaled = money.WIDE.divide(money.WIDE.multiply(rate.rate, Decimal(per)), Decimal(rate.per))
    is_exact = money.WIDE.multiply(scaled, Decimal(rate.per)) == rate.rate * per
    if not (is_exact and money.fits_in_decimals(scaled, RATE_DECIMALS)):
        return rate
    return replace(rate, rate=scaled, per=per)


def amount(value: Decimal) -> str:
    """Return an amount with at least two decimals: ``2.50``, ``0.075``, ``1,250.00``."""
    decimals = len(money.plain(value).partition(".")[2])
    return format(value, f",.{max(decimals, DECIMALS_SHOWN)}f")


def _seconds(unit: Unit, per_ms: int) -> str:
    if per_ms == SECOND_MS:
        return unit.one
    if per_ms % SECOND_MS == 0:
        return f"{per_ms // SECOND_MS:,} {unit.many}"
    return f"{per_ms:,} ms{unit.one.removeprefix('second')}"
