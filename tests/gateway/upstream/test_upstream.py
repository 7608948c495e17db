"""What the gateway may count on, whichever client runs: answers, and how they break off."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.upstream import Upstream, UpstreamBroke, UpstreamNotReached
from gateway.upstream.aiohttp_client import AiohttpClient
from gateway.upstream.client import Client
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

CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3;name=value\r\nabc\r\n5\r\ndefgh\r\n0\r\nx-trailer: yes\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nabcdefgh"


async def test_the_setting_names_the_client(upstream: Upstream, named: str) -> None:
    assert type(upstream) is {"own": Client, "aiohttp": AiohttpClient}[named]


# --- Requests ------------------------------------------------------------------------------


async def test_a_request_arrives_as_it_was_given(upstream: Upstream) -> None:
    async with RawServer(always(answer())).running() as server:
        await whole(upstream, f"{server.url}/v1/ch at?a=b%20c", b"\0body", authorization="Bearer s")

    (call,) = server.calls
    assert call.head.startswith(b"POST /v1/ch%20at?a=b%20c HTTP/1.1\r\n")
    assert call.header("host") == f"127.0.0.1:{server.port}"
    assert call.header("authorization") == "Bearer s"
    assert call.header("accept-encoding") == "identity"
    assert call.header("content-length") == "5"
    assert (call.header("user-agent"), call.header("cookie")) == (None, None)
    assert call.body == b"\0body"


async def test_a_large_body_arrives_whole_though_it_is_read_slowly(upstream: Upstream) -> None:
    body = bytes(range(256)) * 2**14
    got = bytearray()

    async def read_slowly(call: Call) -> None:
        while len(got) < len(body):
            got.extend(await call.reader.read(200_000))
            await asyncio.sleep(0)
        await call.send(answer(b"first"))

    async with RawServer(read_slowly, reads_bodies=False).running() as server:
        assert await whole(upstream, server.url, body) == b"first"
        assert await whole(upstream, server.url, b"") == b"first"

    assert got == body
    assert server.connections == 1


@pytest.mark.parametrize(
    "url",
    [
        "", "nonsense", "ftp://127.0.0.1/", "http://", "http://:80/", "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://user:pass@127.0.0.1/",
        "http://[::1/", "http://" + "a" * 64 + ".example/", "http://127.0.0.1/" + "a" * 9_000,
    ],
)  # fmt: skip
async def test_what_is_no_address_of_an_upstream_is_not_reached(
    upstream: Upstream, url: str
) -> None:
    with pytest.raises(UpstreamNotReached):
        await ask(upstream, url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-a", "b\r\nx-evil: yes"), ("x-a", "b\n"), ("x-a", "\0"), ("x-a", "\ud800"),
        ("x a", "b"), ("x-a:", "b"), ("", "b"), ("x-a\r\n", "b"), ("host", "else"),
        ("content-length", "0"), ("transfer-encoding", "chunked"), ("connection", "upgrade"),
    ],
)  # fmt: skip
async def test_a_header_that_would_change_the_request_is_not_sent(
    upstream: Upstream, name: str, value: str
) -> None:
    async with RawServer(always(answer())).running() as server:
        with pytest.raises(UpstreamNotReached):
            await upstream.request("POST", server.url, body=b"{}", headers={name: value})

    assert server.connections == 0


# --- Answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    ("data", "closes", "status"),
    [
        (answer(b"abcdefgh"), False, 200),
        (answer(b"abcdefgh", "connection: close"), True, 200),
        (CHUNKED, False, 200),
        (UNTIL_CLOSE, True, 200),
        (b"HTTP/1.0 200 OK\r\n\r\nabcdefgh", True, 200),
        (INTERIM + CHUNKED, False, 200),
        (answer(b"abcdefgh", status="429 Too Many"), False, 429),
        (answer(b"abcdefgh", "location: /else", status="302 Found"), False, 302),
    ],
    ids=["length", "close", "chunked", "until close", "1.0", "interim", "error", "redirect"],
)  # fmt: skip
async def test_an_answer_comes_whole_however_it_is_framed(
    upstream: Upstream, *, data: bytes, closes: bool, status: int, bytewise: bool
) -> None:
    script = always(data, closes=closes, bytewise=bytewise)
    async with RawServer(script).running() as server:
        for _ in range(3):
            response = await ask(upstream, server.url)
            assert await response.read(bytes_max=8) == b"abcdefgh"
            assert response.status == status
            response.close()

    assert server.connections == (3 if closes else 1)
    assert len(server.calls) == 3


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 900\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_with_their_head(
    upstream: Upstream, method: str, data: bytes
) -> None:
    async with RawServer(always(data)).running() as server:
        for _ in range(2):
            response = await upstream.request(method, server.url, body=None, headers={})
            assert await response.read(bytes_max=0) == b""
            response.close()

    assert server.connections == 1


async def test_the_status_of_an_address_can_be_asked_for(upstream: Upstream) -> None:
    async with RawServer(always(answer(status="401 No"))).running() as server:
        assert await upstream.status_of(server.url, headers={"x-a": "b"}) == 401

    assert server.calls[0].head.startswith(b"GET / HTTP/1.1\r\n")


async def test_a_stream_is_handed_on_piece_by_piece(upstream: Upstream) -> None:
    taken = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n"
        )
        await taken.wait()
        await call.send(b"3\r\ntwo\r\n0\r\n\r\n")

    async with RawServer(stream).running() as server:
        response = await ask(upstream, server.url)
        assert response.is_stream
        assert await anext(response.chunks()) == b"one"
        taken.set()
        assert [chunk async for chunk in response.chunks()] == [b"two"]
        response.close()

    assert server.connections == 1


async def test_what_is_passed_on_of_the_headers_is_bounded(upstream: Upstream) -> None:
    limits = [f"x-ratelimit-limit-{n}: {n}" for n in range(40)]
    given = answer(
        b"", "Content-Type: text/plain", "X-Request-ID: " + "r" * 300, "request-id: theirs",
        "anthropic-ratelimit-tokens-limit: 7", "retry-after: 3", "retry-after: 4",
        "content-disposition: " + "d" * 2_000, "set-cookie: a=b", "content-encoding: identity",
        "openai-processing-ms: \xfc", *limits,
    )  # fmt: skip

    async with RawServer(always(given)).running() as server:
        response = await ask(upstream, server.url)
        headers = dict(response.headers)
        await response.read(bytes_max=0)
        response.close()
        await whole(upstream, server.url)

    told = {name for name in headers if "ratelimit" in name}
    assert {name: headers[name] for name in headers.keys() - told} == {
        "content-type": "text/plain", "retry-after": "3", "openai-processing-ms": "Ã¼",
        "llm_provider-x-request-id": "r" * 256, "llm_provider-request-id": "theirs",
    }  # fmt: skip
    assert headers["llm_provider-anthropic-ratelimit-tokens-limit"] == "7"
    assert headers["llm_provider-x-ratelimit-limit-5"] == "5"
    assert len(told) == 32
    assert server.calls[1].header("cookie") is None


async def test_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with RawServer(always(answer())).running() as server, client() as upstream:
        assert await whole(upstream, server.url) == b"ok"


# --- Answers that break off ----------------------------------------------------------------


def broken() -> Iterator[Any]:
    many = "".join(f"x-{n}: y\r\n" for n in range(200))
    head = "HTTP/1.1 200 OK\r\n"
    chunked = "transfer-encoding: chunked\r\n"
    for id, text in {
        "nothing": "",
        "half a head": "HTTP/1.1 200",
        "garbage": "SSH-2.0-nothing of ours\r\n\r\n",
        "too short": f"{head}content-length: 9\r\n\r\nabcdefgh",
        "chunk cut": f"{head}{chunked}\r\n9\r\nabc",
        "last chunk missing": f"{head}{chunked}\r\n3\r\nabc\r\n",
        "chunk garbled": f"{head}{chunked}\r\nzz\r\nabc\r\n0\r\n\r\n",
        "two lengths": f"{head}content-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        "length and chunked": f"{head}content-length: 3\r\n{chunked}\r\n0\r\n\r\n",
        "negative length": f"{head}content-length: -3\r\n\r\nabc",
        "many headers": f"{head}{many}content-length: 2\r\n\r\nok",
        "large header": f"{head}x: {'y' * 100_000}\r\ncontent-length: 2\r\n\r\nok",
        "endless header": f"{head}x: {'y' * 1_000_000}",
        "interim only": "HTTP/1.1 100 Continue\r\n\r\n",
        "null in header": f"{head}x: \0\r\ncontent-length: 2\r\n\r\nok",
    }.items():
        yield pytest.param(text.encode(), id=id)


@pytest.mark.parametrize("data", list(broken()))
async def test_an_answer_that_does_not_come_in_full_broke_off(
    upstream: Upstream, data: bytes
) -> None:
    async with RawServer(always(data, closes=True)).running() as server:
        with pytest.raises(UpstreamBroke) as error:
            await whole(upstream, server.url)
        await until(lambda: server.open == 0)

    assert not error.value.timed_out
    assert len(server.calls) == 1


async def test_what_came_before_a_break_is_handed_on_first(upstream: Upstream) -> None:
    got: list[bytes] = []

    async def stream(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        await until(lambda: bool(got))
        call.close()

    async with RawServer(stream).running() as server:
        response = await ask(upstream, server.url)
        chunks = response.chunks()
        got.append(await anext(chunks))
        with pytest.raises(UpstreamBroke):
            await anext(chunks)
        response.close()

    assert got == [b"abc"]


async def test_a_reset_after_the_request_was_written_broke_off_and_is_not_repeated(
    upstream: Upstream,
) -> None:
    async def answer_once(call: Call) -> None:
        if len(server.calls) == 1:
            await call.send(answer())
        else:
            call.reset()

    async with RawServer(answer_once).running() as server:
        assert await whole(upstream, server.url) == b"ok"
        with pytest.raises(UpstreamBroke):
            await ask(upstream, server.url)
        await asyncio.sleep(0.05)

    assert [call.connection for call in server.calls] == [1, 1]


@pytest.mark.parametrize(
    "upgrade", ["", "connection: upgrade\r\nupgrade: websocket\r\n"], ids=["bare", "upgrade"]
)
async def test_an_answer_that_switches_protocols_hands_nothing_on(
    upstream: Upstream, upgrade: str
) -> None:
    data = f"HTTP/1.1 101 Switching\r\n{upgrade}\r\nanything".encode()
    async with RawServer(always(data, closes=True)).running() as server:
        with pytest.raises(UpstreamBroke):
            await whole(upstream, server.url)
        await until(lambda: server.open == 0)


async def test_interim_answers_without_end_are_not_waited_for(named: str) -> None:
    async def interim(call: Call) -> None:
        while True:
            await call.send(b"HTTP/1.1 102 Processing\r\nx-a: bcdefgh\r\n\r\n" * 50)
            await asyncio.sleep(0)

    async with RawServer(interim).running() as server, client(total_seconds=1) as upstream:
        with pytest.raises(UpstreamBroke) as error:
            await ask(upstream, server.url)

    # aiohttp does not count them: there the time ends it.
    assert error.value.timed_out is (named == "aiohttp")


async def test_an_answer_that_is_too_large_broke_off(upstream: Upstream) -> None:
    async with RawServer(always(answer(b"123456789"))).running() as server:
        response = await ask(upstream, server.url)
        with pytest.raises(UpstreamBroke, match="too large"):
            await response.read(bytes_max=8)
        response.close()


@pytest.mark.parametrize("said", [answer(b"another's"), b"another's", b"\0"])
@pytest.mark.parametrize("first", [answer(b"abcdefgh"), CHUNKED], ids=["length", "chunked"])
async def test_more_than_the_answer_is_never_taken_for_the_next_one(
    upstream: Upstream, named: str, first: bytes, said: bytes
) -> None:
    sent = iter([first + said, answer(b"yours")])

    async def too_much(call: Call) -> None:
        await call.send(next(sent))

    async with RawServer(too_much).running() as server:
        (got,) = await asyncio.gather(whole(upstream, server.url), return_exceptions=True)
        assert await whole(upstream, server.url) == b"yours"

    assert got == b"abcdefgh" or isinstance(got, UpstreamBroke)
    assert [call.connection for call in server.calls] == [1, 2]
    if named == "own":  # an answer that is longer than its length is none; one that ends itself is
        assert (got == b"abcdefgh") is (first == CHUNKED)


@pytest.mark.parametrize("late", [answer(b"another's"), b"HTTP/1.1 200", b"\r\n"])
async def test_what_is_said_on_an_idle_connection_is_nobodys_answer(
    upstream: Upstream, late: bytes
) -> None:
    is_said = asyncio.Event()

    async def chatty(call: Call) -> None:
        await call.send(answer(f"{call.connection}".encode()))
        await asyncio.sleep(0.02)
        await call.send(late)
        await asyncio.sleep(0.02)
        is_said.set()

    async with RawServer(chatty).running() as server:
        assert await whole(upstream, server.url) == b"1"
        await is_said.wait()
        assert await whole(upstream, server.url) == b"2"


async def test_an_answer_that_comes_before_the_body_was_sent_is_handed_on(
    upstream: Upstream,
) -> None:
    refusal = answer(b"no", "connection: close", status="413 Too Large")

    async with RawServer(always(refusal), reads_bodies=False).running() as server:
        response = await ask(upstream, server.url, b"x" * 2**23)
        body = await response.read(bytes_max=100)
        response.close()
        await until(lambda: server.open == 0)

    assert (response.status, body) == (413, b"no")
