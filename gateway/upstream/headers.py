"""Which headers of an upstream's answer are passed on, and how its body is encoded."""

from collections.abc import Mapping, Sequence
from typing import Final

RawHeaders = Sequence[tuple[bytes, bytes]]
"""Names, in lower case, and values as they came."""

NAME_BYTES_MAX: Final = 128
VALUE_BYTES_MAX: Final = 1_024
"""A longer one of those that are passed on as they are is left out: cut, it would say else."""
TOLD_BYTES_MAX: Final = 256
TOLD_MAX: Final = 32
"""Limits that a provider tells of: at most so many, each cut to so many bytes."""

_AS_THEY_ARE: Final = (
    "content-type", "content-disposition", "retry-after", "retry-after-ms", "openai-processing-ms",
)  # fmt: skip
_RENAMED: Final = {
    "x-request-id": "llm_provider-x-request-id",
    "request-id": "llm_provider-request-id",
}
_PASSED: Final[Mapping[bytes, str]] = {name.encode(): name for name in _AS_THEY_ARE} | {
    name.encode(): new for name, new in _RENAMED.items()
}
_TOLD: Final = (b"x-ratelimit-", b"anthropic-ratelimit-")


def passed_on(headers: RawHeaders) -> dict[str, str]:
    """Return what the caller is told, by lower-case names; of a repeated header the first."""
    passed: dict[str, str] = {}
    told = 0
    for name, value in headers:
        if (plain := _PASSED.get(name)) is not None:
            _add(passed, plain, value)
        elif name.startswith(_TOLD) and told < TOLD_MAX and len(name) <= NAME_BYTES_MAX:
            told += 1
            _add(passed, f"llm_provider-{name.decode('latin-1')}", value)
    return passed


def encoding_of(headers: RawHeaders) -> str:
    """Return all encodings of a body in their order, commas between; empty if it has none."""
    found = []
    for name, value in headers:
        if name in {b"content-encoding", b"transfer-encoding"}:
            parts = value.decode("latin-1").lower().split(",")
            found += [part.strip().removeprefix("x-") for part in parts]  # x-gzip is gzip
    return ", ".join(part for part in found if part not in {"", "identity", "chunked"})


def _add(passed: dict[str, str], name: str, value: bytes) -> None:
    if name.startswith("llm_provider-"):
        value = value[:TOLD_BYTES_MAX]
    if len(value) <= VALUE_BYTES_MAX:
        passed.setdefault(name, value.decode("latin-1"))
