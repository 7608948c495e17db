"""Whom the clients connect to: checked addresses, proven names, and nobody else."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from uvloop import Loop

from gateway.addresses import Allowed
from gateway.upstream import Upstream, UpstreamBroke, UpstreamNotReached
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

Resolve = Callable[[list[list[str]]], list[str]]


# --- Addresses -----------------------------------------------------------------------------


@pytest.fixture
async def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Have names resolve to each list in turn, the last one from then on; tell what was asked."""

    def prepare(answers: list[list[str]]) -> list[str]:
        asked: list[str] = []

        async def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
            found = [host]
            if not host[0].isdigit():
                asked.append(host)
                found = answers.pop(0) if len(answers) > 1 else answers[0]
            if not found:
                raise OSError("no such name")
            return [(2, 1, 6, "", (address, port)) for address in found]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        return asked

    return prepare


async def test_a_private_address_is_not_connected_to() -> None:
    async with RawServer(always(answer())).running() as server, client(allowed=()) as upstream:
        with pytest.raises(UpstreamNotReached):
            await ask(upstream, server.url)

    assert server.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost", "[::ffff:7f00:1]"])
async def test_an_odd_spelling_of_a_private_address_is_not_connected_to(host: str) -> None:
    async with RawServer(always(answer())).running() as server, client(allowed=()) as upstream:
        with pytest.raises(UpstreamNotReached):
            await ask(upstream, f"http://{host}:{server.port}/")

    assert server.connections == 0


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    resolve: Resolve,
) -> None:
    asked = resolve([["127.0.0.1"], ["127.0.0.99"]])
    allowed = (Allowed.of("127.0.0.1/32"),)

    async with (
        RawServer(always(answer())).running() as server,
        client(allowed=allowed) as upstream,
    ):
        body = await whole(upstream, f"http://upstream.example:{server.port}/")

    assert body == b"ok"
    assert asked == ["upstream.example"]
    assert server.calls[0].header("host") == f"upstream.example:{server.port}"


async def test_an_address_that_refuses_or_is_refused_is_passed_over_for_the_next(
    resolve: Resolve,
) -> None:
    resolve([["10.0.0.1", "127.0.0.2", "127.0.0.1"]])

    async with RawServer(always(answer())).running() as server, client() as upstream:
        assert await whole(upstream, f"http://upstream.example:{server.port}/") == b"ok"


async def test_a_name_that_is_not_found_is_not_reached(
    resolve: Resolve, upstream: Upstream
) -> None:
    resolve([[]])

    with pytest.raises(UpstreamNotReached):
        await ask(upstream, "http://nowhere.example/")


async def test_a_port_that_nobody_listens_at_is_not_reached(upstream: Upstream) -> None:
    async with RawServer(always(answer())).running() as server:
        url = server.url

    with pytest.raises(UpstreamNotReached):
        await ask(upstream, url)


# --- TLS -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """Signs certificates; clients trust it, and nobody else does."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def server(self, *names: str, days: int = 1, by: "Authority | None" = None) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        signer = by or self
        certificate = signed(names[0], key, signer.certificate.subject, signer.key, names, days)
        path = self.folder / "server.pem"
        path.write_bytes(pem(certificate, key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.load_cert_chain(path)
        return context


def signed(
    name: str, key: Any, issuer: x509.Name, by: Any, names: tuple[str, ...] = (), days: int = 1
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        alternative = [_alternative(each) for each in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    return builder.sign(by, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem(certificate: x509.Certificate, key: Any = None) -> bytes:
    written: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    if key is not None:
        written += key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    return written


def authority(folder: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return Authority(folder, key, signed(name, key, subject, key))


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = authority(tmp_path, "ours")
    (tmp_path / "authorities.pem").write_bytes(pem(made.certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    return made


async def test_a_verified_upstream_is_asked_for_http_1_and_its_connection_kept(
    trusted: Authority, resolve: Resolve
) -> None:
    resolve([["127.0.0.1"]])
    body = bytes(range(256)) * 2**12

    async def echo(call: Call) -> None:
        chosen = call.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        await call.send(answer(call.body + chosen.encode()))

    tls = trusted.server("upstream.example")
    async with RawServer(echo).running(tls=tls) as server, client() as upstream:
        for _ in range(3):
            got = await whole(upstream, f"https://upstream.example:{server.port}/", body)
            assert got == body + b"http/1.1"

    assert server.connections == 1


async def test_an_upstream_may_be_verified_by_its_address(trusted: Authority) -> None:
    tls = trusted.server("127.0.0.1")
    async with RawServer(always(answer())).running(tls=tls) as server, client() as upstream:
        assert await whole(upstream, server.url) == b"ok"


@pytest.mark.parametrize("fault", ["wrong name", "expired", "untrusted"])
async def test_an_upstream_that_is_not_proven_is_sent_nothing(
    trusted: Authority, tmp_path: Path, fault: str
) -> None:
    tls = {
        "wrong name": lambda: trusted.server("127.0.0.2"),
        "expired": lambda: trusted.server("127.0.0.1", days=-1),
        "untrusted": lambda: trusted.server("127.0.0.1", by=authority(tmp_path, "theirs")),
    }[fault]()

    async with RawServer(always(answer())).running(tls=tls) as server, client() as upstream:
        with pytest.raises(UpstreamNotReached):
            await ask(upstream, server.url)

    assert server.calls == []


async def test_an_upstream_that_speaks_no_tls_or_hangs_in_it_is_sent_nothing(
    trusted: Authority,
) -> None:
    garbage = RawServer(always(answer()), begins_with=b"SSH-2.0-else\r\n")
    silent = RawServer(always(answer()))

    async with garbage.running(), silent.running(), client(connect_seconds=0.2) as upstream:
        for port in (garbage.port, silent.port):
            with pytest.raises(UpstreamNotReached):
                await ask(upstream, f"https://127.0.0.1:{port}/")

    assert garbage.calls == silent.calls == []
    assert garbage.connections == silent.connections == 1


async def test_who_is_cancelled_while_connecting_leaves_nothing_behind(
    trusted: Authority,
) -> None:
    silent = RawServer(always(answer()))
    tls = trusted.server("127.0.0.1")

    async with (
        silent.running(),
        RawServer(always(answer())).running(tls=tls) as server,
        client(connections_max=1) as upstream,
    ):
        for _ in range(3):
            task = asyncio.create_task(ask(upstream, f"https://127.0.0.1:{silent.port}/"))
            await until(lambda: silent.open == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await until(lambda: silent.open == 0)
        assert await whole(upstream, server.url) == b"ok"


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_body_without_a_length_is_whole_only_if_tls_ends_it(
    trusted: Authority, named: str, *, in_order: bool
) -> None:
    if not in_order and not (named == "own" and isinstance(asyncio.get_running_loop(), Loop)):
        pytest.skip("aiohttp, and asyncio's own loop, take it for whole")

    async def end(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await asyncio.sleep(0.02)
        if in_order:
            call.close()
            await call.writer.wait_closed()
        else:
            call.end()  # the connection below, without a word of TLS

    tls = trusted.server("127.0.0.1")
    async with RawServer(end).running(tls=tls) as server, client() as upstream:
        (got,) = await asyncio.gather(whole(upstream, server.url), return_exceptions=True)

    assert got == b"abc" if in_order else isinstance(got, UpstreamBroke)
