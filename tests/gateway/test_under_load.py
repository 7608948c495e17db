"""Two promises on real processes: the cap holds, and no crash loses money."""

import asyncio
import sys
from collections import Counter
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from django.db import connection

from spend.models import EventKind, SpendEvent
from tests.conftest import Cast
from tests.gateway.support import CHAT, HELLO, PER_REQUEST
from tests.stack import Stack, command, wait_until

pytestmark = pytest.mark.slow


async def _ask(
    session: aiohttp.ClientSession, url: str, secret: str, body: dict[str, Any]
) -> tuple[int, str]:
    """Send one request and read its whole answer; 0 if the connection broke."""
    headers = {"authorization": f"Bearer {secret}"}
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
            text = await reply.text()
            return reply.status, text
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""


async def _ask_all(
    url: str, secret: str, bodies: list[dict[str, Any]], *, at_once: int
) -> list[tuple[int, str]]:
    connector = aiohttp.TCPConnector(limit=at_once, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        return await asyncio.gather(*(_ask(session, url, secret, body) for body in bodies))


def test_of_200_parallel_requests_exactly_the_50_that_fit_reach_the_upstream(
    door: str, stack: Stack, cast: Cast
) -> None:
    key = cast.key("0.50")
    marker = f"cap-{key.key.pk}"
    body = {"model": PER_REQUEST, "messages": HELLO, "sandbox": {"delay_ms": 50, "marker": marker}}

    answers = asyncio.run(_ask_all(door, key.secret, [body] * 200, at_once=200))
    stack.settle_down()

    statuses = Counter(status for status, _ in answers)
    served = _served(stack, marker)
    assert statuses == {200: 50, 429: 150}
    assert len(served) == 50
    _verify(stack)


def test_a_killed_web_process_loses_no_request_that_the_upstream_served(
    stack: Stack, cast: Cast, capsys: pytest.CaptureFixture[str]
) -> None:
    key = cast.key("100")
    marker = f"crash-{key.key.pk}"
    url = stack.start_web("doomed", processes=2)

    async def kill_amid_requests() -> list[tuple[int, str]]:
        script = {"chunks": 10, "chunk_delay_ms": 30, "delay_ms": 40, "marker": marker}
        bodies = [
            {"model": CHAT, "messages": HELLO, "stream": n % 2 == 0, "sandbox": script}
            for n in range(500)
        ]
        asking = asyncio.create_task(_ask_all(url, key.secret, bodies, at_once=60))
        await asyncio.to_thread(wait_until, lambda: len(_served(stack, marker)) > 150, seconds=60)
        await asyncio.to_thread(lambda: stack.kill(_busiest(stack, among="doomed-")))
        return await asking

    answers = asyncio.run(kill_amid_requests())
    stack.settle_down(seconds=30)
    stack.stop(next(name for name in stack.processes if name.startswith("doomed-")))

    served = {UUID(line["request_id"]) for line in _served(stack, marker)}
    rows = SpendEvent.objects.filter(key_digest=key.key.digest)
    by_request = Counter(rows.values_list("request_id", flat=True))
    without_row = [id for id in served if by_request[id] != 1]
    beyond = rows.exclude(request_id__in=served)
    orphans = rows.filter(kind=EventKind.ORPHAN)
    with capsys.disabled():
        sys.stdout.write(
            f"\nkill -9 amid 500 requests: {Counter(status for status, _ in answers)}, "
            f"{len(served)} served, {rows.count()} rows, {orphans.count()} orphaned, "
            f"{beyond.count()} of them not served\n"
        )
    assert without_row == []
    assert all(row.kind == EventKind.ORPHAN and "orphaned" in row.flags for row in beyond)
    assert orphans.exists()
    _verify(stack)


def _busiest(stack: Stack, *, among: str) -> str:
    """Return the process with the most requests in flight."""
    in_flight = stack.in_flight()
    connection.close()  # this runs in a thread that ends
    names = [name for name in stack.processes if name.startswith(among)]
    return max(names, key=lambda name: in_flight[name])


def _served(stack: Stack, marker: str) -> list[dict[str, Any]]:
    return [line for line in stack.served() if line["marker"] == marker]


def _verify(stack: Stack) -> None:
    result = command("verify-ledger", env=stack.env)
    assert result.returncode == 0, result.stderr
    assert "drift 0" in result.stdout
