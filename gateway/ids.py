"""Request ids: UUIDv7 (RFC 9562, section 5.7), unique and ordered by time."""

import os
import random
import time
from typing import Final

# Not secret: whoever asks for a request needs its key, too. The system's own randomness would be
# a system call for each request.
_RANDOM: Final = random.Random(os.urandom(32))  # noqa: S311  # as said
_VERSION: Final = 7 << 76
_VARIANT: Final = 0b10 << 62
_BITS_A: Final = 12
_BITS_B: Final = 62


def new_request_id() -> str:
    ms = time.time_ns() // 1_000_000 & (1 << 48) - 1
    first = ms << 80 | _VERSION | _RANDOM.getrandbits(_BITS_A) << 64
    digits = f"{first | _VARIANT | _RANDOM.getrandbits(_BITS_B):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
