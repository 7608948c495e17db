"""What the lane writes to a client; how it serves is tested at the real processes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from costplatform.exchange import Exchange

pytestmark = pytest.mark.no_servers


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.is_closed = True


def exchange(transport: Transport) -> Exchange:
    connection: Any = SimpleNamespace(
        transport=transport,
        parser=SimpleNamespace(should_keep_alive=lambda: True),
        flow=SimpleNamespace(write_paused=False),
        defaults=lambda: b"date: now\r\n",
        on_response_complete=lambda: None,
    )
    return Exchange(connection, headers=[], version="1.1")


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\nb", "a\rb", "a\0b"])
async def test_a_header_with_a_line_break_is_not_sent(value: str) -> None:
    transport = Transport()

    async def serve(caller: Exchange) -> None:
        caller.answer(200, {"x-told": value}, b"secret")

    await exchange(transport).run(serve)

    assert transport.written.startswith(b"HTTP/1.1 500 ")
    assert b"x-told" not in transport.written
    assert b"secret" not in transport.written
    assert transport.is_closed


async def test_what_breaks_within_a_stream_ends_the_connection_without_its_end() -> None:
    transport = Transport()

    async def serve(caller: Exchange) -> None:
        caller.begin(200, {})
        await caller.pass_on(b"a piece")
        raise RuntimeError

    await exchange(transport).run(serve)

    assert transport.written.endswith(b"\r\n\r\n7\r\na piece\r\n")
    assert transport.is_closed


async def test_nothing_is_sent_to_who_has_gone_and_it_is_told_at_once() -> None:
    transport, told = Transport(), asyncio.Event()
    gone = exchange(transport)
    gone.disconnected = True

    gone.when_gone(told.set)
    gone.answer(200, {}, b"{}")
    gone.begin(200, {})
    await gone.pass_on(b"a piece")
    gone.end()

    assert told.is_set()
    assert transport.written == b""
