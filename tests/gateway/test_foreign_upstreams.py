"""
Upstreams that nobody here has written, with their faults on: whatever they do, callers are told
something sensible, and what was answered is in the ledger.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from gateway import sse
from gateway.services import create_deployment
from spend.events import input_tokens, output_tokens
from spend.models import SpendEvent
from tests.conftest import Cast
from tests.gateway import foreign
from tests.gateway.support import HELLO, Answer, post
from tests.stack import Stack

pytestmark = pytest.mark.slow

REQUESTS: Final = 160
AT_ONCE: Final = 16
MODEL: Final = "foreign"
OUR_FAULT: Final = b"Something broke on our side"
TOLD: Final = {200, 429, 500, 502, 503, 504}
IMPATIENT: Final = {
    "GATEWAY_ALLOW_PRIVATE_UPSTREAMS": "127.0.0.1/32",
    "GATEWAY_UPSTREAM_IDLE_SECONDS": "1",
}


@dataclass(frozen=True)
class Asked:
    is_stream: bool
    answer: Answer

    @property
    def request_id(self) -> UUID:
        return UUID(self.answer.headers["x-request-id"])

    @property
    def has_content(self) -> bool:
        part = "delta" if self.is_stream else "message"
        return any(
            (choice.get(part) or {}).get("content")
            for reply in self._replies()
            for choice in reply.get("choices") or ()
        )

    @property
    def has_usage(self) -> bool:
        """Whether it came to its end, usage and all; a stream hides the usage, and tells DONE."""
        if self.is_stream:
            return b"data: [DONE]" in self.answer.body
        return any(reply.get("usage") for reply in self._replies())

    def _replies(self) -> Iterator[dict[str, Any]]:
        splitter = sse.EventSplitter()
        events = [*splitter.feed(self.answer.body), splitter.rest()] if self.is_stream else []
        for data in [sse.data_of(event) for event in events] or [self.answer.body]:
            try:
                reply = json.loads(data)
            except ValueError:
                continue
            if isinstance(reply, dict):
                yield reply


@pytest.fixture(params=["llmock", "aimock"])
def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    port = foreign.free_port()
    is_ours = request.param == "llmock"
    command = foreign.llmock_command(port) if is_ours else foreign.aimock_command(port, tmp_path)
    with foreign.running(command, port=port, log=tmp_path / "upstream.log") as url:
        yield url


@pytest.fixture
def gateway(stack: Stack) -> Iterator[str]:
    """A web process that may ask upstreams on any port of this host, and does not wait long."""
    url = stack.start_web("foreign", processes=1, **IMPATIENT)
    yield url
    stack.stop("foreign-0")


def test_whatever_a_foreign_upstream_does_is_told_and_metered(
    upstream: str, gateway: str, stack: Stack, cast: Cast, request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    _deploy(cast, upstream)

    asked = _ask_all(gateway, cast.key().secret)
    stack.settle_down(seconds=60)

    rows = _rows(asked)
    statuses = Counter((each.is_stream, each.answer.status) for each in asked)
    flags = Counter(flag for row in rows.values() for flag in row.flags)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{request.node.callspec.id}: (streamed, status) {dict(statuses)}, "
            f"{sum(each.has_content for each in asked)} with content, flags {dict(flags)}\n"
        )
    assert {each.answer.status for each in asked} <= TOLD
    assert not any(OUR_FAULT in each.answer.body for each in asked)
    assert min(statuses[True, 200], statuses[False, 200]) > 0
    assert statuses[False, 429] + statuses[True, 429] > 0
    assert flags["upstream_error"] > 0
    assert rows.keys() == {each.request_id for each in asked}
    for each in asked:
        _check(each, rows[each.request_id])


def _check(asked: Asked, row: SpendEvent) -> None:
    told = asked.answer
    if told.status == 429:
        assert told.headers["retry-after"]
    if not asked.has_content:
        assert row.cost == 0 or {"estimated", "upstream_error"} & set(row.flags), (told, row.flags)
        return
    assert input_tokens(row.usage) > 0, (told, row.flags)
    assert output_tokens(row.usage) > 0, (told, row.flags)
    assert row.cost > 0
    assert asked.has_usage is ("estimated" not in row.flags), (told, row.flags)


def _deploy(cast: Cast, url: str) -> None:
    values = {
        "public_id": f"{MODEL}-{cast.organization.public_id}", "organization": cast.organization,
        "model_name": MODEL, "provider": "openai", "upstream_model": "gpt-4o", "api_base": url,
        "price_override": {"input_cost_per_token": "0.000001", "output_cost_per_token": "0.000002"},
    }  # fmt: skip
    create_deployment(values=values, api_key="sk-any")


def _ask_all(url: str, secret: str) -> list[Asked]:
    def ask(number: int) -> Asked:
        is_stream = number % 2 == 0
        return Asked(
            is_stream, post(url, secret, {"model": MODEL, "messages": HELLO, "stream": is_stream})
        )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, range(REQUESTS)))


def _rows(asked: list[Asked]) -> dict[UUID, SpendEvent]:
    """Return the ledger's rows, of which each request has one at most."""
    ids = [each.request_id for each in asked]
    rows = list(SpendEvent.objects.filter(request_id__in=ids))
    found = {row.request_id: row for row in rows}
    assert len(found) == len(rows)
    return found
