"""The request field ``sandbox``: what a caller may make the sandbox do, and how far."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from gateway.sandbox.errors import RequestRefused

CHUNKS_MAX: Final = 10_000
DELAY_MS_MAX: Final = 600_000
REPLY_CHARACTERS_MAX: Final = 4 * 1024 * 1024
TEXT_CHARACTERS_MAX: Final = 256
STATUS_MIN: Final = 400
STATUS_MAX: Final = 599


class Fault(StrEnum):
    RESET_BEFORE_HEADERS = "reset_before_headers"
    RESET_MID_STREAM = "reset_mid_stream"
    TRUNCATE = "truncate"
    MALFORMED_JSON = "malformed_json"
    GARBAGE_SSE = "garbage_sse"
    HANG = "hang"
    ANSWER_TWICE = "answer_twice"


class Counted:
    """Stands for usage that the script leaves to the sandbox's own count."""


COUNTED: Final = Counted()


@dataclass(frozen=True, kw_only=True)
class Script:
    """Every field is optional; without any of them the sandbox just answers."""

    reply: str | list[str] | None = None
    usage: object = COUNTED
    chunks: int | None = None
    delay_ms: int = 0
    first_delay_ms: int = 0
    chunk_delay_ms: int = 0
    status: int | None = None
    retry_after: str | None = None
    fault: Fault | None = None
    service_tier: str | None = None
    finish_reason: str | None = None
    marker: str | None = None


NAMES: Final = frozenset(field.name for field in fields(Script))


def parse(raw: object, *, stream: bool) -> Script:
    """
    Return the script that the field ``sandbox`` holds.

    :raises RequestRefused: if a name is unknown, a value is out of bounds, or two contradict
    """
    if raw is None:
        return Script()
    if not isinstance(raw, dict):
        raise refusal("must be an object")
    for name in raw.keys() - NAMES:
        raise refusal("is unknown", name=name)
    script = _read(raw)
    _check_together(script, stream=stream)
    return script


def refusal(problem: str, *, name: str | None = None) -> RequestRefused:
    param = "sandbox" if name is None else f"sandbox.{name[:TEXT_CHARACTERS_MAX]}"
    return RequestRefused(f"'{param}' {problem}.", param=param, code="invalid_sandbox_script")


def _read(raw: Mapping[str, object]) -> Script:
    return Script(
        reply=_reply(raw.get("reply")),
        usage=raw.get("usage", COUNTED),
        chunks=_integer(raw, "chunks", low=1, high=CHUNKS_MAX),
        delay_ms=_delay(raw, "delay_ms"),
        first_delay_ms=_delay(raw, "first_delay_ms"),
        chunk_delay_ms=_delay(raw, "chunk_delay_ms"),
        status=_integer(raw, "status", low=STATUS_MIN, high=STATUS_MAX),
        retry_after=_retry_after(raw),
        fault=_fault(raw.get("fault")),
        service_tier=_text(raw, "service_tier"),
        finish_reason=_text(raw, "finish_reason"),
        marker=_text(raw, "marker"),
    )


def _check_together(script: Script, *, stream: bool) -> None:
    if script.retry_after is not None and script.status is None:
        raise refusal("needs 'sandbox.status'", name="retry_after")
    if script.status is not None and script.fault is not None:
        raise refusal("cannot be combined with 'sandbox.status'", name="fault")
    if script.chunks is not None and isinstance(script.reply, list):
        raise refusal("cannot be combined with a list in 'sandbox.reply'", name="chunks")
    if script.fault is Fault.GARBAGE_SSE and not stream:
        raise refusal("garbage_sse needs a streamed request", name="fault")


def _reply(value: object) -> str | list[str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        chunks = [value]
    elif isinstance(value, list) and all(isinstance(chunk, str) for chunk in value):
        chunks = value
    else:
        raise refusal("must be text or a list of texts", name="reply")
    if len(chunks) > CHUNKS_MAX:
        raise refusal(f"has more than {CHUNKS_MAX} chunks", name="reply")
    if sum(map(len, chunks)) > REPLY_CHARACTERS_MAX:
        raise refusal(f"is longer than {REPLY_CHARACTERS_MAX} characters", name="reply")
    return value if isinstance(value, str) else chunks


def _fault(value: object) -> Fault | None:
    if value is None:
        return None
    try:
        return Fault(str(value))
    except ValueError:
        raise refusal(f"must be one of {', '.join(Fault)}", name="fault") from None


def _delay(raw: Mapping[str, object], name: str) -> int:
    return _integer(raw, name, low=0, high=DELAY_MS_MAX) or 0


def _integer(raw: Mapping[str, object], name: str, *, low: int, high: int) -> int | None:
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise refusal(f"must be a whole number from {low} to {high}", name=name)
    return value


def _text(raw: Mapping[str, object], name: str) -> str | None:
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > TEXT_CHARACTERS_MAX:
        raise refusal(f"must be text of at most {TEXT_CHARACTERS_MAX} characters", name=name)
    return value


def _retry_after(raw: Mapping[str, object]) -> str | None:
    """Return the header's value; text may be a date or nonsense, as long as it fits a header."""
    value = raw.get("retry_after")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = _text(raw, "retry_after")
    if text is not None and not (text.isascii() and text.isprintable()):
        raise refusal("must be a number or printable ASCII", name="retry_after")
    return text
