"""
Nobody is ever given a byte of an answer to somebody else, whoever breaks off, and when.

Each request has a marker of its own, which its answer repeats in every piece.
"""

import asyncio
import contextlib
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import pytest

from budgets.services.keys import Issued
from spend.models import SpendEvent
from tests.conftest import Cast
from tests.gateway.support import CHAT, chat
from tests.stack import Stack
from tests.wire import Closed, Cut, Heard, Wire

AT_ONCE: Final = 200
ROUNDS: Final = 60 if os.environ.get("FAULTS") == "full" else 8
SEED: Final = int(os.environ.get("FAULTS_SEED") or random.randrange(1, 1_000_000))
PIECES: Final = 12
MARKER: Final = re.compile(rb"mark-[0-9a-f]{16}")
PIECE: Final = re.compile(rb"(mark-[0-9a-f]{16}) (\d+) ")
REPLY_ID: Final = re.compile(rb"chatcmpl-[0-9a-f]+")
WAYS: Final = (None, None, None, None, None, *Cut)
FAULTS: Final[tuple[dict[str, object], ...]] = (
    *[{}] * 6, {"fault": "reset_before_headers"}, {"fault": "reset_mid_stream"},
    {"fault": "truncate"}, {"fault": "malformed_json"}, {"fault": "hang"}, {"status": 429},
    {"status": 503},
)  # fmt: skip
HURRIED: Final = {
    # Few connections, so that each carries the answers of many; and a hanging upstream ends soon.
    "GATEWAY_UPSTREAM_CONNECTIONS_MAX": "60",
    "GATEWAY_UPSTREAM_CONNECT_SECONDS": "60",
    "GATEWAY_UPSTREAM_IDLE_SECONDS": "1",
    "GATEWAY_ABORT_DRAIN_SECONDS": "1",
}


@dataclass(frozen=True)
class Question:
    marker: str
    body: dict[str, Any]

    @classmethod
    def drawn(cls, dice: random.Random) -> "Question":
        """One of the many ways in which a request can go well or not."""
        marker = f"mark-{dice.getrandbits(64):016x}"
        script = {
            "marker": marker,
            "reply": [f"{marker} {number} " for number in range(PIECES)],
            "delay_ms": dice.choice([0, 0, 20, 200]),
            "chunk_delay_ms": dice.choice([0, 0, 5, 30]),
            **dice.choice(FAULTS),
        }
        body = {"model": CHAT, "messages": [{"role": "user", "content": marker}]}
        return cls(marker, body | {"stream": dice.random() < 0.5, "sandbox": script})

    @property
    def is_plain(self) -> bool:
        return not {"fault", "status"} & set(self.body["sandbox"])


@dataclass
class Findings:
    """What the callers have seen; ``strays`` says what nobody should."""

    counts: Counter[str] = field(default_factory=Counter)
    markers: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    strays: list[str] = field(default_factory=list)

    def add(self, question: Question, heard: Heard, *, spare: bytes) -> None:
        name = "whole" if heard.is_whole else "cut"
        self.counts[f"{heard.status} {name}" if heard.status else "none"] += 1
        self.markers.add(question.marker)
        self._check_text(question, heard)
        self._check_ids(question, heard)
        if spare:
            self._strayed(question, f"{spare[:200]!r} after its answer")

    def _check_text(self, question: Question, heard: Heard) -> None:
        told = PIECE.findall(heard.body)
        if foreign := {marker for marker, _ in told} - {question.marker.encode()}:
            self._strayed(question, f"{foreign}")
        numbers = [int(number) for _, number in told]
        if numbers != sorted(set(numbers)):
            self._strayed(question, f"its own pieces as {numbers}")
        # A slow machine has upstreams time out; who was not told all must have been told so.
        is_all = numbers == [*range(PIECES)] or b'{"error":' in heard.body
        if heard.is_whole and question.is_plain and not is_all:
            self._strayed(question, f"{heard.status}, and of its own only {numbers}")

    def _check_ids(self, question: Question, heard: Heard) -> None:
        """The sandbox sends a request's id back, and has one of its own for each answer."""
        ids = {id.decode() for id in REPLY_ID.findall(heard.body)}
        if heard.status:
            request_id = heard.headers["x-request-id"]
            ids.add(request_id)
            echoed = heard.headers.get("llm_provider-x-request-id", request_id)
            if echoed != request_id:
                self._strayed(question, f"the answer to {echoed}, being {request_id}")
        if len(ids) > 2 or ids & self.ids:
            self._strayed(question, f"parts of {ids}")
        self.ids |= ids

    def _strayed(self, question: Question, what: str) -> None:
        self.strays.append(f"{question.marker} was told {what}")


