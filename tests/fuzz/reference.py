"""
What a reader of server-sent events finds in a stream: WHATWG's algorithm, line by line.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Slow and
plain, to hold the gateway's reader against. It differs in one thing, as that does: a byte order
mark is skipped before any line.
"""

from collections.abc import Iterator
from typing import Final

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def dispatched(stream: bytes) -> list[bytes]:
    """Return the data of each event; events with none are left out."""
    found: list[bytes] = []
    lines: list[bytes] = []
    for line in _lines(stream):
        name, _, value = line.removeprefix(BYTE_ORDER_MARK).partition(b":")
        if not line:
            found.append(b"\n".join(lines))
            lines.clear()
        elif name == b"data":
            lines.append(value.removeprefix(b" "))
    return [data for data in found if data]


def _lines(stream: bytes) -> Iterator[bytes]:
    """Yield the lines that have an end: LF, CRLF or CR."""
    for line in stream.splitlines(keepends=True):
        text = line.rstrip(b"\r\n")
        if text != line:
            yield text
