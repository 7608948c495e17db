"""How long a recording is: as its headers say, and at most."""

import io
from typing import Final

from tinytag import TinyTag, TinyTagException

BYTES_A_SECOND_MIN: Final = 750
"""Of Opus at 6 kbit/s, the lowest rate of RFC 6716: nothing that is spoken takes less."""
SECONDS_MAX: Final = 10**6


def milliseconds_max(data: bytes) -> int:
    """Return how long it can be at most, whatever its headers say."""
    return -(-len(data) * 1_000 // BYTES_A_SECOND_MIN)


def milliseconds(data: bytes, *, name: str) -> int:
    """Return how long it is by its headers; the most it can be where they do not say."""
    most = milliseconds_max(data)
    try:
        told = TinyTag.get(filename=name, file_obj=io.BytesIO(data), tags=False).duration
    except (TinyTagException, ValueError, ArithmeticError, LookupError, EOFError):
        return most
    if not told or not 0 < told < SECONDS_MAX:
        return most
    return min(round(told * 1_000), most)
