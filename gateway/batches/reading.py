"""Asks a provider how a batch is doing, and reads the output of one that has ended."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from gateway.batches import upstreams
from gateway.batches.metering import BatchMeter
from gateway.batches.upstreams import Address
from gateway.providers.provider import BATCHES, FILES
from gateway.upstream import Response, Upstream, make
from spend import events
from spend.usage import openai_batch

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
LINE_BYTES_MAX: Final = 16 * 2**20
"""A longer line of an output is not read; its bytes count."""
GONE: Final = (404, 410)


class Unreadable(Exception):
    """A provider says what nobody can go by now; the text is for who operates this."""


@dataclass(frozen=True, slots=True)
class Looked:
    """How a batch is doing: ``answer`` as its provider gave it, and whether it has ended."""

    answer: Mapping[str, Any]
    has_ended: bool
    is_gone: bool = False
    """The provider knows of no such batch, or has its output no more: nobody can say its cost."""


async def look(*, upstream_id: str, address: Address, meter: BatchMeter) -> Looked:
    """
    Ask for a batch; of one that has ended ``meter`` takes the whole output.

    :raises Unreadable: if the provider answered with an error, or with no batch
    :raises UpstreamNotReached: if it cannot be reached
    :raises UpstreamBroke: if it gave no answer, or not in full
    """
    upstream = make(
        total_seconds=settings.GATEWAY_UPSTREAM_SECONDS_MAX,
        connect_seconds=settings.GATEWAY_UPSTREAM_CONNECT_SECONDS,
        idle_seconds=settings.GATEWAY_UPSTREAM_IDLE_SECONDS,
        connections_max=1,
        allowed=settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS,
    )
    try:
        return await _look(upstream, upstream_id, address, meter)
    finally:
        await upstream.close()


async def _look(
    upstream: Upstream, upstream_id: str, address: Address, meter: BatchMeter
) -> Looked:
    answer = await upstreams.ask(upstream, address, "GET", (BATCHES, upstream_id))
    if answer.status in GONE:
        return Looked({}, has_ended=True, is_gone=True)
    if answer.is_error:
        raise Unreadable(f"The provider answered {answer.status} when it was asked for the batch.")
    told = answer.json()
    if not isinstance(told.get("status"), str):
        raise Unreadable("The provider's answer is no batch.")
    if told["status"] not in ENDED:
        return Looked(told, has_ended=False)
    return Looked(told, True, is_gone=not await _read(upstream, told, address, meter))


async def _read(
    upstream: Upstream, told: Mapping[str, Any], address: Address, meter: BatchMeter
) -> bool:
    """Have the output read; return False if it is gone, and the batch tells no usage either."""
    file_id = upstreams.id_in(told, "output_file_id")
    if not file_id:
        if _completed(told):
            raise Unreadable("Lines are completed, and there is no output.")
        return True
    response = await upstreams.begin(upstream, address, "GET", (FILES, file_id, "content"))
    try:
        if response.status in GONE:
            return _by_the_batch(told, meter)
        if response.status >= upstreams.REDIRECT_STATUS_MIN:
            raise Unreadable(f"The provider answered {response.status} for the output.")
        await _add_lines(response, meter)
    finally:
        response.close()
    return True


def _by_the_batch(told: Mapping[str, Any], meter: BatchMeter) -> bool:
    """Take what the batch itself tells of its usage; return whether it tells any."""
    reading = openai_batch.read(told)
    if reading is None:
        return False
    meter.flags.add(events.ESTIMATED)
    meter.add_reading(reading)
    return True


async def _add_lines(response: Response, meter: BatchMeter) -> None:
    async for line in split(response.chunks(), bytes_max=settings.GATEWAY_BATCH_OUTPUT_BYTES_MAX):
        if isinstance(line, int):
            meter.add_unread(line)
        else:
            meter.add(line)


async def split(chunks: AsyncIterator[bytes], *, bytes_max: int) -> AsyncIterator[bytes | int]:
    """
    Yield each line that is not blank as it comes, or its length if it is longer than
    ``LINE_BYTES_MAX``; no more than one line is kept in memory.

    :raises Unreadable: beyond ``bytes_max`` in all
    """
    line, length, total = bytearray(), 0, 0
    async for chunk in chunks:
        total += len(chunk)
        if total > bytes_max:
            raise Unreadable("The output is larger than GATEWAY_BATCH_OUTPUT_BYTES_MAX.")
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            if whole := _whole(line, length + len(part), part):
                yield whole
            line, length = bytearray(), 0
        length += len(rest)
        line += rest if length <= LINE_BYTES_MAX else b""
    if whole := _whole(line, length, b""):
        yield whole


def _whole(line: bytearray, length: int, part: bytes) -> bytes | int:
    """Return a line that has ended with ``part``, or its length if it is too long; 0: is blank."""
    if length > LINE_BYTES_MAX:
        return length
    return bytes(line + part).strip() or 0


def _completed(told: Mapping[str, Any]) -> bool:
    """Return whether the batch says that lines of it have been answered."""
    counts = told.get("request_counts")
    completed = counts.get("completed") if isinstance(counts, dict) else None
    return isinstance(completed, int) and completed > 0
