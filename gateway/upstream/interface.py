"""
What the gateway sees of a client.

UpstreamNotReached   nothing was sent: the request costs nothing
UpstreamBroke        it was sent, and the answer did not come (in full): it may have been billed
"""

import asyncio
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway import metrics
from gateway.addresses import Allowed
from gateway.upstream import headers as headers_of
from gateway.upstream.decoding import decoded
from gateway.upstream.errors import UpstreamBroke, UpstreamNotReached
from gateway.upstream.headers import RawHeaders

__all__ = ["Response", "Terms", "Upstream", "UpstreamBroke", "UpstreamNotReached"]

KEEPALIVE_SECONDS: Final = 10
"""After this long without a request a connection is closed: sooner than most upstreams do it."""
UNREAD_BYTES_MAX: Final = 64 * 1_024
"""While more than this waits to be taken, nothing more is read from the upstream."""
LOOKS: Final = 2
"""Turns of the event loop in which it looks at its sockets, whatever it was doing before."""
INFLATED_BYTES_MAX: Final = 256 * 2**20
"""What a compressed answer may grow to while it is streamed."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long things may take, how many connections there may be, and where to."""

    total_seconds: float
    connect_seconds: float
    idle_seconds: float
    connections_max: int
    allowed: tuple[Allowed, ...]


class Response(ABC):
    """An upstream's answer, its body not read yet; ``headers`` are those that are passed on."""

    def __init__(self, *, status: int, headers: RawHeaders) -> None:
        self.status = status
        self.headers = headers_of.passed_on(headers)
        self._encoding = headers_of.encoding_of(headers)

    @property
    def is_stream(self) -> bool:
        kind = self.headers.get("content-type", "").partition(";")[0]
        return kind.strip().lower() == "text/event-stream"

    def chunks(self) -> AsyncIterator[bytes]:
        """
        Yield the body as it comes; reading pauses while nobody takes it.

        Whoever stops half-way may go on with another call.

        :raises UpstreamBroke: if it ends before its end, or is encoded in a way that is not known
        """
        return self._body(inflated_bytes_max=INFLATED_BYTES_MAX)

    async def arrived(self) -> bytes:
        """Return what has come and nobody has taken, without waiting for more."""
        for _ in range(LOOKS):
            await asyncio.sleep(0)
        return b"" if self._encoding else self._waiting()

    async def read(self, *, bytes_max: int) -> bytes:
        """
        Return the whole body.

        :raises UpstreamBroke: as :meth:`chunks`, or if it is larger than ``bytes_max``
        """
        body = bytearray()
        with metrics.waiting_for_upstream():
            async for chunk in self._body(inflated_bytes_max=bytes_max):
                body += chunk
                if len(body) > bytes_max:
                    raise UpstreamBroke("the answer is too large")
        return bytes(body)

    @abstractmethod
    def close(self) -> None:
        """Return the connection to the pool if the body was taken whole, else close it."""

    @abstractmethod
    def _waiting(self) -> bytes:
        """Return, and take, what has come over the wire."""

    @abstractmethod
    def _pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it came over the wire."""

    def _body(self, *, inflated_bytes_max: int) -> AsyncIterator[bytes]:
        if not self._encoding:
            return self._pieces()
        return decoded(self._pieces(), self._encoding, bytes_max=inflated_bytes_max)


class Upstream(ABC):
    """Bound to the event loop that it is made on."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    @abstractmethod
    async def request(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str]
    ) -> Response:
        """
        Send a request and return the answer as soon as its head is there.

        Names of headers are lower case. A request is sent once, never again.

        :raises UpstreamNotReached: if nothing was sent
        :raises UpstreamBroke: if it was sent, and no head came
        """

    @abstractmethod
    async def close(self) -> None:
        """Close all connections; answers that are still read break off."""

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Response:
        """As :meth:`request`, measured."""
        came, began = False, time.perf_counter()
        try:
            response = await self.request("POST", url, body=body, headers=headers)
            came = True
        finally:
            metrics.headers_waited_for(time.perf_counter() - began, came=came)
        return response

    async def status_of(self, url: str, *, headers: Mapping[str, str]) -> int:
        """
        Return the status that a GET is answered with.

        :raises UpstreamNotReached: if nothing was sent
        :raises UpstreamBroke: if no head came
        """
        response = await self.request("GET", url, body=None, headers=headers)
        response.close()
        return response.status


def tls_context() -> ssl.SSLContext:
    """Return what verifies upstreams: by the system's authorities, or those of SSL_CERT_FILE."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