@pytest.mark.slow
@pytest.mark.parametrize("lane", ["on", "off"])
def test_no_byte_of_an_answer_reaches_another_caller(
    lane: str, stack: Stack, cast: Cast, capsys: pytest.CaptureFixture[str]
) -> None:
    key, findings, began = cast.key(), Findings(), time.monotonic()

    with _hurried(stack, GATEWAY_LANE=lane) as url:
        asyncio.run(_ask_all(url, key.secret, findings, seed=f"{SEED} {lane}"))
        stack.settle_down(seconds=60)

    with capsys.disabled():
        sys.stdout.write(
            f"\nlane {lane}: {findings.counts.total()} requests over {AT_ONCE} connections, "
            f"{dict(findings.counts)}, {len(findings.strays)} strayed "
            f"(seed {SEED}, {time.monotonic() - began:.0f} s)\n"
        )
    assert findings.strays == []
    assert findings.counts["200 whole"] > AT_ONCE
    assert findings.counts["200 cut"] > AT_ONCE / 10
    assert _without_one_row(stack, key, findings.markers) == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_nobody_asked_for_is_given_to_nobody(
    stream: bool, stack: Stack, cast: Cast
) -> None:
    secret = cast.key().secret

    with _hurried(stack, processes=1) as url:
        for number in range(5):
            marker = f"mark-{number:016x}"
            script = {"reply": [marker], "fault": "answer_twice"}
            answer = chat(url, secret, stream=stream, sandbox=script)
            # By now the second answer waits on a connection that the next request might take.
            time.sleep(0.2)

            assert (answer.status, MARKER.findall(answer.body)) == (200, [marker.encode()])


@contextmanager
def _hurried(stack: Stack, *, processes: int = 2, **env: str) -> Iterator[str]:
    url = stack.start_web("hurried", processes=processes, **HURRIED | env)
    try:
        yield url
    finally:
        for name in [name for name in stack.processes if name.startswith("hurried-")]:
            stack.stop(name)


async def _ask_all(url: str, secret: str, findings: Findings, *, seed: str) -> None:
    callers = (
        _ask_on(url, secret, random.Random(f"{seed} {number}"), findings)
        for number in range(AT_ONCE)
    )
    await asyncio.gather(*callers)


async def _ask_on(url: str, secret: str, dice: random.Random, findings: Findings) -> None:
    """Ask again and again, on the same connection as long as it lasts."""
    wire = await Wire.open(url)
    for _ in range(ROUNDS):
        question = Question.drawn(dice)
        way = dice.choice(WAYS)
        with contextlib.suppress(Closed, TimeoutError):
            await wire.ask(secret, question.body)
            await _listen(wire, dice, way)
        spare = wire.spare() if wire.heard.is_whole else b""
        findings.add(question, wire.heard, spare=spare)
        if not wire.heard.is_whole:
            await wire.cut(way or Cut.RST, after_seconds=0.3)
            wire = await Wire.open(url)
    await wire.cut(Cut.RST)


async def _listen(wire: Wire, dice: random.Random, way: Cut | None) -> None:
    """Read the answer: whole, or until some byte of it, or until some moment."""
    seconds = dice.choice([0.02, 0.1, 0.3, 60.0]) if way else 60.0
    left = dice.randrange(4_000) if way else sys.maxsize
    async with asyncio.timeout(seconds):
        async for piece in wire.pieces():
            left -= len(piece)
            if left < 0:
                return


def _without_one_row(stack: Stack, key: Issued, markers: set[str]) -> list[dict[str, Any]]:
    """Return the sandbox's lines of requests that it served and the ledger has not once."""
    served = [line for line in stack.served() if line["marker"] in markers]
    rows = SpendEvent.objects.filter(key_digest=key.key.digest)
    counted = Counter(rows.values_list("request_id", flat=True))
    return [line for line in served if counted[UUID(line["request_id"])] != 1]
