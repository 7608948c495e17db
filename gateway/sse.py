"""
Reads server-sent events as they pass, without touching a byte of them.

Splits the stream into whole events wherever the network cut it; lines end with LF, CRLF or CR
(https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).
"""

import re
from collections.abc import Iterator
from typing import Final

EVENT_BYTES_MAX: Final = 16 * 2**20
# A CR that ends an empty line may be half of a CRLF: after an LF it waits for the next byte, and
# after another CR the LF is left to the next event, where it is an empty line.
_END_OF_EVENT: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n|\r?\n\r(?=[^\n])")
_LONGEST_END: Final = 4
# The mark is skipped before any line, not only the first: proxies put streams together.
_BYTE_ORDER_MARK: Final = rb"(?:\xef\xbb\xbf)?"
_DATA: Final = re.compile(
    rb"(?:^|[\r\n])" + _BYTE_ORDER_MARK + rb"data(?::[ ]?([^\r\n]*)|(?=[\r\n]|\Z))"
)


class EventSplitter:
    """Takes chunks, gives back whole events with their terminators: together, the input."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the events that this chunk completes; of an oversized one, each full piece."""
        is_whole = not self._pending and chunk.endswith(b"\n\n") and b"\n\n\n" not in chunk
        if is_whole and _is_plain(chunk):
            # As nearly all send it: whole events, at a fraction of the time.
            for event in chunk[:-2].split(b"\n\n"):
                yield event + b"\n\n"
            return
        self._pending += chunk
        while (end := self._next_end()) is not None:
            yield bytes(self._pending[:end])
            del self._pending[:end]
            self._searched = 0

    def rest(self) -> bytes:
        """Return what is left without a terminator, and forget it."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._searched = 0
        return rest

    def _next_end(self) -> int | None:
        found = _END_OF_EVENT.search(self._pending, self._searched, EVENT_BYTES_MAX)
        if found is not None:
            return found.end()
        if len(self._pending) >= EVENT_BYTES_MAX:
            return EVENT_BYTES_MAX
        # A terminator may be cut in two: look again at its first bytes, and at no others.
        self._searched = max(0, len(self._pending) - _LONGEST_END + 1)
        return None


def _is_plain(data: bytes) -> bool:
    return b"\r" not in data and b"\xef\xbb\xbf" not in data and len(data) < EVENT_BYTES_MAX


def data_of(event: bytes) -> bytes:
    """Return the event's data lines, joined by line feeds."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and _is_plain(event):
        return event[6:-2]
    lines = _DATA.findall(event)
    return lines[0] if len(lines) == 1 else b"\n".join(lines)
