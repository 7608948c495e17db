"""
What ``make fuzz`` looks for, in a short run that is the same each time; and the inputs that are too
large, or too special, to be met by chance.
"""

import random
from collections.abc import Sequence

import pytest

from gateway import sse
from tests.fuzz import targets
from tests.fuzz.seeds import SEEDS, WORDS

pytestmark = pytest.mark.no_servers

ROUNDS = 4_000
CHANGES_MAX = 12
TEN_MIB = 10 * 2**20


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", targets.TARGETS)
def test_no_bytes_break_what_reads_them(name: str, seed: int) -> None:
    dice = random.Random(f"{name} {seed}")

    for data in SEEDS[name]:
        targets.TARGETS[name](data)
    for _ in range(ROUNDS):
        targets.TARGETS[name](_changed(dice, dice.choice(SEEDS[name]), words=WORDS[name]))


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: 1\n\rdata: 2\r\n\rdata: 3\n\r\n", [b"1", b"2", b"3"]),
        (b"data: 1\r\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
        (b"\xef\xbb\xbfdata: 1\n\ndata: 2", [b"1", b"2"]),
        (b": PROCESSING\n\n: PROCESSING\n\ndata: 1\n\n", [b"1"]),
        (b"data\ndata: 1\ndata\n\n", [b"\n1\n"]),
        (b"data: \xf0\x9f\x98\x80 \xed\xa0\x80 \x00\n\n", [b"\xf0\x9f\x98\x80 \xed\xa0\x80 \x00"]),
        (b"id: 1\nevent: data: x\nretry: 7\n\n", []),
    ],
)
def test_streams_that_are_written_otherwise_are_read_like_any_other(
    stream: bytes, events: list[bytes]
) -> None:
    one_by_one = (stream[at : at + 1] for at in range(len(stream)))

    targets.check_stream(stream, [(stream,), one_by_one])

    assert [data for event in targets.read([stream]) if (data := sse.data_of(event))] == events


@pytest.mark.parametrize(
    ("length", "size"), [(TEN_MIB, 1_448), (TEN_MIB, 2**16), (TEN_MIB, 2 * TEN_MIB), (2**19, 1)]
)
def test_a_large_event_passes_whole_in_a_time_that_grows_with_its_length(
    length: int, size: int
) -> None:
    stream = b'data: {"content":"' + b"x" * length + b'"}\r\n\r\ndata: [DONE]\r\n\r\n'

    # In single bytes this would take hours if each piece had all before it searched again.
    large, done, rest = targets.read(
        stream[start : start + size] for start in range(0, len(stream), size)
    )

    assert large + done + rest == stream
    assert len(sse.data_of(large)) == length + len('{"content":""}')
    assert sse.data_of(done) == b"[DONE]"


def _changed(dice: random.Random, data: bytes, *, words: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, CHANGES_MAX)):
        at = dice.randint(0, len(changed))
        until = at + dice.randint(0, 8)
        part = dice.choice([b"", dice.randbytes(until - at), data[:until], *words])
        if dice.random() < 0.5:
            changed[at:at] = part
        else:
            changed[at:until] = part
    return bytes(changed)
