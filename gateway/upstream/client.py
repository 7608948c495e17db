"""The own client: HTTP/1.1 on connections that are kept, and no more of it than is needed."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from gateway.upstream import targets
from gateway.upstream.answer import Answer
from gateway.upstream.dialing import Dialer
from gateway.upstream.errors import UpstreamNotReached
from gateway.upstream.interface import Response, Terms, Upstream
from gateway.upstream.pool import Pool
from gateway.upstream.targets import Target
from gateway.upstream.wire import Connection


class AnswerInParts(Response):
    def __init__(self, answer: Answer) -> None:
        super().__init__(status=answer.status, headers=answer.headers)
        self._answer = answer

    def close(self) -> None:
        self._answer.close()

    def _waiting(self) -> bytes:
        return self._answer.waiting()

    def _pieces(self) -> AsyncIterator[bytes]:
        return self._answer


class Client(Upstream):
    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(connections_max=terms.connections_max, connect=Dialer(terms).connect)

    async def request(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str]
    ) -> Response:
        target = targets.of(url)
        body_bytes = None if body is None else len(body)
        head = targets.head_of(method, target, headers, body_bytes=body_bytes)
        ends_at = self._loop.time() + self._terms.total_seconds
        connection = self._pool.take_idle(target.origin) or await self._take(target)
        answer = connection.ask(head, body or b"", method=method, ends_at=ends_at)
        try:
            await answer.head()
        except BaseException:
            connection.leave(answer)
            raise
        return AnswerInParts(answer)

    async def close(self) -> None:
        await self._pool.close()

    async def _take(self, target: Target) -> Connection:
        seconds = min(self._terms.connect_seconds, self._terms.total_seconds)
        try:
            async with asyncio.timeout(seconds):
                return await self._pool.take(target)
        except TimeoutError as error:
            raise UpstreamNotReached("no connection was to be had in time") from error
