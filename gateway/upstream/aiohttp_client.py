"""The client on aiohttp, for whoever trusts its many users more than our few."""

import asyncio
import io
import select
import socket
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

from gateway import addresses
from gateway.addresses import AddressRefused
from gateway.upstream import targets
from gateway.upstream.errors import UpstreamBroke, UpstreamNotReached
from gateway.upstream.interface import (
    KEEPALIVE_SECONDS,
    UNREAD_BYTES_MAX,
    Response,
    Terms,
    Upstream,
    tls_context,
)

WHOLE_BYTES_MAX: Final = 2**20
SWITCHING_PROTOCOLS: Final = 101
_NOT_SENT: Final = (
    aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL,
    AddressRefused,
)  # fmt: skip


class AiohttpResponse(Response):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        headers = [(name.lower(), value) for name, value in response.raw_headers]
        super().__init__(status=response.status, headers=headers)
        self._response = response

    def close(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    def _waiting(self) -> bytes:
        content = self._response.content
        return b"" if content.exception() is not None else content.read_nowait()

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _broke(error) from error


class SilentWhileIdle(ResponseHandler):
    """
    Closes an idle connection that is spoken on.

    aiohttp would keep what was said, and take it for the answer to whoever asks next. Before a
    connection is used again the system is asked, too, as wire.py does.
    """

    _is_idle = False
    _poll: select.poll

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def is_connected(self) -> bool:
        return super().is_connected() and not (self._is_idle and self._poll.poll(0))

    def set_response_params(self, **params: Any) -> None:
        self._is_idle = False
        super().set_response_params(**params)

    @property
    def should_close(self) -> bool:
        """Asked once, when the connection is given back: if not, it is idle from now on."""
        closes = super().should_close
        self._is_idle = not closes
        return closes

    def data_received(self, data: bytes) -> None:
        if self._is_idle and data:
            self.abort()
        else:
            super().data_received(data)


class AiohttpClient(Upstream):
    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        connector = aiohttp.TCPConnector(
            limit=terms.connections_max,
            keepalive_timeout=KEEPALIVE_SECONDS,
            socket_factory=self._checked_socket,
            ssl=tls_context(),
        )
        kind: type[ResponseHandler] = SilentWhileIdle
        connector._factory = partial(kind, loop=asyncio.get_running_loop())  # noqa: SLF001  # there is no public way
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=terms.total_seconds,
                connect=terms.connect_seconds,
                sock_read=terms.idle_seconds,
            ),
            headers={"accept-encoding": "identity"},
            skip_auto_headers=("user-agent", "accept", "content-type"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=UNREAD_BYTES_MAX,
        )

    async def request(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str]
    ) -> Response:
        targets.of(url)
        targets.check(headers)
        try:
            response = await self._session.request(
                method, url, data=_payload(body), headers=headers, allow_redirects=False
            )
        except _NOT_SENT as error:
            raise UpstreamNotReached(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _broke(error) from error
        if response.status == SWITCHING_PROTOCOLS:
            response.close()
            raise UpstreamBroke("its answer is not HTTP")
        return AiohttpResponse(response)

    async def close(self) -> None:
        await self._session.close()

    def _checked_socket(self, info: tuple[object, ...]) -> socket.socket:
        """Make the socket of one resolved address, or refuse it: what is checked is used."""
        family, kind, protocol, _, address = info
        assert isinstance(address, tuple)
        addresses.check(str(address[0]), int(address[1]), allowed=self._terms.allowed)
        made = socket.socket(family=family, type=kind, proto=protocol)  # type: ignore[arg-type]  # as getaddrinfo gives them
        made.setblocking(False)
        return made


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Have aiohttp write a large body in parts; it warns of what is written at once."""
    return io.BytesIO(body) if body is not None and len(body) > WHOLE_BYTES_MAX else body


def _broke(error: Exception) -> UpstreamBroke:
    timed_out = isinstance(error, TimeoutError)
    return UpstreamBroke(
        "it did not answer in time" if timed_out else "it broke off", timed_out=timed_out
    )
