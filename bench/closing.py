"""
Closes the books of many accounts whose day ended at the same midnight, while the gateway serves.

``make bench-closing`` starts the gateway with its budgets on a core of its own and makes 100,000
accounts with a daily budget, of which half have spent on that day and three tenths never. It sends
requests at a fixed rate while a process closes until nothing is due, then again without anything
else, and prints both side by side. Postgres, the store, the recorder, what closes and the load
share the other core.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import load, machine, our_gateway
from bench.contestants import Contestant, Place, free_port, upstream_process, wait_until_answered
from bench.figures import percentile

ACCOUNTS: Final = 100_000
RATE: Final = 50
LOOP_SECONDS: Final = 2.0
WARM_UP_REQUESTS: Final = 500
QUIET_LOOPS_MIN: Final = 5


@dataclass(frozen=True)
class Closed:
    """What the process that closes has to say."""

    closings: int
    seconds: float
    batch: int
    batch_ms: Sequence[float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _options(arguments)
    if options.close:
        sys.stdout.write(json.dumps(asdict(close_all())))
        return 0
    cores = machine.choose_cores(options.cores)
    with ExitStack() as stack:
        stack.enter_context(machine.pinned(cores.beside))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="closing-")))
        place = Place(cores=cores, upstream_port=free_port(), folder=folder)
        upstream = upstream_process(place.upstream_port)
        pid = stack.enter_context(place.beside(upstream))
        wait_until_answered(place.upstream_port, "/served", place=place, process=upstream, pid=pid)
        gateway = stack.enter_context(our_gateway.running(place))
        _say(report(*measured(gateway, accounts=options.accounts, rate=options.rate), options))
    return 0


def measured(
    gateway: Contestant, *, accounts: int, rate: int
) -> tuple[list[float], list[float], Closed]:
    """Return the times of answers without and with the closing, in milliseconds, and its own."""
    asyncio.run(load.counted(gateway.target, connections=16, requests=WARM_UP_REQUESTS))
    make_accounts(accounts)
    began, loops = time.perf_counter(), 0
    closer = subprocess.Popen(
        [sys.executable, "-m", "bench.closing", "--close"], stdout=subprocess.PIPE
    )
    busy: list[float] = []
    while closer.poll() is None:
        busy += _answer_ms(gateway, rate)
        loops += 1
    _say(f"{loops} rounds of {LOOP_SECONDS:g} s in {time.perf_counter() - began:.0f} s")
    assert closer.stdout is not None
    closed = Closed(**json.loads(closer.stdout.read()))
    quiet: list[float] = []
    for _ in range(max(loops, QUIET_LOOPS_MIN)):
        quiet += _answer_ms(gateway, rate)
    return quiet, busy, closed


def close_all() -> Closed:
    """Close until nothing is due, and time each batch."""
    import django

    django.setup()
    # Models are not there before.
    from budgets.services import books

    batch_ms: list[float] = []
    run = books._run  # noqa: SLF001 – a batch is what is timed

    def timed(step: books.Step, until: datetime, now: datetime) -> books.Batch:
        began = time.perf_counter()
        batch = run(step, until, now)
        batch_ms.append((time.perf_counter() - began) * 1e3)
        return batch

    books._run = timed  # noqa: SLF001
    closings, began = 0, time.perf_counter()
    while closed := books.close_due(now=datetime.now(UTC), count=books.BATCH * 100):
        closings += closed
    return Closed(closings, time.perf_counter() - began, books.BATCH, batch_ms)


def make_accounts(count: int) -> None:
    """Make accounts with a daily budget whose last day has ended and was not closed."""
    from django.db import connection, transaction

    from budgets.models import Budget, Organization

    organization = Organization.objects.get(public_id="bench")
    budget = Budget.objects.create(organization=organization, name="Daily", duration="1d")
    with transaction.atomic(), connection.cursor() as cursor:
        # Triggers would raise the configuration version 100,000 times: it is one change here.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in _ACCOUNTS:
            cursor.execute(
                statement,
                {"count": count, "organization": organization.pk, "budget": budget.pk},
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def report(
    quiet: Sequence[float], busy: Sequence[float], closed: Closed, options: argparse.Namespace
) -> str:
    """Return the figures as Markdown."""
    ms = closed.batch_ms
    rows: list[tuple[str, Callable[[Sequence[float]], float]]] = [
        ("answers, p50 in ms", lambda times: percentile(times, 50)),
        ("answers, p99 in ms", lambda times: percentile(times, 99)),
        ("answers, the slowest in ms", max),
        ("answers measured", len),
    ]
    lines = [
        f"{closed.closings:,} periods closed in {closed.seconds:.1f} s:"
        f" {closed.closings / closed.seconds:,.0f} a second, {closed.batch} books a batch;"
        f" a batch (the recorder waits for it) takes {percentile(ms, 50):.0f} ms (p50),"
        f" {percentile(ms, 99):.0f} ms (p99).",
        "",
        f"| at {options.rate} requests a second | without | while books are closed |",
        "| --- | --- | --- |",
        *(f"| {name} | {of(quiet):,.1f} | {of(busy):,.1f} |" for name, of in rows),
    ]
    return "\n".join(lines)


def _answer_ms(gateway: Contestant, rate: int) -> list[float]:
    sent = asyncio.run(load.open_loop(gateway.target, rate=rate, seconds=LOOP_SECONDS))
    return sent.answer_ms


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.closing", description=__doc__)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--rate", type=int, default=RATE, help="requests a second")
    parser.add_argument("--cores", metavar="0,1", help="the gateway's core, and that of the rest")
    parser.add_argument("--close", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


_ACCOUNTS: Final = (
    "INSERT INTO budgets_account (id, organization_id, kind, label, model, closed_because,"
    " created_at) SELECT gen_random_uuid(), %(organization)s, 'end_user', 'at midnight ' || n, '',"
    " '', now() FROM generate_series(1, %(count)s) n",
    "INSERT INTO budgets_accountbudget (account_id, budget_id)"
    " SELECT id, %(budget)s FROM budgets_account WHERE label LIKE 'at midnight %%'",
    "INSERT INTO budgets_book (link_id, open_at, closes_at)"
    " SELECT id, date_trunc('day', now(), 'UTC') - interval '1 hour',"
    " date_trunc('day', now(), 'UTC') FROM budgets_accountbudget WHERE budget_id = %(budget)s",
    # What seven tenths of them have spent in their lives, and five on that day.
    "INSERT INTO budgets_periodtotal (account_id, period_start, period_end, amount_units, events)"
    " SELECT id, '1970-01-01Z', '3000-01-01Z', 5000, 9 FROM budgets_account"
    " WHERE label LIKE 'at midnight %%' AND label !~ '[048]$'",
    "INSERT INTO budgets_periodtotal (account_id, period_start, period_end, amount_units, events)"
    " SELECT id, date_trunc('day', now(), 'UTC') - interval '1 day',"
    " date_trunc('day', now(), 'UTC'), 1000, 1 FROM budgets_account"
    " WHERE label LIKE 'at midnight %%' AND label !~ '[04789]$'",
)


if __name__ == "__main__":
    sys.exit(main())
