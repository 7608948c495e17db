"""
Callers leave in the midst of streams: each is charged once, exactly where the upstream went on to
its end, else by what it had sent until it was cancelled.

Replies are English prose. The sandbox's models are counted as all whose tokenizer is not published,
and the truth is counted alike: what is measured is whether all that was sent is counted.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from spend.counting import prompt_tokens, tokens
from spend.models import SpendEvent
from tests.faults.conftest import Begin, Report
from tests.faults.load import HELLO, allow_files
from tests.faults.scenario import Scenario, Sizes
from tests.stack import wait_until
from tests.wire import Cut, Wire

MODEL: Final = "sandbox-chat"
PROSE: Final = Path(__file__).parents[2] / "docs" / "explanation"
WORDS: Final = 240
AT_ONCE: Final = 40
VANISHED_SECONDS: Final = 0.7
QUICK_MS, SLOW_MS = 2, 25
"""Between words: over within a second, or going on when a drain of 2 seconds ends."""
OFF_PERCENT_MAX: Final = 5
ON_ITS_WAY_TOKENS_MAX: Final = 6
"""Two words may be in the network when a connection is cut."""


Place = tuple[str, int]
"""A base URL, and how many milliseconds the upstream takes for a word there."""


@dataclass(frozen=True)
class Stream:
    """One request, and when and how its caller leaves."""

    url: str
    pace_ms: int
    words: list[str]
    way: Cut
    until_word: int

    def body(self, marker: str) -> dict[str, Any]:
        script = {"reply": self.words, "chunk_delay_ms": self.pace_ms, "marker": marker}
        return {"model": MODEL, "messages": HELLO, "stream": True, "sandbox": script}


@dataclass(frozen=True)
class Charged:
    """What the upstream says of a request, and what the ledger does."""

    stream: Stream
    end: dict[str, Any]
    row: SpendEvent

    def __str__(self) -> str:
        asked = f"{self.stream.url}, {self.stream.way} at word {self.stream.until_word}"
        return f"{asked}: {self.end}, {self.sent_tokens} tokens sent, {self.row.usage} charged"

    @property
    def is_exact(self) -> bool:
        told = self.end["usage"]
        return told is not None and (self.row.usage["input"], self.row.usage["output"]) == (
            told["prompt_tokens"],
            told["completion_tokens"],
        )

    @property
    def is_estimated(self) -> bool:
        return "estimated" in self.row.flags

    @property
    def sent_tokens(self) -> int:
        sent = "".join(self.stream.words)[: self.end["characters"]]
        return tokens.count_text(text=sent, model=MODEL).tokens

    @property
    def off_tokens(self) -> int:
        return abs(int(self.row.usage.get("output", 0)) - self.sent_tokens)

    @property
    def off_percent(self) -> float:
        return 100 * self.off_tokens / max(1, self.sent_tokens)


def test_streams_that_are_cut_are_charged_once_and_for_what_was_sent(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    count = sizes.pick(sample=90, full=1_000)
    run = begin(web=1)
    streams = _drawn(run, count)
    allow_files(2_000)

    asyncio.run(_cut_all(streams, run.key().secret))
    run.fleet.settle_down(seconds=60)
    wait_until(lambda: len(run.fleet.ended()) >= count, seconds=30)

    charged = _charged(run, streams)
    finished = [each for each in charged if each.end["completed"]]
    cancelled = [each for each in charged if each.end["cancelled"]]
    report(streams=count, rows=SpendEvent.objects.count(), **_figures(finished, cancelled))
    assert (len(charged), SpendEvent.objects.count()) == (count, count)
    assert len(finished) + len(cancelled) == count
    assert min(len(finished), len(cancelled)) > count / 5
    for each in finished:
        assert each.is_exact, str(each)
        assert not each.is_estimated
    for each in cancelled:
        _check_cancelled(each)


def _figures(finished: list[Charged], cancelled: list[Charged]) -> dict[str, object]:
    off = [each.off_percent for each in cancelled]
    return {
        "finished": len(finished),
        "exact": sum(each.is_exact for each in finished),
        "cancelled": len(cancelled),
        "estimated": sum(each.is_estimated for each in cancelled),
        "off by nothing": sum(each.off_tokens == 0 for each in cancelled),
        f"off by more than {OFF_PERCENT_MAX} %": sum(each > OFF_PERCENT_MAX for each in off),
        "off at most %": f"{max(off):.1f}",
        "off at most tokens": max(each.off_tokens for each in cancelled),
        "off on average %": f"{sum(off) / len(off):.2f}",
    }


def _check_cancelled(each: Charged) -> None:
    prompt = prompt_tokens.count_request(request={"messages": HELLO}, model=MODEL).tokens
    assert {"client_closed", "estimated"} <= set(each.row.flags)
    assert each.row.usage["input"] == prompt
    is_near = each.off_percent <= OFF_PERCENT_MAX or each.off_tokens <= ON_ITS_WAY_TOKENS_MAX
    assert is_near, str(each)


def _places(run: Scenario) -> list[Place]:
    """
    Return both doors, twice with a drain of 2 seconds and once with none. Where nothing is drained
    the upstream is as slow as models are, or what is on its way would be many words.
    """
    at_once = {"GATEWAY_ABORT_DRAIN_SECONDS": "0"}
    views = run.fleet.start_web("views", processes=1, GATEWAY_LANE="off")
    return [
        *((url, pace_ms) for url in (run.url, views) for pace_ms in (QUICK_MS, SLOW_MS)),
        (run.fleet.start_web("at-once", processes=1, **at_once), SLOW_MS),
        (
            run.fleet.start_web("views-at-once", processes=1, GATEWAY_LANE="off", **at_once),
            SLOW_MS,
        ),
    ]


def _drawn(run: Scenario, count: int) -> list[Stream]:
    places, words = _places(run), _prose()
    return [
        Stream(
            *places[number % len(places)],
            words=words[(at := run.dice.randrange(len(words) - WORDS)) : at + WORDS],
            way=run.dice.choice([*Cut]),
            until_word=run.dice.randrange(1, WORDS // 2),
        )
        for number in range(count)
    ]


def _prose() -> list[str]:
    text = " ".join(path.read_text() for path in sorted(PROSE.glob("*.md")))
    return [f" {word}" for word in re.findall(r"(?<= )[A-Za-z]+[.,;:]?(?= )", text)]


async def _cut_all(streams: list[Stream], secret: str) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def cut(number: int, stream: Stream) -> None:
        async with places:
            wire = await Wire.open(stream.url)
            await wire.ask(secret, stream.body(str(number)))
            async for _ in wire.pieces():
                if wire.heard.body.count(b"data: ") > stream.until_word:
                    break
            assert wire.heard.status == 200, wire.heard
            await wire.cut(stream.way, after_seconds=VANISHED_SECONDS)

    await asyncio.gather(*(cut(number, stream) for number, stream in enumerate(streams)))


def _charged(run: Scenario, streams: list[Stream]) -> list[Charged]:
    rows = {row.request_id: row for row in SpendEvent.objects.all()}
    ends = {UUID(line["request_id"]): line for line in run.fleet.ended()}
    return [
        Charged(streams[int(line["marker"])], ends[id], rows[id])
        for line in run.fleet.served()
        if (id := UUID(line["request_id"])) in rows
    ]
