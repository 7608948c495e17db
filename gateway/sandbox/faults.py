"""What a scripted fault does to the bytes of an answer."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Final

from gateway.sandbox.replies import Reply, Step, steps
from gateway.sandbox.script import Fault

# Bytes that no parser of server-sent events should take for one: a NUL, broken UTF-8, a line
# without a colon, a field that does not exist, and no blank line at the end.
GARBAGE: Final = b"\x00\xff\xfe\r\rno colon here\ndata {}\nnonsense: data: {\ndata"

ENDS_EARLY: Final = frozenset({Fault.TRUNCATE, Fault.RESET_MID_STREAM, Fault.GARBAGE_SSE})


def stream_steps(reply: Reply) -> Iterator[Step]:
    """Yield the stream's steps as its fault leaves them; it strikes after half the parts."""
    fault = reply.chat.script.fault
    whole = steps(reply)
    half = 1 + (len(reply.parts) + 1) // 2
    if fault in ENDS_EARLY:
        return _ended_early(whole, after=half, garbage=fault is Fault.GARBAGE_SSE)
    if fault is Fault.MALFORMED_JSON:
        return _with_one_broken(whole, number=half - 1)
    return whole


def broken_json(body: bytes) -> bytes:
    """Return ``body`` without its last third."""
    return body[: len(body) * 2 // 3]


def _ended_early(whole: Iterator[Step], *, after: int, garbage: bool) -> Iterator[Step]:
    last = Step(data=b"", completion_tokens=0)
    for last in islice(whole, after):
        yield last
    if garbage:
        yield replace(last, data=GARBAGE, delay_ms=0)


def _with_one_broken(whole: Iterator[Step], *, number: int) -> Iterator[Step]:
    before = islice(whole, number)
    broken = (replace(step, data=broken_json(step.data) + b"\n\n") for step in islice(whole, 1))
    return chain(before, broken, whole)
