"""Makes requests out of bytes: the fields that the parser looks at, with values of every kind."""

from collections.abc import Iterator
from typing import Any, Final

DEPTH_MAX: Final = 4
WIDTH_MAX: Final = 4
NAMES: Final = (
    "messages", "model", "stream", "stream_options", "include_usage", "n", "max_tokens",
    "max_completion_tokens", "service_tier", "metadata", "tags", "user", "user_id", "tools",
    "tool_choice", "type", "function", "name", "parameters", "properties", "items", "enum",
    "required", "description", "content", "role", "audio", "text", "image_url", "input_audio",
    "file", "file_data", "tool_calls", "arguments", "response_format", "json_schema",
    "web_search_options", "plugins", "previous_response_id", "models", "route", "fallbacks",
    "functions", "function_call", "data", "format", "", "\x00", "\ud800", "extra",
)  # fmt: skip
PLAIN: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 128, 129, 10**9 + 1, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308,
    float("nan"), "", "x", "text", "function", "object", "array", "string", "none", "image_url",
    "\x00", "\ud800", "é" * 200, "x" * 300, "ß" * 129, "\U0001f600" * 65, "auto", "user", "custom",
)  # fmt: skip


def fields_of(data: bytes) -> dict[str, Any]:
    """Return a request: one that would pass, changed in as many places as the bytes say."""
    left = iter(data)
    whole: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(_next(left) % 5):
        whole[NAMES[_next(left) % len(NAMES)]] = _value(left, depth=0)
    return whole


def _value(left: Iterator[int], *, depth: int) -> Any:
    kind = _next(left)
    if kind < 128 or depth == DEPTH_MAX:
        return PLAIN[kind % len(PLAIN)]
    width = _next(left) % (WIDTH_MAX + 1)
    if kind < 192:
        return [_value(left, depth=depth + 1) for _ in range(width)]
    names = (NAMES[_next(left) % len(NAMES)] for _ in range(width))
    return {name: _value(left, depth=depth + 1) for name in names}


def _next(left: Iterator[int]) -> int:
    return next(left, 0)
