"""Runs Django's ORM for the event loop, in a few threads of its own with a connection each."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Generic, ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections

THREADS: Final = 4
ANSWER_SECONDS_MAX: Final = 3.0
QUEUE_SECONDS_MAX: Final = 10.0
DOWN_SECONDS: Final = 1.0
"""For so long after a failure nobody else is made to wait for Postgres; then one call tries."""

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseDown(OperationalError):
    """Postgres does not answer in time, or has just failed to."""


class Database:
    def __init__(self, *, threads: int = THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="database")
        self._down_until: float | None = None
        self._is_trying = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Call ``function`` in a thread with a working connection; its errors are raised here.

        :raises DatabaseDown: if Postgres has not answered in time, or has just failed to
        """
        if self._down_until is None:
            return await self._run(partial(function, *args, **kwargs))
        if self._is_trying or time.monotonic() < self._down_until:
            raise DatabaseDown("Postgres did not answer a moment ago")
        self._is_trying = True
        try:
            return await self._run(partial(function, *args, **kwargs))
        finally:
            self._is_trying = False

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[[], T]) -> T:
        work = _Work(call)
        running = asyncio.get_running_loop().run_in_executor(self._threads, work.do)
        until = time.monotonic() + QUEUE_SECONDS_MAX
        while not (await asyncio.wait({running}, timeout=ANSWER_SECONDS_MAX))[0]:
            # One that waits for a thread has not been refused by Postgres yet.
            if work.has_begun or self._down_until is not None or time.monotonic() > until:
                self._down_until = time.monotonic() + DOWN_SECONDS
                running.cancel()
                raise DatabaseDown("Postgres did not answer in time")
        try:
            result = running.result()
        except (OperationalError, InterfaceError):
            self._down_until = time.monotonic() + DOWN_SECONDS
            raise
        self._down_until = None
        return result


class _Work(Generic[T]):
    """A call as a thread does it: with a working connection."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.has_begun = False

    def do(self) -> T:
        self.has_begun = True
        close_old_connections()
        try:
            return self._call()
        finally:
            close_old_connections()
