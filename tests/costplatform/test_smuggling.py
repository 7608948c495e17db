"""Requests that somebody could read in two ways are refused, and none hides in another's body."""

from collections.abc import Iterator

import pytest

from tests.costplatform.plain_clients import (
    Server,
    code_of,
    counting_server,
    exchange,
    status_of,
)

pytestmark = pytest.mark.no_servers

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST /first HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = HEAD + b"Content-Length: 5\r\n"
LAST = b"0\r\n\r\n"

LENGTHS = {
    "two, different": HEAD + b"Content-Length: 0\r\nContent-Length: 34\r\n\r\n",
    "two, the same": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list": HEAD + b"Content-Length: 5, 5\r\n\r\nabcde",
    "with a sign": HEAD + b"Content-Length: +5\r\n\r\nabcde",
    "negative": HEAD + b"Content-Length: -1\r\n\r\nabcde",
    "with a blank": HEAD + b"Content-Length: 5 5\r\n\r\nabcde",
    "hexadecimal": HEAD + b"Content-Length: 0x5\r\n\r\nabcde",
    "with a letter": HEAD + b"Content-Length: 5a\r\n\r\nabcde",
    "with an underscore": HEAD + b"Content-Length: 5_0\r\n\r\nabcde",
    "with a point": HEAD + b"Content-Length: 5.0\r\n\r\nabcde",
    "with an exponent": HEAD + b"Content-Length: 5e0\r\n\r\nabcde",
    "beyond 64 bits": HEAD + b"Content-Length: 18446744073709551621\r\n\r\nabcde",
    "of a thousand digits": HEAD + b"Content-Length: " + b"9" * 1_000 + b"\r\n\r\nabcde",
    "of five thousand zeros": HEAD + b"Content-Length: " + b"0" * 5_000 + b"5\r\n\r\nabcde",
    "empty": HEAD + b"Content-Length:\r\n\r\nabcde",
    "with a vertical tab": HEAD + b"Content-Length: \x0b5\r\n\r\nabcde",
    "in digits that are not ASCII": HEAD + b"Content-Length: \xd9\xa5\r\n\r\nabcde",
    "with a blank before its colon": HEAD + b"Content-Length : 5\r\n\r\nabcde",
    "on a line that goes on": HEAD + b"Content-Length:\r\n 5\r\n\r\nabcde",
}
CODINGS = {
    "beside a length": SIZED + b"Transfer-Encoding: chunked\r\n\r\n" + LAST,
    "before a length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + LAST,
    "identity beside a length": SIZED + b"Transfer-Encoding: identity\r\n\r\nabcde",
    "chunked, identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + LAST,
    "identity, chunked": HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n" + LAST,
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + LAST,
    "gzip": HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + LAST,
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + LAST,
    "chunkedx": HEAD + b"Transfer-Encoding: chunkedx\r\n\r\n" + LAST,
    "chunk": HEAD + b"Transfer-Encoding: chunk\r\n\r\n" + LAST,
    "in quotes": HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n' + LAST,
    "with a parameter": HEAD + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + LAST,
    "after a comma": HEAD + b"Transfer-Encoding: ,chunked\r\n\r\n" + LAST,
    "after a vertical tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + LAST,
    "after a form feed": HEAD + b"Transfer-Encoding: \x0cchunked\r\n\r\n" + LAST,
    "after a no-break space": HEAD + b"Transfer-Encoding: \xa0chunked\r\n\r\n" + LAST,
    "before a NUL": HEAD + b"Transfer-Encoding: chunked\x00\r\n\r\n" + LAST,
    "empty": HEAD + b"Transfer-Encoding:\r\n\r\n" + LAST,
    "twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "then identity": (
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + LAST
    ),
    "with a blank before its colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + LAST,
    "with a tab before its colon": HEAD + b"Transfer-Encoding\t: chunked\r\n\r\n" + LAST,
    "on a line that goes on": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + LAST,
    "behind a bare CR": HEAD + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "behind a bare LF": HEAD + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "in HTTP/1.0": b"POST /first HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
}
CHUNKS = {
    "hexadecimal with 0x": CHUNKED + b"0x1\r\nx\r\n" + LAST,
    "with a sign": CHUNKED + b"+1\r\nx\r\n" + LAST,
    "negative": CHUNKED + b"-1\r\nx\r\n" + LAST,
    "after a blank": CHUNKED + b" 1\r\nx\r\n" + LAST,
    "before a blank": CHUNKED + b"1 \r\nx\r\n" + LAST,
    "with an underscore": CHUNKED + b"1_0\r\n" + b"x" * 16 + b"\r\n" + LAST,
    "beyond 64 bits": CHUNKED + b"10000000000000001\r\nx\r\n" + LAST,
    "none": CHUNKED + b"\r\nx\r\n" + LAST,
    "ended by a bare LF": CHUNKED + b"1\nx\r\n" + LAST,
    "ended by a bare CR": CHUNKED + b"1\rx\r\n" + LAST,
    "whose data a bare LF ends": CHUNKED + b"1\r\nx\n" + LAST,
    "with more data than said": CHUNKED + b"1\r\nxyz" + LAST,
    "with less data than said": CHUNKED + b"5\r\nx\r\n" + LAST,
    "extended up to a bare LF": CHUNKED + b"1;a\nx\r\n" + LAST,
    "extended by a bare CR": CHUNKED + b"1;a\rb\r\nx\r\n" + LAST,
    "extended by a NUL": CHUNKED + b"1;a\x00b\r\nx\r\n" + LAST,
    "extended by quotes over lines": CHUNKED + b'1;a="\r\nx\r\n' + LAST,
    "the last, ended by a bare LF": CHUNKED + b"0\r\n\n",
    "with a length in the trailer": CHUNKED + b"0\r\nContent-Length: 34\r\n\r\n",
    "with a coding in the trailer": CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
}
LINES = {
    "a bare LF after the first": b"GET /first HTTP/1.1\nHost: a\r\n\r\n",
    "a bare LF after a header": b"GET /first HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "a bare LF at the end of the head": b"GET /first HTTP/1.1\r\nHost: a\r\n\n",
    "a bare CR in a header": b"GET /first HTTP/1.1\r\nHost: a\r\nX: b\rc: d\r\n\r\n",
    "a header that goes on": b"GET /first HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "a header that goes on after a tab": b"GET /first HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n",
    "a blank before the first header": b"GET /first HTTP/1.1\r\n Host: a\r\n\r\n",
    "a NUL in a value": b"GET /first HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "a NUL in a name": b"GET /first HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n",
    "a control character": b"GET /first HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
    "a DEL": b"GET /first HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
    "a name with a blank": b"GET /first HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n",
    "a name that is not ASCII": b"GET /first HTTP/1.1\r\nHost: a\r\nX\xff: b\r\n\r\n",
    "no name": b"GET /first HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "no colon": b"GET /first HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "a blank before the method": b" GET /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab after the method": b"GET\t/first HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method that there is not": b"FIRST /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in small letters": b"get /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "a version of two digits": b"GET /first HTTP/1.10\r\nHost: a\r\n\r\n",
    "a version that there is not": b"GET /first HTTP/1.2\r\nHost: a\r\n\r\n",
    "version 2.0": b"GET /first HTTP/2.0\r\nHost: a\r\n\r\n",
    "version 0.9": b"GET /first\r\n\r\n",
    "HTTP/2's first words": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
TARGETS = {
    "no host": b"GET /first HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /first HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "the same host twice": b"GET /first HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "an address of another host": b"GET http://b/first HTTP/1.1\r\nHost: a\r\n\r\n",
    "an address with a user": b"GET http://a@b/first HTTP/1.1\r\nHost: a\r\n\r\n",
    "an address of another kind": b"GET ftp://a/first HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /first#a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank": b"GET /fir st HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL": b"GET /first\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a byte that is not ASCII": b"GET /first\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tunnel": b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "all": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
}
ONE_AT_A_TIME = {
    "a request without a body": b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n",
    "one that says it is the last": b"GET /first HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "one that cannot have a body": HEAD + b"\r\n",
    "one with a body": SIZED + b"\r\nabcde",
    "one with a body in chunks": CHUNKED + b"1\r\nx\r\n" + LAST,
    "one with a trailer": CHUNKED + b"0\r\nX: y\r\n\r\n",
    "one that would speak HTTP/2": HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "one of HTTP/1.0": b"GET /first HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "one with an address of the host": b"GET http://A/first HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with counting_server(tmp_path_factory.mktemp("smuggling")) as running:
        yield running


def cases(kinds: dict[str, dict[str, bytes]]) -> list[object]:
    return [
        pytest.param(sent, id=f"{kind}: {name}")
        for kind, named in kinds.items()
        for name, sent in named.items()
    ]


@pytest.mark.parametrize(
    "sent",
    cases(
        {"length": LENGTHS, "coding": CODINGS, "chunk": CHUNKS, "line": LINES, "target": TARGETS}
    ),
)
def test_what_has_two_readings_is_refused_and_nothing_behind_it_is_read(
    sent: bytes, server: Server
) -> None:
    before = server.paths()

    said = exchange(server.url, sent + HIDDEN)

    assert status_of(said) == 400
    assert code_of(said) == "invalid_http"
    assert said.count(b"HTTP/1.1 ") == 1
    assert server.paths() == before


@pytest.mark.parametrize(
    "sent", cases({"length": LENGTHS, "coding": CODINGS, "chunk": CHUNKS, "line": LINES})
)
def test_it_is_refused_also_if_it_comes_in_pieces(sent: bytes, server: Server) -> None:
    before = server.paths()
    half = len(sent) // 2

    said = exchange(server.url, sent[:half], sent[half:], HIDDEN, pause=0.02)

    assert said.count(b"HTTP/1.1 ") == 1
    assert status_of(said) == 400
    assert server.paths() == before


@pytest.mark.parametrize("sent", cases({"behind": ONE_AT_A_TIME}))
def test_a_request_behind_another_is_not_read_and_the_first_is_answered(
    sent: bytes, server: Server
) -> None:
    before = server.paths()

    said = exchange(server.url, sent + HIDDEN)

    assert status_of(said) == 200
    assert said.endswith(b"/first")
    assert said.count(b"HTTP/1.1 ") == 1
    assert server.paths() == [*before, "/first"]


def test_a_trailer_does_not_become_a_header(server: Server) -> None:
    said = exchange(
        server.url, CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + b"1\r\nx\r\n",
        b"0\r\nAuthorization: Bearer sk-1\r\nHost: b\r\n\r\n", pause=0.05,
    )  # fmt: skip

    assert status_of(said) == 200
    assert server.told()["seen"][-1]["names"] == ["connection", "host", "transfer-encoding"]


def test_requests_one_after_another_share_a_connection(server: Server) -> None:
    closing = HIDDEN.replace(b"Host", b"Connection: close\r\nHost")

    said = exchange(server.url, SIZED + b"\r\nabcde", HEAD + b"\r\n", closing, pause=0.1)

    assert said.count(b"HTTP/1.1 200 ") == 3
    assert said.endswith(b"/hidden")


def test_chunks_may_have_extensions(server: Server) -> None:
    sent = CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + b'5;a="b";c\r\nabcde\r\n' + LAST

    said = exchange(server.url, sent)

    assert status_of(said) == 200
    assert server.told()["seen"][-1]["bytes"] == 5
