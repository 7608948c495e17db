"""Has the counters of a path in the live store when it is asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from django.db import Error as DatabaseError

from budgets import snapshots
from budgets.contexts import Context, Limit
from budgets.errors import CountersMissing
from budgets.snapshots import Counted
from gateway.errors import Unavailable
from gateway.process import GatewayProcess

LOAD_PAUSE_SECONDS: Final = 0.01
TOO_SLOW: Final = "The request could not be admitted in time."

Got = TypeVar("Got")


async def with_counters(
    context: Context, until: float, process: GatewayProcess, ask: Callable[[], Awaitable[Got]]
) -> Got:
    """
    Return what ``ask`` returns; counters of the context that are missing are loaded first.

    :raises Unavailable: if that takes too long
    """
    limits = context.limits
    while True:
        try:
            return await ask()
        except CountersMissing as missing:
            if time.monotonic() > until:
                raise Unavailable(TOO_SLOW, code="admission_timeout") from missing
            await _load([limits[index] for index in missing.limit_indexes], until, process)


async def _load(limits: Sequence[Limit], until: float, process: GatewayProcess) -> None:
    """Load counters that are missing; a crowd that misses the same loads it once."""
    for limit in limits:
        account, period = limit.account.id, limit.period
        if period is None:
            await process.store.load_in_flight(account)
        else:
            counter = (account, period)
            await process.loading.do(counter, lambda c=counter: _load_one(c, until, process))  # type: ignore[misc]  # bound now, not later


async def _load_one(counter: Counted, until: float, process: GatewayProcess) -> None:
    """Load one from the ledger; read its total again as long as the recorder is quicker."""
    while time.monotonic() < until:
        try:
            (total,) = await process.database.run(snapshots.ledger_totals, [counter])
        except DatabaseError as error:
            raise Unavailable("The ledger cannot be reached.", code="ledger_unavailable") from error
        if await process.store.load(total):
            return
        await asyncio.sleep(LOAD_PAUSE_SECONDS)
