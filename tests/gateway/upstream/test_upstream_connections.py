"""Connections to upstreams: kept, shared, waited for, given up, and never leaked."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.upstream import Response, Upstream, UpstreamBroke, UpstreamNotReached
from gateway.upstream.wire import SEND_BYTES
from tests.gateway.upstream.raw_servers import (
    Call,
    RawServer,
    always,
    answer,
    ask,
    client,
    until,
    whole,
)

pytestmark = [pytest.mark.no_servers, pytest.mark.usefixtures("named")]
BOTH_LOOPS = True

ENDLESS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def silence(call: Call) -> None:
    await call.reader.read()


async def half_an_answer(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    await call.reader.read()


# --- Kept and shared -----------------------------------------------------------------------


async def test_an_answer_that_was_not_taken_whole_ends_its_connection(upstream: Upstream) -> None:
    async with RawServer(half_an_answer).running() as server:
        response = await ask(upstream, server.url)
        assert await anext(response.chunks()) == b"abc"
        response.close()
        await until(lambda: server.open == 0)
        response.close()
        server.script = always(answer())
        assert await whole(upstream, server.url) == b"ok"

    assert server.connections == 2


async def test_an_old_answer_that_is_closed_again_does_no_harm_to_the_next(
    upstream: Upstream,
) -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        if call.path == "/slow":
            await go_on.wait()
        await call.send(answer(call.path.encode()))

    async with RawServer(slow).running() as server:
        first = await ask(upstream, f"{server.url}/fast")
        assert await first.read(bytes_max=9) == b"/fast"
        first.close()
        second = asyncio.create_task(whole(upstream, f"{server.url}/slow"))
        await until(lambda: len(server.calls) == 2)
        first.close()
        go_on.set()
        assert await second == b"/slow"

    assert server.connections == 1


async def test_a_connection_that_the_upstream_has_closed_is_replaced_and_nothing_sent_twice(
    upstream: Upstream,
) -> None:
    async def close_later(call: Call) -> None:
        await call.send(answer())
        call.close()

    async with RawServer(close_later).running() as server:
        for _ in range(3):
            assert await whole(upstream, server.url) == b"ok"
            await until(lambda: server.open == 0)
            await asyncio.sleep(0.02)

    assert [call.connection for call in server.calls] == [1, 2, 3]


async def test_a_close_that_the_event_loop_has_not_seen_yet_is_found_before_writing(
    upstream: Upstream,
) -> None:
    async with RawServer(always(answer())).running() as server:
        await whole(upstream, server.url)
        server.calls[0].end()  # and no turn of the loop until the next request is written
        assert await whole(upstream, server.url) == b"ok"

    assert [call.connection for call in server.calls] == [1, 2]


async def test_idle_connections_are_closed_after_a_while(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    module = {"own": "wire", "aiohttp": "aiohttp_client"}[named]
    monkeypatch.setattr(f"gateway.upstream.{module}.KEEPALIVE_SECONDS", 0.1)

    async with RawServer(always(answer())).running() as server, client() as upstream:
        await asyncio.gather(*(whole(upstream, server.url) for _ in range(3)))
        assert server.open > 0
        await until(lambda: server.open == 0)


async def test_an_upstream_that_says_how_long_it_keeps_a_connection_is_believed(
    named: str, upstream: Upstream
) -> None:
    if named != "own":
        pytest.skip("aiohttp does not read it")
    async with RawServer(always(answer(b"ok", "keep-alive: timeout=1, max=9"))).running() as server:
        await whole(upstream, server.url)
        await until(lambda: server.open == 0)
        await whole(upstream, server.url)

    assert server.connections == 2


async def test_there_are_never_more_connections_than_allowed_and_who_waits_is_served_in_order(
    named: str,
) -> None:
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.01)
        await call.send(answer(call.path.encode()))

    async with RawServer(slow).running() as server, client(connections_max=1) as upstream:
        paths = [f"/{n}" for n in range(20)]
        tasks = []
        for path in paths:
            tasks.append(asyncio.create_task(whole(upstream, server.url + path)))
            await asyncio.sleep(0)
        bodies = await asyncio.gather(*tasks)

    assert [body.decode() for body in bodies] == paths
    assert server.connections == 1
    if named == "own":  # aiohttp lets some overtake
        assert [call.path for call in server.calls] == paths


async def test_an_idle_connection_makes_room_for_another_upstream() -> None:
    script = always(answer())
    async with (
        RawServer(script).running() as one,
        RawServer(script).running() as other,
        client(connections_max=2) as upstream,
    ):
        for _ in range(3):
            await asyncio.gather(*(whole(upstream, one.url) for _ in range(2)))
            await asyncio.gather(*(whole(upstream, other.url) for _ in range(2)))
            assert one.open + other.open <= 4

    assert len(one.calls) == len(other.calls) == 6


# --- Deadlines -----------------------------------------------------------------------------


async def test_who_waits_too_long_for_a_connection_has_sent_nothing() -> None:
    async with (
        RawServer(silence).running() as server,
        client(connections_max=1, connect_seconds=0.1) as upstream,
    ):
        first = asyncio.create_task(ask(upstream, server.url))
        await until(lambda: len(server.calls) == 1)
        with pytest.raises(UpstreamNotReached):
            await ask(upstream, server.url)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        server.script = always(answer())
        assert await whole(upstream, server.url) == b"ok"

    assert len(server.calls) == 2


@pytest.mark.parametrize("script", [silence, half_an_answer])
async def test_an_upstream_that_falls_silent_is_given_up(script: Any) -> None:
    async with RawServer(script).running() as server, client(idle_seconds=0.1) as upstream:
        with pytest.raises(UpstreamBroke) as error:
            await whole(upstream, server.url)
        await until(lambda: server.open == 0)

    assert error.value.timed_out


async def test_an_upstream_that_never_ends_is_given_up() -> None:
    async def drip(call: Call) -> None:
        await call.send(ENDLESS)
        while True:
            await call.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)

    async with (
        RawServer(drip).running() as server,
        client(total_seconds=0.3, idle_seconds=5) as upstream,
    ):
        with pytest.raises(UpstreamBroke) as error:
            await whole(upstream, server.url)
        await until(lambda: server.open == 0)

    assert error.value.timed_out


async def test_an_upstream_that_does_not_take_the_body_is_given_up() -> None:
    async def take_nothing(call: Call) -> None:
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too
        await asyncio.sleep(20)

    async with (
        RawServer(take_nothing, reads_bodies=False).running() as server,
        client(idle_seconds=0.2, total_seconds=2) as upstream,
    ):
        with pytest.raises(UpstreamBroke) as error:
            await ask(upstream, server.url, b"x" * 2**24)

    assert error.value.timed_out


# --- Slow readers and writers --------------------------------------------------------------


async def test_a_large_body_is_written_as_fast_as_it_is_taken(
    named: str, upstream: Upstream
) -> None:
    if named != "own":
        pytest.skip("aiohttp keeps what it has not written where it cannot be seen")

    async with RawServer(silence, reads_bodies=False).running() as server:
        server.script = lambda _: asyncio.sleep(20)
        asking = asyncio.create_task(ask(upstream, server.url, b"x" * 2**25))
        await until(lambda: len(server.calls) == 1)
        await asyncio.sleep(0.1)
        (connection,) = upstream._pool._open  # type: ignore[attr-defined]  # of the own client only
        held = connection._transport.get_write_buffer_size()
        unsent = len(connection._unsent)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    assert 0 < held <= 3 * SEND_BYTES
    assert unsent > 2**24


async def test_reading_stops_while_nobody_takes_and_that_is_no_silence() -> None:
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n")
        for _ in range(1_024):
            await call.send(b"x" * 65_536)
            sent += 65_536

    async def stands_still() -> None:
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)

    async with RawServer(flood).running() as server, client(idle_seconds=0.3) as upstream:
        response = await ask(upstream, server.url)
        chunks = response.chunks()
        got = len(await anext(chunks))
        await stands_still()
        held = sent - got
        await asyncio.sleep(0.4)
        async for chunk in chunks:
            got += len(chunk)
        response.close()

    assert got == 2**26
    assert held < 2**24  # what the system buffers on either side is most of it


# --- Gone callers --------------------------------------------------------------------------


async def wait_for_head(upstream: Upstream, server: RawServer) -> None:
    await ask(upstream, server.url)


async def wait_for_body(upstream: Upstream, server: RawServer) -> None:
    server.script = half_an_answer
    response = await ask(upstream, server.url)
    try:
        await response.read(bytes_max=9)
    finally:
        response.close()


async def send_body(upstream: Upstream, server: RawServer) -> None:
    server.reads_bodies = False
    await ask(upstream, server.url, b"x" * 2**23)


@pytest.mark.parametrize("wait", [wait_for_head, wait_for_body, send_body])
async def test_a_request_that_is_cancelled_ends_its_connection_and_no_other(
    wait: Callable[[Upstream, RawServer], Coroutine[None, None, None]],
) -> None:
    async with RawServer(silence).running() as server, client(connections_max=2) as upstream:
        for number in range(1, 6):
            task = asyncio.create_task(wait(upstream, server))
            await until(lambda n=number: len(server.calls) == n)  # type: ignore[misc]  # of the loop
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await until(lambda: server.open == 0)
        server.script, server.reads_bodies = always(answer()), True
        bodies = await asyncio.gather(*(whole(upstream, server.url) for _ in range(6)))

    assert bodies == [b"ok"] * 6


async def test_who_is_cancelled_while_waiting_leaves_his_place_to_the_next() -> None:
    release = asyncio.Event()

    async def held(call: Call) -> None:
        await release.wait()
        await call.send(answer())

    async with RawServer(held).running() as server, client(connections_max=1) as upstream:
        tasks = [asyncio.create_task(whole(upstream, server.url)) for _ in range(10)]
        await until(lambda: len(server.calls) == 1)
        for task in tasks[1::2]:
            task.cancel()
        await asyncio.sleep(0)
        release.set()
        await until(lambda: len(server.calls) >= 2)
        tasks[2].cancel()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert await whole(upstream, server.url) == b"ok"

    assert got[0] == b"ok"
    assert all(isinstance(each, asyncio.CancelledError) for each in got[1::2])
    assert [each for each in got[4::2] if each != b"ok"] == []


async def test_a_client_that_is_closed_ends_what_runs_and_takes_nothing_more() -> None:
    async with RawServer(half_an_answer).running() as server, client(total_seconds=1) as upstream:
        response: Response = await ask(upstream, server.url)
        reading = asyncio.create_task(response.read(bytes_max=9))
        await asyncio.sleep(0.01)
        await upstream.close()
        (ended,) = await asyncio.gather(reading, return_exceptions=True)
        response.close()
        await until(lambda: server.open == 0)

    assert isinstance(ended, UpstreamBroke)
