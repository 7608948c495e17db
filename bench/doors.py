"""
What a request costs the gateway: CPU time a request, through either door, interleaved.

``make bench`` starts throw-away servers, the sandbox, a recorder and one web process for each
door, sends rounds of requests in turn, and prints medians and the ratio. CPU time is that of the
web process alone (``/proc/PID/schedstat``), so the load generator beside it does not count.
"""

import argparse
import asyncio
import io
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import django

from costplatform import servers

BODY = {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x" * 500}]}
ROUNDS, REQUESTS, AT_ONCE, WARM_UP = 5, 1_000, 32, 200


@dataclass(frozen=True)
class Door:
    name: str
    url: str
    pid: int


@dataclass(frozen=True)
class Round:
    cpu_ms: float
    requests_per_second: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    options = parser.parse_args()
    with running_doors() as (doors, secret):
        for door in doors:
            asyncio.run(send(door.url, secret, WARM_UP))
        rounds = {door.name: [] for door in doors}  # type: dict[str, list[Round]]
        for number in range(options.rounds):
            for door in doors:
                rounds[door.name].append(measured(door, secret, options.requests))
            say(f"round {number + 1} of {options.rounds} done")
    report(rounds)


def measured(door: Door, secret: str, requests: int) -> Round:
    """Return CPU time and speed of one round."""
    cpu, began = cpu_ns(door.pid), time.perf_counter()
    asyncio.run(send(door.url, secret, requests))
    seconds = time.perf_counter() - began
    return Round((cpu_ns(door.pid) - cpu) / 1e6 / requests, requests / seconds)


async def send(url: str, secret: str, requests: int) -> None:
    """Send ``requests`` requests, ``AT_ONCE`` at a time; all must succeed."""
    headers = {"authorization": f"Bearer {secret}"}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def one() -> None:
            async with session.post(f"{url}/v1/chat/completions", json=BODY) as reply:
                await reply.read()
                reply.raise_for_status()

        await asyncio.gather(*(one() for _ in range(requests)))


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process with all its threads, in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def report(rounds: dict[str, list[Round]]) -> None:
    medians = {name: statistics.median(r.cpu_ms for r in each) for name, each in rounds.items()}
    for name, each in rounds.items():
        low, high = min(r.cpu_ms for r in each), max(r.cpu_ms for r in each)
        speed = statistics.median(r.requests_per_second for r in each)
        say(
            f"{name:6} {medians[name]:.3f} ms CPU a request [{low:.3f}-{high:.3f}],"
            f" {speed:.0f} requests/s with {AT_ONCE} at once"
        )
    ratios = [v.cpu_ms / x.cpu_ms for v, x in zip(rounds["views"], rounds["lane"], strict=True)]
    say(f"views / lane: {statistics.median(ratios):.1f} (median of pairs)")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def running_doors() -> Iterator[tuple[list[Door], str]]:
    """Start everything on throw-away servers; yield the doors and a key without limits."""
    with servers.throwaway() as addresses, tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "DJANGO_SETTINGS_MODULE": "costplatform.settings",
        }
        django.setup()
        # Settings are read by these imports: the servers had to be there first.
        from django.core.management import call_command

        from tests.stack import Stack

        call_command("migrate", verbosity=0)
        call_command("seed", stdout=io.StringIO())
        with Stack(Path(folder), web_processes=1) as stack:
            yield (
                [
                    Door("lane", stack.lane, stack.processes["lane-0"].pid),
                    Door("views", stack.views, stack.processes["views-0"].pid),
                ],
                new_key(),
            )


def new_key() -> str:
    from decimal import Decimal

    from budgets.models import Organization
    from budgets.services.accounts import Terms
    from budgets.services.keys import Owner, issue_key

    organization = Organization.objects.get(public_id="default")
    terms = Terms(max_budget=Decimal(1_000), duration="1mo")
    values = {"name": uuid.uuid4().hex}
    issued = issue_key(owner=Owner(organization), values=values, terms=terms, now=datetime.now(UTC))
    return issued.secret


if __name__ == "__main__":
    main()
