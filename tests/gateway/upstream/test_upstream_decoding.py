"""Answers that come compressed, though nobody asked for it."""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream import Upstream, UpstreamBroke
from gateway.upstream.decoding import STEP_BYTES, decoded
from tests.gateway.upstream.raw_servers import RawServer, always, answer, ask, whole

pytestmark = pytest.mark.no_servers
BOTH_LOOPS = True

TEXT = b"".join(b"event %d\n" % n for n in range(20_000))


def bare(data: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-15)
    return compress.compress(data) + compress.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress,
}  # fmt: skip


async def pieces(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    at = 0
    for size in cuts:
        if at < len(data):
            yield data[at : at + size]
        at += size
    if at < len(data):
        yield data[at:]


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(1, 20_000), max_size=30), bytes_at_once=st.booleans())
@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress, bare])
async def test_what_is_inflated_is_what_was_deflated_wherever_it_is_cut(
    encode: object, cuts: list[int], bytes_at_once: bool
) -> None:
    assert callable(encode)
    encoding = "gzip" if encode is gzip.compress else "deflate"
    cuts = [1] * 60 if bytes_at_once else cuts

    steps = [
        step async for step in decoded(pieces(encode(TEXT), cuts), encoding, bytes_max=len(TEXT))
    ]

    assert b"".join(steps) == TEXT
    assert max(map(len, steps)) <= STEP_BYTES


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_a_compressed_answer_is_inflated_and_no_longer_says_that_it_is(
    upstream: Upstream, encoding: str
) -> None:
    data = answer(ENCODERS[encoding](TEXT), f"content-encoding: {encoding}")

    async with RawServer(always(data)).running() as server:
        for _ in range(2):
            response = await ask(upstream, server.url)
            assert {"content-encoding", "content-length"} & response.headers.keys() == set()
            assert await response.read(bytes_max=len(TEXT)) == TEXT
            response.close()

    assert server.connections == 1


@pytest.mark.parametrize(
    ("headers", "named_encoding"),
    [
        (["content-encoding: br"], "br"),
        (["content-encoding: zstd"], "zstd"),
        (["content-encoding: gzip, gzip"], "gzip, gzip"),
        (["content-encoding: gzip", "content-encoding: br"], "gzip, br"),
    ],
)
async def test_an_encoding_that_is_not_known_is_named(
    upstream: Upstream, headers: list[str], named_encoding: str
) -> None:
    data = answer(b"anything", *headers, status="429 Too Many")

    async with RawServer(always(data)).running() as server:
        response = await ask(upstream, server.url)
        with pytest.raises(UpstreamBroke, match=f"'{named_encoding}'"):
            await response.read(bytes_max=100)
        response.close()

    assert response.status == 429


async def test_a_body_that_is_compressed_for_its_way_only_is_not_taken_for_plain(
    upstream: Upstream,
) -> None:
    data = b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    async with RawServer(always(data)).running() as server:
        with pytest.raises(UpstreamBroke):
            await whole(upstream, server.url)


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(TEXT)[:-9],
        gzip.compress(TEXT)[:9],
        b"not compressed at all",
        gzip.compress(TEXT) + b"more",
        gzip.compress(TEXT) + gzip.compress(TEXT),
        gzip.compress(TEXT)[:-8] + b"\0" * 8,
    ],
    ids=["cut", "head only", "plain", "surplus", "twice", "wrong sum"],
)
async def test_a_compressed_answer_that_is_broken_broke_off(
    upstream: Upstream, body: bytes
) -> None:
    data = answer(body, "content-encoding: gzip")

    async with RawServer(always(data)).running() as server:
        with pytest.raises(UpstreamBroke):
            await whole(upstream, server.url)


async def test_a_small_answer_does_not_grow_beyond_what_is_allowed(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = answer(gzip.compress(bytes(2**25)), "content-encoding: gzip")
    monkeypatch.setattr("gateway.upstream.interface.INFLATED_BYTES_MAX", 2**20)
    seen = 0

    async def drain(chunks: AsyncIterator[bytes]) -> None:
        nonlocal seen
        async for chunk in chunks:
            seen += len(chunk)

    async with RawServer(always(bomb)).running() as server:
        response = await ask(upstream, server.url)
        with pytest.raises(UpstreamBroke, match="too large"):
            await response.read(bytes_max=2**20)
        response.close()
        response = await ask(upstream, server.url)
        with pytest.raises(UpstreamBroke, match="too large"):
            await drain(response.chunks())
        response.close()

    assert 2**20 - STEP_BYTES <= seen <= 2**20


async def test_an_empty_answer_may_say_any_encoding(upstream: Upstream) -> None:
    data = b"HTTP/1.1 204 No Content\r\ncontent-encoding: gzip\r\n\r\n"

    async with RawServer(always(data)).running() as server:
        assert await whole(upstream, server.url) == b""
