"""What the gateway needs of a connection to the live store, whoever makes it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from budgets.scripts import Script

Argument = str | bytes


class ReplyError(Exception):
    """The store's own error reply, such as NOSCRIPT or OOM."""


class Store(ABC):
    @abstractmethod
    async def command(self, *words: Argument) -> object:
        """
        :raises OutcomeUnknown: if no answer came
        :raises ReplyError: if the store refused the command
        """

    @abstractmethod
    async def close(self) -> None: ...

    async def run(self, script: Script, *, key: str, arguments: Sequence[Argument]) -> list[bytes]:
        """
        Run a script by its hash; where the store does not have it, load it and run it again.

        :raises OutcomeUnknown: if no answer came
        :raises ReplyError: if the store refused it
        """
        try:
            reply = await self.command("EVALSHA", script.sha, "1", key, *arguments)
        except ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            reply = await self.command("EVAL", script.text, "1", key, *arguments)
        assert isinstance(reply, list)
        return reply


def connect(*, client: str, url: str, timeout_ms: int) -> Store:
    """Return the connection that a setting names: ``own`` or ``redis-py``."""
    # Both need what is above.
    from budgets.store_connection import StoreConnection
    from budgets.store_redis_py import RedisPyConnection

    made: Store
    if client == "own":
        made = StoreConnection(url=url, timeout_ms=timeout_ms)
    else:
        made = RedisPyConnection(url=url, timeout_ms=timeout_ms)
    return made
