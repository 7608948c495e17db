"""The classes that usage is counted in: disjoint, so that each thing is charged once."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


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
    SEARCHED_REQUEST = "searched_request"
    """Requests that searched the web, however often: some providers charge these."""
    FILE_SEARCH = "file_search"
    CODE_SESSION = "code_session"
    PAGE = "page"
    ANNOTATED_PAGE = "annotated_page"
    REQUEST = "request"
    MARGIN = "margin"
    """What a margin adds to each request; no price has a rate for it."""
    STATED_PICO_USD = "stated_pico_usd"
    """What the provider says that it costs, in millionths of a millionth of a US dollar."""


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
    _C.ANNOTATED_PAGE: (_C.PAGE,),
}
"""Whose rate a class takes that has none of its own: that of the first which has one."""
INPUT_COMPONENTS: Final = (
    _C.INPUT, _C.CACHED_READ, _C.CACHED_READ_AUDIO, _C.CACHED_READ_IMAGE,
    _C.CACHE_WRITE_5M, _C.CACHE_WRITE_1H, _C.INPUT_AUDIO, _C.INPUT_IMAGE, _C.INPUT_VIDEO,
)  # fmt: skip
OUTPUT_COMPONENTS: Final = (
    _C.OUTPUT, _C.REASONING, _C.OUTPUT_AUDIO, _C.OUTPUT_IMAGE, _C.OUTPUT_VIDEO, _C.CITATION,
)  # fmt: skip
ALTERNATIVES: Final[Mapping[Component, tuple[Component, ...]]] = {
    _C.IMAGES: (_C.OUTPUT_IMAGE,),
    _C.INPUT_IMAGES: (_C.INPUT_IMAGE,),
}
"""What is counted beside the tokens that it takes; charged only where no such token is."""
FEES: Final = frozenset({_C.REQUEST, _C.COMPUTE_MS, _C.STATED_PICO_USD})
"""Classes that a price need not have: where there is no rate there is no such fee."""

SEARCHES: Final = (_C.WEB_SEARCH, _C.SEARCHED_REQUEST)
RATED: Final = tuple(each for each in Component if each is not _C.MARGIN)
"""Classes that a price may have a rate for."""


def rated(name: str) -> Component:
    """
    Return the class of that name, if a price may have a rate for it.

    :raises ValueError: if there is none
    """
    component = Component(name)
    if component not in RATED:
        raise ValueError(f"no price has a rate for {name}")
    return component


TOKENS: Final = frozenset(INPUT_COMPONENTS + OUTPUT_COMPONENTS)
MILLISECONDS: Final = frozenset(
    {_C.INPUT_AUDIO_MS, _C.INPUT_VIDEO_MS, _C.OUTPUT_AUDIO_MS, _C.OUTPUT_VIDEO_MS, _C.COMPUTE_MS}
)

Usage = Mapping[Component, int]


def total_of(usage: Usage, components: tuple[Component, ...]) -> int:
    return sum([n for component, n in usage.items() if component in components])
