"""Price lists as bad as they come, in each form that is read."""

import json
from collections.abc import Callable
from typing import Any, Final

BAD_RATES: Final = (
    "NaN", "sNaN", "Infinity", "-Infinity", "1e400", "1e308", "-1", "-0", "1e-30", "１２", "٣",
    "1,000", "0x10", "true", "[]", "",
)  # fmt: skip
"""As text, and where they are such as JSON too."""
BAD_JSON: Final = (
    *(json.dumps(text) for text in BAD_RATES),
    "NaN", "Infinity", "-Infinity", "1e400", "1e308", "-1", "1e-30", "true", "[]", "[1]",
    "9" * 400, "9" * 5_000,
)  # fmt: skip


def csv_with(rate: str, *, provider: str = "vendor", model: str = "m") -> bytes:
    quoted = f'"{rate}"'
    return f"provider,model,component,rate\n{provider},{model},input,{quoted}\n".encode()


def litellm_with(literal: str, *, provider: str = "vendor", model: str = "m") -> bytes:
    """Return a map with one price as it stands there, whether it is JSON or not."""
    row = f'{{"litellm_provider": "{provider}", "input_cost_per_token": {literal}}}'
    return f'{{"{model}": {row}}}'.encode()


def litellm_rows(count: int, **fields: Any) -> bytes:
    row = {"litellm_provider": "vendor", "input_cost_per_token": 1e-6, **fields}
    return json.dumps({f"m{n}": row for n in range(count)}).encode()


def csv_rows(count: int) -> bytes:
    head = "provider,model,component,rate\n"
    return (head + "".join(f"vendor,m{n},input,1\n" for n in range(count))).encode()


BOMBS: Final[dict[str, tuple[str, Callable[[], bytes], str]]] = {
    "deep object": ("litellm", lambda: b'{"a":' * 200_000, "is "),
    "deep list": ("litellm", lambda: b"[" * 200_000, "is "),
    "40 MB of JSON": ("litellm", lambda: b'{"a": "' + b"x" * 40_000_000 + b'"}', "is larger"),
    "40 MB of CSV": ("csv", lambda: b"x" * 40_000_000, "is larger"),
    "30,000 rows of JSON": ("litellm", lambda: litellm_rows(30_000), "at most 20,000 models"),
    "30,000 rows of CSV": ("csv", lambda: csv_rows(30_000), "more than 20,000 rows"),
    "not JSON": ("litellm", lambda: b"{", "is no JSON"),
    "JSON that is no map": ("litellm", lambda: b"[]", "is no object"),
    "a row that is no object": ("litellm", lambda: b'{"m": 1}', "m is no object"),
    "a name twice": ("litellm", lambda: b'{"m": {}, "m": {}}', "m stands there twice"),
    "not UTF-8": ("csv", lambda: b"\xff\xfe", "is not UTF-8"),
    "nothing": ("csv", lambda: b"", "provider is a column that is missing"),
    "a NUL": ("csv", lambda: b"provider,model,component,rate\nv,m\0,input,1\n", "m"),
    "a column too many": (
        "csv",
        lambda: b"provider,model,component,rate\nv,m,input,1,2\n",
        "row 1",
    ),
    "a huge field": ("csv", lambda: b"provider,model,component,rate\n" + b"x" * 200_000, "CSV"),
}
