"""
Remembers how many tokens texts have, without keeping the texts.

What is kept of a text is a digest under a key that each process draws for itself, so a memory dump
tells no text and no stored digest can be compared with a guess. Entries are all of one size: the
bound on their number bounds their bytes.
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

ENTRIES_MAX: Final = 16_384
ENTRY_BYTES: Final = 256
"""A digest, a tuple of two numbers and their place in the table, rounded up."""
CACHE_BYTES_MAX: Final = ENTRIES_MAX * ENTRY_BYTES
"""Four megabytes."""
CACHED_CHARS_MIN: Final = 256
"""Below this a text is counted about as fast as it is looked up."""
DIGEST_BYTES: Final = 16


class CountCache:
    """Counts by tokenizer and text; the least recently used make room. Safe for threads."""

    def __init__(self, *, entries_max: int = ENTRIES_MAX) -> None:
        assert entries_max > 0, "a cache of nothing remembers nothing"
        self._entries_max = entries_max
        self._key = secrets.token_bytes(32)
        self._lock = Lock()
        self._counts: OrderedDict[bytes, tuple[int, bool]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def get(
        self, *, tokenizer: str, text: str, count: Callable[[str], tuple[int, bool]]
    ) -> tuple[int, bool]:
        """Return what ``count`` says of the text: now, or when it was last asked."""
        if len(text) < CACHED_CHARS_MIN:
            return count(text)
        name = self._digest(tokenizer, text)
        with self._lock:
            if (known := self._counts.get(name)) is not None:
                self._counts.move_to_end(name)
                return known
        counted = count(text)
        with self._lock:
            self._counts[name] = counted
            if len(self._counts) > self._entries_max:
                self._counts.popitem(last=False)
        return counted

    def _digest(self, tokenizer: str, text: str) -> bytes:
        digest = hashlib.blake2b(
            key=self._key, digest_size=DIGEST_BYTES, person=tokenizer.encode()[:16]
        )
        digest.update(text.encode(errors="surrogatepass"))
        return digest.digest()
