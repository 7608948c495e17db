"""What a client may take of a web process: time for each step, bytes, and connections."""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.costplatform.plain_clients import (
    Server,
    answer_to,
    code_of,
    connect,
    connected,
    counting_server,
    exchange,
    said_until_closed,
    status_of,
)
from tests.stack import wait_until

pytestmark = pytest.mark.no_servers

BODY_BYTES_MAX = 100_000
GET = b"GET /asked HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /asked HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SHORT = {
    "WEB_HEAD_SECONDS_MAX": "1",
    "WEB_IDLE_SECONDS_MAX": "1",
    "WEB_UNREAD_SECONDS_MAX": "2",
    "GATEWAY_BODY_SECONDS_MAX": "2",
    "GATEWAY_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with deadlines so short that all of them pass within a test."""
    with counting_server(tmp_path_factory.mktemp("connections"), **SHORT) as running:
        yield running


# --- Heads ---------------------------------------------------------------------------------


def test_a_head_that_does_not_end_is_answered_with_408_and_closed(server: Server) -> None:
    said = exchange(server.url, GET[:20])

    assert (status_of(said), code_of(said)) == (408, "request_timeout")
    assert b"connection: close" in said


def test_a_head_that_comes_byte_by_byte_is_not_given_more_time(server: Server) -> None:
    before = server.paths()
    drops = [bytes([byte]) for byte in GET.replace(b"\r\n\r\n", b"\r\nX: " + b"a" * 100)]

    said = exchange(server.url, *drops, pause=0.1)

    assert status_of(said) == 408
    assert server.paths() == before


def test_who_connects_and_says_nothing_is_closed_without_a_word(server: Server) -> None:
    assert exchange(server.url) == b""


def test_blank_lines_do_not_keep_a_connection_open(server: Server) -> None:
    assert exchange(server.url, *[b"\r\n"] * 40, pause=0.1) == b""
    assert status_of(exchange(server.url, GET, *[b"\r\n"] * 60, pause=0.1)) == 200


def test_who_asks_no_more_is_closed_after_a_while(server: Server) -> None:
    said = exchange(server.url, GET)

    assert status_of(said) == 200
    assert said.endswith(b"/asked")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"X: " + b"a" * 70_000 + b"\r\n\r\n", id="one long header"),
        pytest.param(b"X: " + b"a" * 70_000, id="one that does not end"),
        pytest.param((b"X: " + b"a" * 996 + b"\r\n") * 70 + b"\r\n", id="many headers"),
        pytest.param(b"X: a\r\n" * 100 + b"\r\n", id="too many small ones"),
    ],
)
def test_a_head_that_is_too_large_is_refused(head: bytes, server: Server) -> None:
    before = server.paths()

    said = exchange(server.url, GET[:-2] + head)

    assert (status_of(said), code_of(said)) == (431, "headers_too_large")
    assert server.paths() == before


