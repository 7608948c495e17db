"""Every shape that this project reads usage from, and how a provider would stream each."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from spend.components import INPUT_COMPONENTS, OUTPUT_COMPONENTS, total_of
from spend.usage import (
    Reading,
    anthropic_messages,
    gemini_openai,
    ocr,
    openai_batch,
    openai_chat,
    openai_embeddings,
    openai_images,
    openai_responses,
    openai_speech,
    openai_transcription,
    rerank,
    search,
    video,
)
from spend.usage.counts import NOTHING, whole

FOLDER = Path(__file__).parents[1] / "data" / "usage"


class Flavour(Protocol):
    """What each file of ``spend.usage`` for a shape of API has."""

    def read(
        self, answer: object, *, request: Mapping[str, object] = NOTHING
    ) -> Reading | None: ...


class Stream(Protocol):
    def add(self, event: object) -> None: ...

    def reading(self) -> Reading | None: ...


FLAVOURS: Mapping[str, Flavour] = {
    "anthropic_messages": anthropic_messages,
    "gemini_openai": gemini_openai,
    "ocr": ocr,
    "openai_batch": openai_batch,
    "openai_chat": openai_chat,
    "openai_embeddings": openai_embeddings,
    "openai_images": openai_images,
    "openai_responses": openai_responses,
    "openai_speech": openai_speech,
    "openai_transcription": openai_transcription,
    "rerank": rerank,
    "search": search,
    "video": video,
}
STREAMED = [name for name, flavour in FLAVOURS.items() if hasattr(flavour, "Stream")]
Case = tuple[str, dict[str, Any]]


def cases() -> Iterator[Case]:
    """Yield each payload with the name of its flavour."""
    for file in sorted(FOLDER.glob("*.json")):
        for payload in json.loads(file.read_text()):
            yield file.stem, payload


def read(name: str, answer: object, request: Mapping[str, object] = NOTHING) -> Reading | None:
    return FLAVOURS[name].read(answer, request=request)


def read_streamed(
    name: str, events: list[object], request: Mapping[str, object] = NOTHING
) -> Reading | None:
    stream: Stream = getattr(FLAVOURS[name], "Stream")(request=request)  # noqa: B009
    for event in events:
        stream.add(event)
    return stream.reading()


def totals(reading: Reading) -> tuple[int, int]:
    return (
        total_of(reading.usage, INPUT_COMPONENTS),
        total_of(reading.usage, OUTPUT_COMPONENTS),
    )


def events_of(name: str, answer: object) -> list[object]:
    """Return the events in which a provider would stream this answer."""
    if not isinstance(answer, dict):
        return [{"type": "delta"}]
    if name == "anthropic_messages":
        return _of_message(answer)
    if name == "openai_responses":
        running = {**answer, "usage": None, "status": "in_progress", "output": []}
        return [
            {"type": "response.created", "response": running},
            {"type": "response.completed", "response": answer},
        ]
    if name == "openai_images":
        partial = {"type": "image_generation.partial_image", "b64_json": "..."}
        return [partial, {**answer, "type": "image_generation.completed"}]
    if name in {"openai_transcription", "openai_speech"}:
        return [{"type": "transcript.text.delta", "delta": "a"}, answer]
    return _of_chat(answer)


def _of_message(answer: dict[str, Any]) -> list[object]:
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return [{"type": "message_delta", "usage": usage}]
    start = {**usage, "output_tokens": grown(usage.get("output_tokens"))}
    start.pop("output_tokens_details", None)
    return [
        {"type": "message_start", "message": {**answer, "usage": start}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]


def _of_chat(answer: dict[str, Any]) -> list[object]:
    return [
        {"choices": [{"delta": {"content": "a"}}], "usage": None},
        {**grown(answer), "choices": [{"delta": {"content": "b"}}]},
        {**answer, "choices": []},
        {"choices": [], "usage": None},
    ]


def grown(value: Any) -> Any:
    """Return the same when only half of it was counted yet."""
    if isinstance(value, dict):
        return {name: grown(each) for name, each in value.items()}
    return count // 2 if (count := whole(value)) else value
