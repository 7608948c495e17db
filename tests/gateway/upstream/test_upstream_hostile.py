"""
An upstream at its worst: no answer, or part of one, may ever reach another request.

What HTTP/1.1 cannot tell apart is left out: an answer too many that comes while the next request
on the same connection waits for its own.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from gateway.upstream import Upstream, UpstreamBroke, UpstreamNotReached
from tests.gateway.upstream.raw_servers import Call, RawServer, answer, client, until

pytestmark = [pytest.mark.no_servers, pytest.mark.usefixtures("named")]
BOTH_LOOPS = True

REQUESTS, CONNECTIONS_MAX = 200, 24
FATES = [
    "whole", "whole", "whole", "chunked", "until close", "interim", "slow", "pipelined", "surplus",
    "cut", "cut chunk", "reset", "reset midway", "closed", "silent", "early", "garbage",
    "said late",
]  # fmt: skip
ENDS = {"until close", "cut", "cut chunk", "closed", "garbage", "early"}


def body_of(marker: str, dice: Random) -> bytes:
    """Return a body that is nothing but its marker, over and over."""
    return f"<{marker}>".encode() * dice.choice([1, 10, 300, dice.randrange(1, 4_000)])


def chunked(body: bytes, dice: Random) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    at = 0
    while at < len(body):
        part = body[at : at + dice.randrange(1, 9_000)]
        yield b"%x\r\n%s\r\n" % (len(part), part)
        at += len(part)
    yield b"0\r\n\r\n"


def bytes_of(fate: str, body: bytes, dice: Random) -> bytes:
    """Return what is written for this fate."""
    plain, stream = answer(body), b"".join(chunked(body, dice))
    short = body[:4_000]  # so that it comes at once
    return {
        "chunked": stream,
        "cut chunk": stream[: dice.randrange(1, len(stream) - 5)],
        "until close": b"HTTP/1.1 200 OK\r\n\r\n" + body,
        "interim": b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + plain,
        "pipelined": answer(short) * 2,
        "surplus": answer(short) + short[: dice.randrange(1, len(short))],
        "cut": plain[: dice.randrange(1, len(plain))],
        "reset midway": plain[: dice.randrange(1, len(plain))],
        "garbage": body,
        "reset": b"", "closed": b"", "silent": b"",
    }.get(fate, plain)  # fmt: skip


async def misbehave(call: Call, dice: Random) -> None:
    fate = dice.choice(FATES)
    data = bytes_of(fate, body_of(call.body.decode(), dice), dice)
    if fate == "silent":
        await asyncio.sleep(2)
    if fate in {"pipelined", "surplus"}:
        call.writer.write(data)
    else:
        await send_in_parts(call, data, slow=fate == "slow", dice=dice)
    if fate.startswith("reset"):
        call.reset()
    elif fate in ENDS:
        call.close()
    elif fate == "said late":
        await say_late(call, data, dice)


async def send_in_parts(call: Call, data: bytes, *, slow: bool, dice: Random) -> None:
    at = 0
    while at < len(data):
        size = dice.randrange(1, max(2, len(data) // (20 if slow else 3)))
        await call.send(data[at : at + size])
        at += size
        await asyncio.sleep(dice.random() * (0.02 if slow else 0.002))


async def say_late(call: Call, data: bytes, dice: Random) -> None:
    """Say it once more, if the connection is idle: nobody has asked for it."""
    await asyncio.sleep(dice.random() * 0.01)
    if not call.has_next():
        call.writer.write(data[:4_000])


async def ask_and_read(upstream: Upstream, url: str, marker: str, dice: Random) -> bytes:
    """Ask like a caller who may be slow, leave half-way, or stop in time."""
    response = await upstream.request("POST", url, body=marker.encode(), headers={})
    got = bytearray()
    leaves = dice.random() < 0.1
    try:
        async for chunk in response.chunks():
            got += chunk
            if leaves:
                break
            if dice.random() < 0.1:
                await asyncio.sleep(dice.random() * 0.01)
    except UpstreamBroke:
        pass
    finally:
        response.close()
    return bytes(got)


async def one(upstream: Upstream, url: str, number: int, outcomes: Counter[str]) -> None:
    dice = Random(number)
    marker = f"{number}-{dice.getrandbits(64):x}"
    patience = dice.choice([0.02, 0.2, 5, 5, 5, 5])
    try:
        async with asyncio.timeout(patience):
            got = await ask_and_read(upstream, url, marker, dice)
    except TimeoutError:
        outcomes["cancelled"] += 1
    except (UpstreamBroke, UpstreamNotReached) as error:
        outcomes[type(error).__name__] += 1
    else:
        own = f"<{marker}>".encode()
        assert got == (own * (len(got) // len(own) + 1))[: len(got)], f"{marker}: {got[:200]!r}"
        outcomes["own" if got else "nothing"] += 1


@pytest.mark.parametrize("seed", range(3))
async def test_no_byte_of_an_answer_ever_reaches_another_request(seed: int, named: str) -> None:
    dice = Random(seed)
    outcomes: Counter[str] = Counter()
    server = RawServer(lambda call: misbehave(call, dice))
    numbers: Any = range(seed * REQUESTS, (seed + 1) * REQUESTS)

    async with (
        server.running(),
        client(
            connections_max=CONNECTIONS_MAX, idle_seconds=2, total_seconds=6, connect_seconds=5
        ) as upstream,
    ):
        await asyncio.gather(*(one(upstream, server.url, n, outcomes) for n in numbers))
        server.script = lambda call: call.send(answer(call.body))
        after = await asyncio.gather(
            *(ask_and_read(upstream, server.url, f"{n}", Random(1)) for n in range(100))
        )

        if named == "own":
            pool: Any = upstream._pool  # type: ignore[attr-defined]  # of the own client only
            idle = sum(map(len, pool._idle.values()))
            assert pool._places_taken == len(pool._open) == idle <= CONNECTIONS_MAX
            assert not pool._waiting

    assert after == [f"{n}".encode() for n in range(100)]
    assert outcomes.total() == REQUESTS
    assert outcomes["own"] > REQUESTS / 5
    assert outcomes["cancelled"] > 5
    assert outcomes["UpstreamBroke"] > 5
    await until(lambda: server.open == 0)
