"""
Where answers are kept: in the live store's server or another, over a connection of its own.

Nothing here fails a request: what does not answer in time is a miss, and nobody asks again for a
while. The cache bounds itself, since the live store never drops anything and must not fill up.
"""

import logging
import time
from typing import Final

from django.conf import settings

from budgets.errors import OutcomeUnknown
from budgets.store_connection import StoreConnection
from budgets.store_interface import ReplyError
from gateway import metrics
from gateway.caching import entries, scripts
from gateway.caching.entries import Entry
from gateway.caching.recording import Room

log = logging.getLogger(__name__)

AWAY_SECONDS: Final = 1.0
"""So long nobody is asked after it did not answer."""
KEPT_AT_ONCE_MAX: Final = 64
RECORDED_BYTES_MAX: Final = 64 * 2**20
"""Of all answers that are on their way, in a process."""
ENTRY_BYTES_MORE: Final = 512
"""What the server takes for an answer beside its bytes, with its place in the index."""
_ERRORS: Final = (OutcomeUnknown, ReplyError)


class CacheAway(Exception):
    """The cache did not answer in time, or not lately."""


class ResponseCache:
    def __init__(self) -> None:
        self._connection = StoreConnection(
            url=settings.RESPONSE_CACHE_URL or settings.REDIS_URL,
            timeout_ms=settings.RESPONSE_CACHE_TIMEOUT_MS,
            scripts=(scripts.KEEP,),
        )
        self.room = Room(bytes_max=RECORDED_BYTES_MAX)
        self._away_until = float("-inf")
        self._keeping = 0

    async def find(self, key: str) -> Entry | None:
        """
        Return what is kept under a key.

        :raises CacheAway: if nobody can say
        """
        if time.monotonic() < self._away_until:
            raise CacheAway
        try:
            kept = await self._connection.command("GET", scripts.ENTRY + key)
        except _ERRORS as error:
            self._note_away(error)
            raise CacheAway from error
        if not isinstance(kept, bytes):
            return None
        try:
            return entries.decode(kept)
        except ValueError:
            log.warning("cache_entry_unreadable", extra={"key": key})
            return None

    async def keep(self, key: str, entry: Entry, *, seconds: int) -> None:
        """Keep an answer if there is room for it; nobody is told if there is none."""
        if self._keeping >= KEPT_AT_ONCE_MAX or time.monotonic() < self._away_until:
            metrics.cache_kept(metrics.NOT_KEPT)
            return
        self._keeping += 1
        try:
            metrics.cache_kept(await self._keep(key, entries.encode(entry), seconds))
        finally:
            self._keeping -= 1

    async def close(self) -> None:
        await self._connection.close()

    async def _keep(self, key: str, kept: bytes, seconds: int) -> str:
        size = len(kept) + ENTRY_BYTES_MORE
        words: list[str | bytes] = [
            key, str(seconds * 1_000), str(size), str(settings.RESPONSE_CACHE_BYTES_MAX), kept,
        ]  # fmt: skip
        try:
            outcome, *_ = await self._connection.run(scripts.KEEP, key=scripts.TAG, arguments=words)
        except ReplyError as error:
            # Such as a server that is full: it can still be read.
            log.warning("cache_refused_answer", extra={"error": str(error)[:200]})
            return metrics.NOT_KEPT
        except OutcomeUnknown as error:
            self._note_away(error)
            return metrics.NOT_KEPT
        return metrics.KEPT if outcome == b"kept" else metrics.FULL

    def _note_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + AWAY_SECONDS
        log.warning("cache_away", extra={"error": type(error).__name__})
