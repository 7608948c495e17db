"""
What a request costs the live store: time in its two scripts, by the store's own clock.

``make bench`` runs it. Each kind of path is measured several times, in turn; the median counts.
"""

import asyncio
import os
import statistics
import sys
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from costplatform import servers

ROUNDS: Final = 7
REQUESTS: Final = 400
DOLLAR: Final = 10**9


@dataclass(frozen=True)
class Case:
    name: str
    accounts: int
    money: int = 0
    rates: int = 0
    models: bool = True


CASES: Final = (
    Case("2 accounts, no limits", accounts=2, models=False),
    Case("2 accounts, 1 budget", accounts=2, money=1, models=False),
    Case("10 accounts, 5 budgets", accounts=10, money=5),
    Case("10 accounts, 5 budgets, 3 × rpm, tpm and parallel", accounts=10, money=5, rates=3),
    Case("26 accounts (16 tags), 16 budgets", accounts=26, money=16),
)


def main() -> None:
    with servers.throwaway() as addresses:
        for name, address in addresses._asdict().items():
            os.environ[name.upper()] = address
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "costplatform.settings")
        import django  # the settings need the servers' addresses

        django.setup()
        generation = _open()
        asyncio.run(_measure(generation))


async def _measure(generation: int) -> None:
    store = _store(generation)
    figures: dict[str, list[tuple[float, float]]] = {case.name: [] for case in CASES}
    for _ in range(ROUNDS):
        for case in CASES:
            figures[case.name].append(await _one(store, case))
    await store.close()
    sys.stdout.write(f"{'microseconds in the live store':52} reserve   settle\n")
    for name, rounds in figures.items():
        reserve, settle = (statistics.median(each) for each in zip(*rounds, strict=True))
        sys.stdout.write(f"{name:52} {reserve:7.0f} {settle:8.0f}\n")


def _open() -> int:
    from django.core.management import call_command

    from spend import recovery

    call_command("migrate", verbosity=0)
    return recovery.ensure_open(now=datetime.now(UTC)).generation


def _store(generation: int) -> Any:
    from django.conf import settings

    from budgets.livestore import LiveStore
    from budgets.store_connection import StoreConnection

    connection = StoreConnection(url=settings.REDIS_URL, timeout_ms=5_000)
    store = LiveStore(connection=connection, member=uuid.uuid4().hex, timeout_ms=5_000)
    store.generation = generation
    return store


async def _one(store: Any, case: Case) -> tuple[float, float]:
    """Return the mean microseconds of a reserve and of a settle."""
    context = await _context(store, case)
    ids = []
    began = await _spent(store)
    for _ in range(REQUESTS):
        demand = _demand(context)
        ids.append((demand.id, await store.reserve(demand, context=context)))
    reserved = await _spent(store)
    for id, admission in ids:
        await store.settle(_event(id, context, admission))
    settled = await _spent(store)
    return (reserved - began) / REQUESTS, (settled - reserved) / REQUESTS


async def _spent(store: Any) -> float:
    """Return the microseconds that the store has spent in scripts."""
    told = (await store._connection.command("INFO", "commandstats")).decode()  # noqa: SLF001
    _, _, stats = told.partition("cmdstat_evalsha:")
    return float(stats.partition("usec=")[2].partition(",")[0] or 0)


async def _context(store: Any, case: Case) -> Any:
    from budgets.contexts import (
        Context,
        PathAccount,
        Terms,
        limits_at,
    )
    from budgets.livestore import LedgerTotal
    from budgets.models import holder_model_account_id
    from budgets.money import Units

    path = tuple(PathAccount(uuid.uuid4(), "key", "bench") for _ in range(case.accounts))
    terms = [
        Terms(path[n], "b", "adaptive", max_budget=Decimal(1_000_000), duration="1mo")
        for n in range(case.money)
    ]
    terms[: case.rates] = [
        replace(each, rpm_limit=10**9, tpm_limit=10**12, max_parallel_requests=10**9)
        for each in terms[: case.rates]
    ]
    limits = limits_at(terms=terms, currency="USD", at=datetime.now(UTC))
    for limit in limits:
        if limit.period is None:
            await store.load_in_flight(limit.account.id)
        else:
            await store.load(
                LedgerTotal(
                    limit.account.id.hex, limit.period.start_ms, limit.period.end_ms, Units(0),
                    store.generation, "9999999999999-0", 10**9,
                )
            )  # fmt: skip
    models = tuple(holder_model_account_id(holder=each.id, model="m") for each in path)
    return Context(
        organization_id=10**9, currency="USD", organization_version=0, global_version=10**9,
        path=path, limits=limits, valid_from_ms=0, valid_until_ms=32_503_680_000_000,
        model_path=models if case.models else (),
    )  # fmt: skip


def _demand(context: Any) -> Any:
    from budgets.money import Units
    from budgets.reservations import Demand

    return Demand(
        id=str(uuid.uuid4()), ceiling=Units(DOLLAR), prior=Units(DOLLAR // 10), tokens=1_000,
        learnt_under=context.path[0].id.hex, seconds=600, orphan=b"x" * 600,
    )  # fmt: skip


def _event(id: str, context: Any, admission: Any) -> Any:
    from budgets.money import Units
    from budgets.unconfirmed import Event

    return Event(
        id=id, amount=Units(DOLLAR // 50), admitted_ms=admission.admitted_ms,
        path=context.path_text, payload=b"x" * 600, tokens=900,
        learnt_under=context.path[0].id.hex,
    )  # fmt: skip


if __name__ == "__main__":
    main()
