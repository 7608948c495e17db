"""
Chat completions, as OpenAI and all who are compatible with it answer.

``prompt_tokens`` includes what was cached, written to the cache, heard and seen;
``completion_tokens`` includes reasoning and audio
(https://platform.openai.com/docs/api-reference/chat/object). Who differs, and how it is noticed:

- xAI and Gemini leave reasoning out of ``completion_tokens``: the total has more than both.
- Perplexity leaves reasoning and citations out of both and of the total: it tells citations.
- Mistral counts audio in seconds and its tokens in the total only: it tells the seconds.
- DeepSeek, Moonshot and Databricks tell the cache beside the total, not in the details.
- Groq's streams have the usage in ``x_groq``.
- Perplexity and OpenRouter say what the answer costs. It is read of everybody, and charged where
  the price takes their word for it.
"""

from collections.abc import Mapping
from typing import Final

from spend.components import Component
from spend.usage import plain_chat
from spend.usage.counts import NOTHING, Counts, inner, whole
from spend.usage.reading import Reading, reading
from spend.usage.streams import Merged
from spend.usage.tokens import apart, input_classes, output_classes

_SEARCHES: Final = ("web_search_requests", "num_search_queries", "num_sources_used")


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a chat completion used, None if it tells nothing usable."""
    counts = Counts()
    reported = reported_in(answer)
    usage = classes(counts, reported, request=request)
    if usage is None:
        return None
    return reading(
        counts,
        usage,
        service_tier=counts.word(inner(answer), "service_tier"),
        variant=counts.word(reported, "search_context_size"),
    )


def of_usage(reported: object) -> Reading | None:
    """Return what the ``usage`` of a chat completion tells, None if nothing usable."""
    return read({"usage": reported})


class Stream:
    """Reads the chunks of a streamed chat completion."""

    def __init__(self, *, request: Mapping[str, object] = NOTHING) -> None:
        self._request = request
        self._merged = Merged()

    def add(self, event: object) -> None:
        """Take over what a chunk tells."""
        told = reported_in(event)
        # A total of before would say that something was left out of what came after it.
        if told and told.get("total_tokens") is None:
            self._merged.forget("usage", "total_tokens")
        tier = inner(event).get("service_tier")
        self._merged.add({"usage": told, "service_tier": tier} if told else {"service_tier": tier})

    def reading(self) -> Reading | None:
        """Return what all chunks so far tell together."""
        return read(self._merged.report, request=self._request)


def reported_in(answer: object) -> Mapping[str, object]:
    """Return the usage of an answer or a chunk, empty if it has none."""
    return inner(answer, "usage") or inner(answer, "x_groq", "usage")


def classes(
    counts: Counts, reported: Mapping[str, object], *, request: Mapping[str, object]
) -> dict[Component, int] | None:
    """Return the classes of a chat completion's usage, None if its totals are not usable."""
    is_asked = request.get("web_search_options") is not None
    if not is_asked and (plain := plain_chat.classes(reported)) is not None:
        return plain
    prompt = whole(reported.get("prompt_tokens"))
    completion = whole(reported.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    details = inner(reported, "prompt_tokens_details")
    read_in = input_classes(counts, prompt, details, beside=reported)
    return {
        **_with_text(counts, read_in, Component.INPUT, details),
        **_output(counts, prompt, completion, reported),
        **_counted(counts, details, reported),
        Component.WEB_SEARCH: _searches(counts, details, reported, request),
        Component.STATED_PICO_USD: _stated(counts, reported),
    }


def _output(
    counts: Counts, prompt: int, completion: int, reported: Mapping[str, object]
) -> dict[Component, int]:
    details = inner(reported, "completion_tokens_details")
    if any(reported.get(name) is not None for name in ("citation_tokens", "num_search_queries")):
        usage = output_classes(counts, completion, details)
        usage[Component.REASONING] += counts.take(reported, "reasoning_tokens")
        return {**usage, Component.CITATION: counts.take(reported, "citation_tokens")}
    left_out = apart(counts, reported, prompt + completion)
    if counts.milliseconds(reported, "prompt_audio_seconds"):
        left_out = 0
    heard = counts.take(details, "audio_tokens")
    counts.cut(heard, at_most=completion + left_out)
    usage = output_classes(
        counts,
        max(completion + left_out, heard),
        details,
        beside=reported,
        reasoning_at_least=left_out,
    )
    return _with_text(counts, usage, Component.OUTPUT, details)


def _with_text(
    counts: Counts,
    usage: dict[Component, int],
    text: Component,
    details: Mapping[str, object],
) -> dict[Component, int]:
    """
    Return the classes with as little text as is told, if that is less than what is left over.

    Some count reasoning among the text: then what is told is more.
    """
    told = counts.take(details, "text_tokens")
    left = usage[text] - usage.get(Component.REASONING, 0)
    if not 0 < told < left:
        return usage
    counts.clamped = True
    return {**usage, text: told}


def _counted(
    counts: Counts, details: Mapping[str, object], reported: Mapping[str, object]
) -> dict[Component, int]:
    """Return what some count of the input beside its tokens."""
    heard = counts.milliseconds(reported, "prompt_audio_seconds")
    return {
        Component.INPUT_AUDIO_MS: heard or counts.milliseconds(details, "audio_length_seconds"),
        Component.INPUT_VIDEO_MS: counts.milliseconds(details, "video_length_seconds"),
        Component.INPUT_CHARACTERS: counts.take(details, "character_count"),
        Component.INPUT_IMAGES: counts.take(details, "image_count"),
        Component.QUERY: counts.take(details, "query_count"),
    }


def _stated(counts: Counts, reported: Mapping[str, object]) -> int:
    """Return what the provider says that it costs: a number, or the total of an object."""
    if cost := inner(reported, "cost"):
        return counts.stated_pico_usd(cost, "total_cost")
    return counts.stated_pico_usd(reported, "cost")


def _searches(
    counts: Counts,
    details: Mapping[str, object],
    reported: Mapping[str, object],
    request: Mapping[str, object],
) -> int:
    """Return the searches that are told, or the one that a request asks for and nobody tells."""
    told = counts.first([details, reported, inner(reported, "server_tool_use")], _SEARCHES)
    # Whoever tells the size of the search context charges for it with the request.
    is_asked = request.get("web_search_options") is not None
    return told or int(is_asked and reported.get("search_context_size") is None)
