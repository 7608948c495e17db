"""Clients that are too large, too slow or ambiguous, at the real processes and both doors."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spend import events
from spend.models import SpendEvent
from tests.conftest import Cast
from tests.costplatform.plain_clients import (
    answer_to,
    code_of,
    connect,
    connected,
    exchange,
    said_until_closed,
    status_of,
)
from tests.gateway.support import CHAT, HELLO, chat, recorded
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.slow

POST = "POST /v1/chat/completions HTTP/1.1"
PATHS = ["/v1/chat/completions", "/v1/estimate", "/key/generate", "/admin/login/"]
SHORT = {
    "WEB_UNREAD_SECONDS_MAX": "3",
    "GATEWAY_BODY_SECONDS_MAX": "2",
    "GATEWAY_BODY_BYTES_MAX": "4000000",
}
LONG_REPLY = {"reply": ["x" * 16_000] * 200}
"""Three megabytes: more than all buffers on the way take."""


@pytest.fixture(scope="module", params=["on", "off"], ids=["lane", "views"])
def strict(request: pytest.FixtureRequest, stack: Stack) -> Iterator[str]:
    """The base URL of a web process with short deadlines, through either door."""
    name = f"strict-{request.param}"
    yield stack.start_web(name, processes=1, GATEWAY_LANE=request.param, **SHORT)
    stack.stop(f"{name}-0")


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_too_large_gets_413_on_every_path(path: str, strict: str) -> None:
    chunk = b"%x\r\n%s\r\n" % (400_000, b"x" * 400_000)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"

    announced = answer_to(strict, f"POST {path} HTTP/1.1", "Content-Length: 4000001")
    in_chunks = exchange(strict, head.encode(), *[chunk] * 11)

    for said in (announced, in_chunks):
        assert (status_of(said), code_of(said)) == (413, "payload_too_large")


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_does_not_come_gets_408_on_every_path(path: str, strict: str) -> None:
    said = answer_to(strict, f"POST {path} HTTP/1.1", "Content-Length: 9", body=b"{")

    assert (status_of(said), code_of(said)) == (408, "request_timeout")


@pytest.mark.parametrize("path", PATHS)
def test_a_compressed_body_gets_415_on_every_path(path: str, strict: str) -> None:
    said = answer_to(
        strict, f"POST {path} HTTP/1.1", "Content-Encoding: gzip", "Content-Length: 3", body=b"abc"
    )

    assert (status_of(said), code_of(said)) == (415, "unsupported_content_encoding")


def test_a_refusal_of_the_server_has_the_shape_of_all_others(strict: str) -> None:
    said = answer_to(strict, POST, "Content-Length: 4000001")

    head, _, body = said.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert f"x-request-id: {error['request_id']}".encode() in head
    assert b"x-should-retry: false" in head
    assert error.keys() == {"message", "type", "param", "code", "request_id"}


def test_a_length_that_is_no_number_is_refused(strict: str) -> None:
    assert status_of(answer_to(strict, POST, "Content-Length: five")) == 400
    assert status_of(answer_to(strict, POST, f"Content-Length: {'0' * 5_000}5")) == 400


def test_a_request_hidden_behind_another_reaches_no_provider(
    strict: str, stack: Stack, cast: Cast
) -> None:
    key = cast.key("1")
    body = _body(sandbox={"marker": f"shown-{key.key.pk}"})
    hidden = _body(sandbox={"marker": f"hidden-{key.key.pk}"})

    said = exchange(
        strict, _request(strict, key.secret, body) + _request(strict, key.secret, hidden)
    )

    assert said.count(b"HTTP/1.1 200 ") == 1
    stack.settle_down()
    markers = [line["marker"] for line in stack.served()]
    assert markers.count(f"shown-{key.key.pk}") == 1
    assert markers.count(f"hidden-{key.key.pk}") == 0


def test_a_stream_that_nobody_reads_is_cut_and_charged(
    strict: str, stack: Stack, cast: Cast
) -> None:
    key = cast.key("100")
    body = _body(stream=True, sandbox=LONG_REPLY)

    with connect(strict, receive_bytes=4_096) as connection:
        connection.sendall(_request(strict, key.secret, body))
        head = connection.recv(4_096)
        event = recorded(_request_id(head))
        said = said_until_closed(connection)

    assert status_of(head) == 200
    assert events.CLIENT_CLOSED in event.flags
    assert event.cost > 0
    assert b"[DONE]" not in said
    stack.settle_down()


def test_slow_readers_keep_no_good_client_from_being_served(
    strict: str, stack: Stack, cast: Cast
) -> None:
    key, slow = cast.key("1"), cast.key("100")
    body = _body(stream=True, sandbox=LONG_REPLY)

    with connected(strict, 50, receive_bytes=4_096) as readers:
        for reader in readers:
            reader.sendall(_request(strict, slow.secret, body))
        answers = [chat(strict, key.secret).status for _ in range(20)]

    assert answers == [200] * 20
    rows = SpendEvent.objects.filter(key_digest=slow.key.digest)
    wait_until(lambda: rows.count() == 50, seconds=20)
    stack.settle_down()


def test_a_host_that_is_not_ours_is_refused_by_django_and_repeated_by_nobody(
    strict: str, cast: Cast
) -> None:
    key = cast.key("1")
    body = _body()
    poisoned = "evil.example"

    admin = _asked_as(poisoned, strict, b"GET /admin/login/ HTTP/1.1\r\n")
    forwarded = answer_to(strict, "GET /admin/ HTTP/1.1", f"X-Forwarded-Host: {poisoned}")
    lane = _asked_as(poisoned, strict, _request(strict, key.secret, body))

    assert status_of(admin) == 400
    assert b'"invalid_host"' in admin
    assert status_of(forwarded) == 302
    for said in (admin, forwarded, lane):
        assert poisoned.encode() not in said


def test_no_page_sends_links_by_mail_to_whoever_names_a_host() -> None:
    """There is no password reset: where one comes, its links must name a configured host."""
    sources = [
        path.read_text()
        for app in ("costplatform", "budgets", "spend", "gateway")
        for path in Path(__file__).resolve().parents[2].joinpath(app).rglob("*.py")
    ]

    assert len(sources) > 100
    assert not any(re.search("PasswordReset|password_reset", each) for each in sources)


def _body(**fields: object) -> bytes:
    return json.dumps({"model": CHAT, "messages": HELLO} | fields).encode()


def _request(url: str, secret: str, body: bytes) -> bytes:
    head = (
        f"{POST}\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _asked_as(host: str, url: str, request: bytes) -> bytes:
    """Send a request under another name of the server; return the answer."""
    first, _, rest = request.partition(b"\r\n")
    own = f"Host: {urlsplit(url).netloc}\r\n".encode()
    renamed = b"%s\r\nHost: %s\r\nConnection: close\r\n" % (first, host.encode())
    return exchange(url, renamed + (rest.replace(own, b"") or b"\r\n"))


def _request_id(said: bytes) -> str:
    found = re.search(rb"x-request-id: ([0-9a-f-]+)", said, re.IGNORECASE)
    assert found is not None, said
    return found[1].decode()


def test_a_client_that_waits_to_be_told_to_go_on_is_told(strict: str, cast: Cast) -> None:
    secret = cast.key("1").secret
    body = json.dumps({"model": CHAT, "messages": HELLO}).encode()

    said = exchange(
        strict,
        f"{POST}\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\nExpect: 100-continue\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode(),
        body,
    )

    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_a_stream_to_a_client_of_http_1_0_comes_without_chunks(stack: Stack, cast: Cast) -> None:
    secret = cast.key("1").secret
    body = json.dumps({"model": CHAT, "messages": HELLO, "stream": True}).encode()

    said = exchange(
        stack.lane,
        f"POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode(),
        body,
    )

    head, _, events = said.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert b"transfer-encoding" not in head
    assert events.startswith(b"data: ")
    assert events.endswith(b"data: [DONE]\n\n")
