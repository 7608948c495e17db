"""Bounds on what Django is handed: bodies without an end, and clients that never finish one."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from django.conf import settings

from gateway import pipeline
from gateway.errors import BodyTooLarge
from gateway.lane import Message, Receive, Send, send_reply

App = Callable[[Message, Receive, Send], Awaitable[None]]


async def limited(app: App, scope: Message, receive: Receive, send: Send) -> None:
    """Run ``app`` with a body of bounded size and time; one announced as too large is refused."""
    if _announced(scope) > settings.GATEWAY_BODY_BYTES_MAX:
        limit = settings.GATEWAY_BODY_BYTES_MAX
        error = BodyTooLarge(f"The body may have {limit} bytes at most.")
        await send_reply(pipeline.refused(error), send)
        return
    await app(scope, _Bounded(receive), send)


class _Bounded:
    """Passes messages on; a body that grows too large or comes too slowly counts as a hang-up."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0
        self._until = time.monotonic() + settings.GATEWAY_BODY_SECONDS_MAX
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            return {"type": "http.disconnect"}
        self._bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._bytes > settings.GATEWAY_BODY_BYTES_MAX:
            return {"type": "http.disconnect"}
        return message


def _announced(scope: Message) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
