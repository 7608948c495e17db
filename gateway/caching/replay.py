"""A stream that is given again: the same events, one after the other, from memory."""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from gateway import sse
from spend import events

PIECE_BYTES: Final = 64 * 1_024


class Replay:
    """Stands in for the stream of an upstream; its request is settled before it begins."""

    def __init__(self, body: bytes, *, in_events: bool) -> None:
        self._pieces = _events_of(body) if in_events else _pieces_of(body)
        self._has_ended = False
        self.when_settled: Callable[[Collection[str]], None] = lambda _: None

    def __aiter__(self) -> "Replay":
        return self

    async def __anext__(self) -> bytes:
        piece = None if self._has_ended else next(self._pieces, None)
        if piece is None:
            self._end(())
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """End it wherever it is."""
        self._end((events.CLIENT_CLOSED,))

    def let_go(self) -> None:
        """End it: its caller has gone."""
        self._end((events.CLIENT_CLOSED,))

    def _end(self, flags: Collection[str]) -> None:
        if not self._has_ended:
            self._has_ended = True
            self.when_settled(flags)


def _events_of(body: bytes) -> Iterator[bytes]:
    splitter = sse.EventSplitter()
    yield from splitter.feed(body)
    if rest := splitter.rest():
        yield rest


def _pieces_of(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
