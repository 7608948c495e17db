"""The ASGI application: the gateway's lane, then Django; and the gateway's life in this process."""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "costplatform.settings")
django.setup()

from django.conf import settings  # noqa: E402  # Django must be set up first
from django.core.asgi import get_asgi_application  # noqa: E402
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware  # noqa: E402

from costplatform.connections import LANE  # noqa: E402
from gateway import lane, process  # noqa: E402
from gateway.begun import BEGUN, Begun  # noqa: E402

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The lane believes no proxy anything, and needs not: it looks at keys alone.
_django = ProxyHeadersMiddleware(
    get_asgi_application(),  # type: ignore[arg-type]  # its stubs want a dict
    trusted_hosts=os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1"),
)


async def http(scope: Message, receive: Receive, send: Send) -> None:
    """Serve through Django; what the lane takes does not come here."""
    begun = Begun()
    try:
        await _django({**scope, BEGUN: begun}, receive, send)  # type: ignore[arg-type]  # its stubs want a dict
    finally:
        begun.end()


async def lifespan(scope: Message, receive: Receive, send: Send) -> None:
    """Start and stop the gateway with the server."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await process.start()
            if settings.GATEWAY_LANE:
                scope["state"][LANE] = lane
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await process.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Serve what the server hands on; websockets are none of ours yet."""
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    else:
        raise ValueError(f"no {scope['type']} is served here")
