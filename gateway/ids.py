"""Request ids: UUIDv7 (RFC 9562, section 5.7), unique and ordered by time."""

import os
import time
import uuid


def new_request_id() -> str:
    ms = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    number = (ms & (1 << 48) - 1) << 80 | random
    number = number & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=number & ~(0b11 << 62) | 0b10 << 62))
