"""
Answers that come compressed, though every request asks for ``identity``.

Gzip and deflate are inflated step by step, so that a small answer that grows without end costs
neither memory nor the event loop; anything else is an answer that cannot be read.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from gateway.upstream.errors import UpstreamBroke

STEP_BYTES: Final = 64 * 1_024
_GZIP, _ZLIB, _BARE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_KNOWN: Final = {"gzip", "deflate"}
_ZLIB_METHOD: Final = 8


async def decoded(
    pieces: AsyncIterator[bytes], encoding: str, *, bytes_max: int
) -> AsyncIterator[bytes]:
    """
    Yield what ``pieces`` inflate to, at most ``STEP_BYTES`` at once.

    :raises UpstreamBroke: if it is not gzip or deflate, is broken or cut off, or grows beyond
        ``bytes_max``
    """
    if encoding not in _KNOWN:
        raise UpstreamBroke(f"its answer is encoded as {encoding[:64]!r}")
    inflater: Inflater | None = None
    inflated = 0
    async for piece in pieces:
        inflater = inflater or Inflater(encoding, piece)
        for step in inflater.feed(piece):
            inflated += len(step)
            if inflated > bytes_max:
                raise UpstreamBroke("the answer is too large")
            yield step
            if len(step) == STEP_BYTES:
                await asyncio.sleep(0)  # others run between two steps of a large one
    if inflater is not None:
        inflater.end()


class Inflater:
    def __init__(self, encoding: str, beginning: bytes) -> None:
        self._inflate = zlib.decompressobj(_GZIP if encoding == "gzip" else _kind(beginning))

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Yield what this inflates to.

        :raises UpstreamBroke: if it is broken, or goes on after its end
        """
        more = True
        while more:
            step = self._step(data)
            data = self._inflate.unconsumed_tail
            # A full step may have left something inside, though all input is taken.
            more = bool(data) or len(step) == STEP_BYTES
            if step:
                yield step
        if self._inflate.unused_data:
            raise UpstreamBroke("its answer goes on after its end")

    def end(self) -> None:
        """
        Return if all has come.

        :raises UpstreamBroke: if not
        """
        if not self._inflate.eof:
            raise UpstreamBroke("its answer ends before its end")

    def _step(self, data: bytes) -> bytes:
        if self._inflate.eof and data:
            raise UpstreamBroke("its answer goes on after its end")
        try:
            return self._inflate.decompress(data, STEP_BYTES)
        except zlib.error as error:
            raise UpstreamBroke("its answer is not what its encoding says") from error


def _kind(beginning: bytes) -> int:
    """Return how a deflated body is wrapped: many servers send it bare, against RFC 9110."""
    has_header = beginning[0] & 0x0F == _ZLIB_METHOD and beginning[0] >> 4 <= 7  # noqa: PLR2004  # RFC 1950: windows of 32 KiB at most
    return _ZLIB if has_header else _BARE
