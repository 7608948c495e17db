"""Work that several requests want at the same time is done once, and all get its result."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class SharedWork(Generic[K, R]):
    """
    One task for each key at a time; it goes on if the request that began it goes away.

    Who joins late may get what was true when the work began.
    """

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[R]] = {}

    async def do(self, key: K, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(work())
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)
