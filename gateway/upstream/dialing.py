"""Makes connections: names are resolved, each address is checked, and that one is connected to."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from gateway import addresses
from gateway.shared_work import SharedWork
from gateway.upstream.errors import UpstreamNotReached
from gateway.upstream.interface import Terms, tls_context
from gateway.upstream.targets import Target
from gateway.upstream.wire import Connection, Owner


class Dialer:
    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._tls = tls_context()
        self._lookups: SharedWork[tuple[str, int], list[str]] = SharedWork()

    async def connect(self, target: Target, owner: Owner) -> Connection:
        """
        Connect to the first address that lets us, each having its share of the time.

        :raises UpstreamNotReached: if none does, or none may be connected to
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._terms.connect_seconds
        found = await self._resolve(target)
        failure: OSError = OSError("the name has no address")
        for number, address in enumerate(found):
            share = (ends_at - loop.time()) / (len(found) - number)
            try:
                addresses.check(address, target.port, allowed=self._terms.allowed)
                async with asyncio.timeout(share):
                    return await self._open(target, address, owner)
            except OSError as error:  # a time-out and what TLS refuses are such, too
                failure = error
        raise UpstreamNotReached(str(failure) or "it did not connect in time") from failure

    async def _open(self, target: Target, address: str, owner: Owner) -> Connection:
        """Connect to a numeric address, so that nothing is resolved again."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(target.origin, idle_seconds=self._terms.idle_seconds, owner=owner),
            host=address,
            port=target.port,
            ssl=self._tls if target.is_tls else None,
            server_hostname=target.host if target.is_tls else None,
        )
        return connection

    async def _resolve(self, target: Target) -> Sequence[str]:
        try:
            return [str(ip_address(target.host))]
        except ValueError:
            pass
        where = (target.host, target.port)
        try:
            return await self._lookups.do(where, lambda: _look_up(*where))
        except (OSError, UnicodeError) as error:
            raise UpstreamNotReached(f"{target.host} was not found") from error


async def _look_up(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
