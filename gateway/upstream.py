"""
The client of upstreams: pooled, TLS verified, every address checked at connect time, no redirects.

UpstreamNotReached   nothing was sent: the request costs nothing
UpstreamBroke        it was sent, and the answer did not come (in full): it may have been billed
"""

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import aiohttp

from gateway import addresses, metrics
from gateway.addresses import AddressRefused, Allowed

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

READ_BYTES: Final = 64 * 1_024
KEEPALIVE_SECONDS: Final = 10
_PASSED_ON: Final = ("content-type", "retry-after", "retry-after-ms", "openai-processing-ms")


class UpstreamNotReached(Exception):
    pass


class UpstreamBroke(Exception):
    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Response:
    """An upstream's answer, its body not read yet."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = {
            name: response.headers[name] for name in _PASSED_ON if name in response.headers
        }
        if (id := response.headers.get("x-request-id")) is not None:
            self.headers["llm_provider-x-request-id"] = id[:256]

    @property
    def is_stream(self) -> bool:
        return self._response.content_type == "text/event-stream"

    async def chunks(self) -> AsyncIterator[bytes]:
        """
        Yield the body as it comes; reading pauses while nobody takes it.

        :raises UpstreamBroke: if it ends before its end
        """
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _broke(error) from error

    async def read(self, *, bytes_max: int) -> bytes:
        """
        Return the whole body.

        :raises UpstreamBroke: if it ends before its end, or is larger than ``bytes_max``
        """
        body = bytearray()
        with metrics.waiting_for_upstream():
            async for chunk in self.chunks():
                body += chunk
                if len(body) > bytes_max:
                    raise UpstreamBroke("the answer is too large")
        return bytes(body)

    def close(self) -> None:
        """Return the connection to the pool if the body was read whole, else close it."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class _Connector(aiohttp.TCPConnector):
    """Pools connections, and takes none again on which something came that nobody asked for."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: "list[Trace]",
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's own signature
    ) -> "Connection":
        """Return a connection; what waits to be read on it would pass for the answer to ``req``."""
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


class Upstream:
    def __init__(
        self,
        *,
        total_seconds: int,
        connect_seconds: int,
        idle_seconds: int,
        connections_max: int,
        allowed: Sequence[Allowed],
    ) -> None:
        self._allowed = tuple(allowed)
        connector = _Connector(
            limit=connections_max,
            keepalive_timeout=KEEPALIVE_SECONDS,
            socket_factory=self._checked_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=total_seconds, connect=connect_seconds, sock_read=idle_seconds
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BYTES,
        )

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Response:
        """
        Send a request and return the answer as soon as its headers are there.

        :raises UpstreamNotReached: if nothing was sent
        :raises UpstreamBroke: if it was sent, and no headers came
        """
        return await self.ask("POST", url, body=body, headers=headers)

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response:
        """
        Send a request of any method, as :meth:`post` does.

        :raises UpstreamNotReached: if nothing was sent
        :raises UpstreamBroke: if it was sent, and no headers came
        """
        with metrics.waiting_for_headers():
            return Response(await self._request(method, url, body, headers))

    async def status_of(self, url: str, *, headers: Mapping[str, str]) -> int:
        """
        Return the status that a GET is answered with.

        :raises UpstreamNotReached: if nothing was sent
        :raises UpstreamBroke: if no headers came
        """
        response = await self._request("GET", url, None, headers)
        response.close()
        return response.status

    async def close(self) -> None:
        await self._session.close()

    async def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        try:
            return await self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamNotReached(str(error)) from error
        except (aiohttp.InvalidURL, AddressRefused) as error:
            raise UpstreamNotReached(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _broke(error) from error

    def _checked_socket(self, info: tuple[object, ...]) -> socket.socket:
        """Make the socket of one resolved address, or refuse it: what is checked is used."""
        family, kind, protocol, _, address = info
        assert isinstance(address, tuple)
        addresses.check(str(address[0]), int(address[1]), allowed=self._allowed)
        made = socket.socket(family=family, type=kind, proto=protocol)  # type: ignore[arg-type]  # as getaddrinfo gives them
        made.setblocking(False)
        return made


def _broke(error: Exception) -> UpstreamBroke:
    timed_out = isinstance(error, TimeoutError)
    return UpstreamBroke(
        "it did not answer in time" if timed_out else "it broke off", timed_out=timed_out
    )
