"""
Responses, as OpenAI and all who are compatible with it answer.

``input_tokens`` includes the cache, ``output_tokens`` includes reasoning. Searches of the web are
told in ``tool_usage``; where they are not, the calls in ``output`` are counted, without those that
only open a page or look into one. Images that a tool made are told apart from the model's tokens
and are added to them (https://platform.openai.com/docs/api-reference/responses/object).
"""

from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage import openai_images
from spend.usage.counts import NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading
from spend.usage.tokens import apart, input_classes, output_classes

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_RUN: Final = "code_interpreter_call"
_NO_SEARCHES: Final = frozenset({"open_page", "find_in_page", "find"})


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a response used, None if it tells nothing usable."""
    counts = Counts()
    usage = classes(counts, inner(answer, "usage"))
    if usage is None:
        return None
    usage |= _tools(counts, inner(answer))
    for component, n in _images(counts, inner(answer)).items():
        usage[component] = usage.get(component, 0) + n
    return reading(counts, usage, service_tier=counts.word(inner(answer), "service_tier"))


class Stream:
    """Reads the events of a streamed response: the last one has the whole response."""

    def __init__(self, *, request: Mapping[str, object] = NOTHING) -> None:
        self._request = request
        self._reading: Reading | None = None

    def add(self, event: object) -> None:
        """Take over what an event tells."""
        kind = inner(event).get("type")
        if isinstance(kind, str) and kind in _TERMINAL:
            told = read(inner(event, "response"), request=self._request)
            self._reading = told or self._reading

    def reading(self) -> Reading | None:
        """Return what the events so far tell."""
        return self._reading


def classes(counts: Counts, reported: Mapping[str, object]) -> dict[Component, int] | None:
    """Return the classes of a response's usage, None if its totals are not usable."""
    total_in = whole(reported.get("input_tokens"))
    total_out = whole(reported.get("output_tokens"))
    if total_in is None or total_out is None:
        return None
    left_out = apart(counts, reported, total_in + total_out)
    return {
        **input_classes(counts, total_in, inner(reported, "input_tokens_details"), beside=reported),
        **output_classes(
            counts,
            total_out + left_out,
            inner(reported, "output_tokens_details"),
            reasoning_at_least=left_out,
        ),
    }


def _tools(counts: Counts, answer: Mapping[str, object]) -> dict[Component, int]:
    calls = counts.items(answer.get("output"))
    kinds = [call.get("type") for call in calls]
    runs = [call.get("container_id") for call in calls if call.get("type") == _RUN]
    # Calls that do not name their container share one.
    containers = {container if isinstance(container, str) else "" for container in runs}
    return {
        Component.WEB_SEARCH: _searches(counts, answer, calls),
        Component.FILE_SEARCH: kinds.count("file_search_call"),
        Component.CODE_SESSION: len(containers),
    }


def _searches(
    counts: Counts, answer: Mapping[str, object], calls: list[Mapping[str, object]]
) -> int:
    """Return the searches that are told, else those among the calls."""
    billed = inner(answer, "tool_usage", "web_search")
    if billed.get("num_requests") is not None:
        return counts.take(billed, "num_requests")
    # xAI and Perplexity count them in the usage.
    reported = inner(answer, "usage")
    of_xai = inner(reported, "server_side_tool_usage_details")
    told = counts.take(of_xai, "web_search_calls") + counts.take(of_xai, "x_search_calls")
    told = told or counts.take(inner(reported, "tool_calls_details", "search_web"), "invocation")
    return told or sum(map(_is_search, calls))


def _is_search(call: Mapping[str, object]) -> bool:
    action = inner(call, "action").get("type")
    only_reads = isinstance(action, str) and action in _NO_SEARCHES
    return call.get("type") == "web_search_call" and not only_reads


def _images(counts: Counts, answer: Mapping[str, object]) -> dict[Component, int]:
    """Return the tokens of images that a tool made."""
    reported = inner(answer, "tool_usage", "image_gen")
    return openai_images.classes(counts, reported) or {}
