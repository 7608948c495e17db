"""
The client of upstreams: pooled, TLS verified, every address checked at connect time, no redirects,
no cookies, no proxies of the environment.

interface.py        what the gateway sees of it, whichever implementation runs
targets.py          an address as the two clients understand it, and the head of a request
headers.py          what is passed on of an answer's headers
decoding.py         answers that come compressed though nobody asked for it
client.py           the own implementation: on pool.py, dialing.py, and wire.py (one connection)
aiohttp_client.py   the other one; the same tests run on both
"""

from collections.abc import Sequence
from typing import Final

from django.conf import settings

from gateway.addresses import Allowed
from gateway.upstream.aiohttp_client import AiohttpClient
from gateway.upstream.client import Client
from gateway.upstream.interface import (
    Response,
    Terms,
    Upstream,
    UpstreamBroke,
    UpstreamNotReached,
)

__all__ = ["Response", "Upstream", "UpstreamBroke", "UpstreamNotReached", "make"]

_CLIENTS: Final[dict[str, type[Upstream]]] = {"own": Client, "aiohttp": AiohttpClient}


def make(
    *,
    total_seconds: float,
    connect_seconds: float,
    idle_seconds: float,
    connections_max: int,
    allowed: Sequence[Allowed],
) -> Upstream:
    """Return the client that ``GATEWAY_UPSTREAM_CLIENT`` names, for the running event loop."""
    terms = Terms(
        total_seconds=total_seconds,
        connect_seconds=connect_seconds,
        idle_seconds=idle_seconds,
        connections_max=connections_max,
        allowed=tuple(allowed),
    )
    return _CLIENTS[settings.GATEWAY_UPSTREAM_CLIENT](terms)