def test_a_target_that_is_too_long_is_refused(server: Server) -> None:
    said = exchange(server.url, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")

    assert status_of(said) == 431


def test_a_head_just_below_the_limits_passes(server: Server) -> None:
    headers = [f"X-{number}: {'a' * 600}" for number in range(98)]

    assert status_of(answer_to(server.url, "GET /asked HTTP/1.1", *headers)) == 200


# --- Bodies --------------------------------------------------------------------------------


def test_a_body_announced_as_too_large_is_refused_before_it_comes(server: Server) -> None:
    before = server.told()

    said = answer_to(server.url, "POST /asked HTTP/1.1", f"Content-Length: {BODY_BYTES_MAX + 1}")

    assert (status_of(said), code_of(said)) == (413, "payload_too_large")
    assert server.told() == before


def test_a_client_that_waits_for_100_is_told_413_instead(server: Server) -> None:
    said = answer_to(
        server.url, "POST /asked HTTP/1.1", "Expect: 100-continue", "Content-Length: 100001"
    )

    assert status_of(said) == 413


def test_a_client_that_sends_all_of_a_body_that_is_too_large_still_reads_why(
    server: Server,
) -> None:
    said = answer_to(
        server.url, "POST /asked HTTP/1.1", "Content-Length: 4000000", body=b"x" * 4_000_000
    )

    assert status_of(said) == 413


def test_chunks_without_an_end_are_refused_at_the_limit(server: Server) -> None:
    before = server.paths()
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"

    said = exchange(server.url, CHUNKED, *[chunk] * 30)

    assert (status_of(said), code_of(said)) == (413, "payload_too_large")
    assert server.paths() == before


def test_a_body_at_the_limit_passes_whether_announced_or_in_chunks(server: Server) -> None:
    body = b"x" * BODY_BYTES_MAX
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

    announced = answer_to(
        server.url, "POST /asked HTTP/1.1", f"Content-Length: {len(body)}", body=body
    )
    in_chunks = answer_to(
        server.url, "POST /asked HTTP/1.1", "Transfer-Encoding: chunked", body=chunked
    )

    assert (status_of(announced), status_of(in_chunks)) == (200, 200)
    assert [each["bytes"] for each in server.told()["seen"][-2:]] == [BODY_BYTES_MAX] * 2


@pytest.mark.parametrize(
    "lie", [b"Content-Length: 50\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_body_that_does_not_come_is_answered_with_408_and_never_served(
    lie: bytes, server: Server
) -> None:
    before = server.told()

    said = exchange(server.url, POST + lie)

    assert (status_of(said), code_of(said)) == (408, "request_timeout")
    assert server.told()["seen"] == before["seen"]
    assert server.told()["ended"] == [*before["ended"], "no body"]


def test_a_body_below_the_least_rate_is_ended_before_its_deadline(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("rate")
    with counting_server(folder, GATEWAY_BODY_BYTES_PER_SECOND_MIN="1000") as server:
        drops = [b"x"] * 100

        said = exchange(server.url, POST + b"Content-Length: 100\r\n\r\n", *drops, pause=0.09)

        assert status_of(said) == 408
        assert server.paths() == []


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param(b"1;" + b"a" * 4_000 + b"\r\nx\r\n", id="extensions of chunks"),
        pytest.param(b"0\r\nX: " + b"a" * 4_000, id="a trailer that does not end"),
    ],
)
def test_a_body_that_is_little_but_framing_is_refused(framing: bytes, server: Server) -> None:
    before = server.paths()
    repeated = b"a" * 4_000 if framing.startswith(b"0") else framing

    said = exchange(server.url, CHUNKED + framing, repeated * 100)

    assert (status_of(said), code_of(said)) == (400, "invalid_http")
    assert server.paths() == before


def test_chunks_of_one_byte_each_pass(server: Server) -> None:
    said = answer_to(
        server.url, "POST /asked HTTP/1.1", "Transfer-Encoding: chunked",
        body=b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n",
    )  # fmt: skip

    assert status_of(said) == 200
    assert server.told()["seen"][-1]["bytes"] == 50_000


@pytest.mark.parametrize(
    "coding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "gzip, gzip"]
)
def test_a_compressed_body_is_refused_unread(coding: str, server: Server) -> None:
    before = server.told()

    said = answer_to(
        server.url, "POST /asked HTTP/1.1", f"Content-Encoding: {coding}", "Content-Length: 5",
        body=b"abcde",
    )  # fmt: skip

    assert (status_of(said), code_of(said)) == (415, "unsupported_content_encoding")
    assert server.told() == before


def test_a_body_that_says_it_is_not_compressed_passes(server: Server) -> None:
    said = answer_to(server.url, "GET /asked HTTP/1.1", "Content-Encoding: identity")

    assert status_of(said) == 200


# --- Answers -------------------------------------------------------------------------------


def test_a_stream_pauses_while_nobody_reads_and_is_cut_when_nobody_ever_does(
    server: Server,
) -> None:
    before = len(server.told()["ended"])

    with connect(server.url, receive_bytes=4_096) as connection:
        connection.sendall(b"GET /asked?pieces=10000 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: len(server.told()["ended"]) > before, seconds=10)

    # Of 10,000 pieces of 16 KiB it had handed out no more than fit into the buffers.
    word, _, pieces = server.told()["ended"][-1].rpartition(" ")
    assert word == "left after"
    assert int(pieces) < 100


def test_a_client_that_reads_slowly_but_reads_is_not_cut(server: Server) -> None:
    with connect(server.url, receive_bytes=65_536) as connection:
        connection.sendall(b"GET /asked?pieces=40 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = b""
        while part := connection.recv(65_536):
            said += part
            time.sleep(0.25)

    assert said.endswith(b"0\r\n\r\n")
    assert said.count(b"x") >= 40 * 16_384


def test_a_whole_answer_that_nobody_reads_does_not_hold_its_connection(server: Server) -> None:
    with connect(server.url, receive_bytes=4_096) as connection:
        connection.sendall(b"GET /asked?times=1000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(4)

        said = said_until_closed(connection)

    assert status_of(said) == 200
    assert len(said) < 6_000_000


def test_slow_readers_of_a_large_stream_take_little_memory_each(server: Server) -> None:
    before = server.resident_bytes()

    with connected(server.url, 100, receive_bytes=4_096) as readers:
        for reader in readers:
            reader.sendall(b"GET /asked?pieces=10000 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1)
        each = (server.resident_bytes() - before) / len(readers)

    assert each < 512 * 1_024


# --- Connections ---------------------------------------------------------------------------


def test_good_clients_are_served_while_five_hundred_bad_ones_hang(server: Server) -> None:
    bad = [POST[:30], POST + b"Content-Length: 9\r\n\r\nabc", b"", CHUNKED + b"5\r\na"]
    with connected(server.url, 500) as hanging:
        good = []
        for number, each in enumerate(hanging):
            each.sendall(bad[number % len(bad)])
            if number % 10 == 0:
                good.append(status_of(answer_to(server.url, "GET /asked HTTP/1.1")))
        ends = {status_of(said_until_closed(each)) for each in hanging}

    assert good == [200] * 50
    assert ends == {408, 0}


def test_idle_connections_make_room_for_new_ones(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("room")
    with (
        counting_server(folder, WEB_CONNECTIONS_MAX="20") as server,
        connected(server.url, 100) as idle,
    ):
        answers = [status_of(answer_to(server.url, "GET /asked HTTP/1.1")) for _ in range(50)]

        assert answers == [200] * 50
        assert said_until_closed(idle[0]) == b""


def test_a_process_full_of_work_tells_newcomers_to_come_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("full")
    with (
        counting_server(folder, WEB_CONNECTIONS_MAX="10") as server,
        connected(server.url, 10) as working,
    ):
        for each in working:
            each.sendall(b"GET /asked?wait=3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        time.sleep(0.5)

        refused = answer_to(server.url, "GET /asked HTTP/1.1")
        served = [status_of(said_until_closed(each)) for each in working]

        assert (status_of(refused), code_of(refused)) == (503, "too_many_connections")
        assert b"retry-after: " in refused
        assert served == [200] * 10
        assert status_of(answer_to(server.url, "GET /asked HTTP/1.1")) == 200


def test_where_bodies_fill_the_memory_the_largest_goes_and_others_are_served(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("bodies")
    limits = {"GATEWAY_BODY_BYTES_MAX": "900000", "GATEWAY_BODIES_BYTES_MAX": "1048576"}
    with counting_server(folder, **limits) as server, connect(server.url) as large:
        large.sendall(POST + b"Content-Length: 900000\r\n\r\n" + b"x" * 800_000)
        time.sleep(0.5)

        others = [
            answer_to(
                server.url, "POST /asked?wait=0.2 HTTP/1.1", "Content-Length: 400000",
                body=b"x" * 400_000,
            )
            for _ in range(5)
        ]  # fmt: skip
        refused = said_until_closed(large)

        assert [status_of(each) for each in others] == [200] * 5
        assert (status_of(refused), code_of(refused)) == (503, "too_many_bodies")


# --- Websockets ----------------------------------------------------------------------------


def test_websockets_are_served_and_outlive_the_deadlines_of_requests(server: Server) -> None:
    with connect(server.url) as connection:
        connection.sendall(
            b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = connection.recv(4_096)
        time.sleep(4)
        # One masked text frame, "hi", under a mask of zeros.
        connection.sendall(b"\x81\x82\x00\x00\x00\x00hi")

        assert head.startswith(b"HTTP/1.1 101 ")
        assert connection.recv(4_096) == b"\x81\x02hi"


def test_a_client_that_leaves_ends_what_it_asked_for(server: Server) -> None:
    before = len(server.told()["ended"])
    with connect(server.url) as connection:
        connection.sendall(b"GET /asked?pieces=10000 HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.recv(1_000)
        connection.shutdown(socket.SHUT_RDWR)

    def has_left() -> bool:
        # What an earlier client asked for may end meanwhile.
        return any(each.startswith("left after") for each in server.told()["ended"][before:])

    wait_until(has_left, seconds=10)
