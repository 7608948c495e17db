"""What a chat request asks for, checked as OpenAI would."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from math import isfinite
from typing import Final, NoReturn

from gateway.sandbox.errors import RequestRefused
from gateway.sandbox.script import CHUNKS_MAX, REPLY_CHARACTERS_MAX, Script
from gateway.sandbox.script import parse as parse_script

MODELS: Final = ("sandbox-chat", "sandbox-request")
OUTPUT_TOKENS_MAX: Final = 4_096
CHOICES_MAX: Final = 128
SERVICE_TIERS: Final = ("default", "flex", "scale", "priority")
# What one request can make the sandbox hold or send stays bounded, also with many choices.
ALL_CHOICES_CHUNKS_MAX: Final = 10 * CHUNKS_MAX
ALL_CHOICES_CHARACTERS_MAX: Final = 4 * REPLY_CHARACTERS_MAX


@dataclass(frozen=True, kw_only=True)
class Chat:
    """One request; ``output_tokens_max`` is never above the models' own."""

    model: str
    prompt_characters: int
    last_user_text: str
    stream: bool
    include_usage: bool
    choices: int
    output_tokens_max: int
    service_tier: str
    script: Script


def parse(body: bytes) -> Chat:
    """
    Return the request in ``body``.

    :raises RequestRefused: 400 if it is not one, 404 if the model is none of ours
    """
    raw = _object(body)
    _check_model(raw.get("model"))
    messages = _messages(raw.get("messages"))
    texts = [(message.get("role"), "".join(_texts(message))) for message in messages]
    stream = _flag(raw, "stream")
    chat = Chat(
        model=str(raw["model"]),
        prompt_characters=sum(len(text) for _, text in texts),
        last_user_text=next((text for role, text in reversed(texts) if role == "user"), ""),
        stream=stream,
        include_usage=_include_usage(raw.get("stream_options"), stream=stream),
        choices=_whole(raw, "n", high=CHOICES_MAX) or 1,
        output_tokens_max=_output_tokens_max(raw),
        service_tier=_service_tier(raw.get("service_tier")),
        script=parse_script(raw.get("sandbox"), stream=stream),
    )
    _check_size(chat)
    return chat


def _object(body: bytes) -> Mapping[str, object]:
    try:
        # Not orjson: it turns whole numbers beyond 64 bits into floats, and a scripted usage
        # is passed on as it came.
        raw = json.loads(body, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError):
        raise RequestRefused("The body of the request is not valid JSON.") from None
    if not isinstance(raw, dict):
        raise RequestRefused("The body of the request must be a JSON object.")
    return raw


def _refused(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if isfinite(number) else _refused(digits)


def _check_model(model: object) -> None:
    if not isinstance(model, str) or not model:
        raise _bad("model", "is required", code="missing_required_parameter")
    if model not in MODELS:
        raise RequestRefused(
            f"The model `{model[:200]}` does not exist or you do not have access to it.",
            status=HTTPStatus.NOT_FOUND,
            code="model_not_found",
        )


def _messages(value: object) -> list[Mapping[str, object]]:
    if value is None:
        raise _bad("messages", "is required", code="missing_required_parameter")
    if not isinstance(value, list) or not value:
        raise _bad("messages", "must be a list with at least one message")
    if not all(isinstance(message, dict) for message in value):
        raise _bad("messages", "must hold objects only")
    return value


def _texts(message: Mapping[str, object]) -> Iterator[str]:
    """Yield the text of a message, whether its content is text or a list of parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            yield text


def _include_usage(options: object, *, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise _bad("stream_options", "is only allowed when 'stream' is true")
    if not isinstance(options, dict):
        raise _bad("stream_options", "must be an object")
    return _flag(options, "include_usage")


def _output_tokens_max(raw: Mapping[str, object]) -> int:
    asked = _whole(raw, "max_completion_tokens") or _whole(raw, "max_tokens")
    return min(asked or OUTPUT_TOKENS_MAX, OUTPUT_TOKENS_MAX)


def _service_tier(asked: object) -> str:
    known = isinstance(asked, str) and asked in SERVICE_TIERS
    return str(asked) if known else "default"


def _check_size(chat: Chat) -> None:
    reply = chat.script.reply
    chunks = len(reply) if isinstance(reply, list) else chat.script.chunks or 1
    characters = sum(map(len, reply or ()))
    if chunks * chat.choices > ALL_CHOICES_CHUNKS_MAX:
        raise _bad("n", f"makes more than {ALL_CHOICES_CHUNKS_MAX} chunks")
    if characters * chat.choices > ALL_CHOICES_CHARACTERS_MAX:
        raise _bad("n", f"makes more than {ALL_CHOICES_CHARACTERS_MAX} characters")


def _flag(raw: Mapping[str, object], name: str) -> bool:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(name, "must be true or false", code="invalid_type")
    return bool(value)


def _whole(raw: Mapping[str, object], name: str, *, high: int | None = None) -> int | None:
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _bad(name, "must be a whole number", code="invalid_type")
    if value < 1 or (high is not None and value > high):
        raise _bad(name, "is out of range", code="invalid_value")
    return value


def _bad(name: str, problem: str, *, code: str | None = None) -> RequestRefused:
    return RequestRefused(f"'{name}' {problem}.", param=name, code=code)
