"""
The live store by redis-py: the second way to speak to it, behind the same interface.

One command at a time on each connection of a pool. It costs several times the CPU of the own
connection, and is there to be compared with, and to fall back to.
"""

from typing import Final

import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from budgets.errors import OutcomeUnknown
from budgets.store_interface import Argument, ReplyError, Store

CONNECTIONS_MAX: Final = 128


class RedisPyConnection(Store):
    """A command that fails in any way but by the store's own word has an unknown outcome."""

    def __init__(self, *, url: str, timeout_ms: int) -> None:
        seconds = timeout_ms / 1_000
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS_MAX, timeout=seconds, socket_timeout=seconds,
            socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        self._client = redis.asyncio.Redis(connection_pool=pool)
        # What the store says is read by whoever asked.
        self._client.response_callbacks.clear()

    async def command(self, *words: Argument) -> object:
        try:
            reply: object = await self._client.execute_command(*words)  # type: ignore[no-untyped-call]  # theirs
        except NoScriptError as error:
            raise ReplyError(f"NOSCRIPT {error}") from error
        except ResponseError as error:
            raise ReplyError(str(error)) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise OutcomeUnknown("the live store did not answer") from error
        return reply

    async def close(self) -> None:
        await self._client.aclose()
        await self._client.connection_pool.disconnect()
