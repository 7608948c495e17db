import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.applicants import Applicant
from gateway.attempt import Attempt
from gateway.providers import openai
from gateway.routes import CHAT
from gateway.routes.asked import Asked, Body
from gateway.routing.health import Health
from gateway.routing.strategies import Why
from spend.components import Component
from spend.currencies import exchange
from spend.rates import Price, Rate

pytestmark = pytest.mark.no_servers

PRICE = Price("USD", (Rate(Component.INPUT, Decimal(1)), Rate(Component.OUTPUT, Decimal(1))), "p")


class Store:
    def __init__(self) -> None:
        self.settled: list[Any] = []
        self.has_settled = asyncio.Event()

    async def settle(self, event: Any) -> None:
        self.settled.append(event)
        self.has_settled.set()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def attempt(store: Store) -> Attempt:
    target = SimpleNamespace(
        upstream_model="gpt-4o",
        public_id="d",
        region="",
        serving=openai.PROVIDER,
        api_base="http://upstream.example/v1",
        sealed_secret=None,
        cancels=True,
    )
    offer = SimpleNamespace(
        price=PRICE, ceiling=Decimal(10**6), body=Body(b"{}"), target=target, rate=exchange.SAME
    )
    admitted: Any = SimpleNamespace(
        id="r",
        offer=offer,
        unasked=False,
        event=lambda outcome: outcome,
        trial=Health().open(0),
        why=Why.WEIGHTED,
    )
    process: Any = SimpleNamespace(store=store, spawn=asyncio.create_task)
    asked = Asked({"messages": [{"role": "user", "content": "Hi"}]}, "m")
    applicant = Applicant(asked, CHAT, secret="", request_id="")
    return Attempt(applicant=applicant, admitted=admitted, process=process)


async def test_what_is_being_counted_is_settled_though_its_client_goes_away(
    attempt: Attempt, store: Store
) -> None:
    attempt.meter.read_event(b'{"choices": [{"delta": {"content": "Hello, world!"}}]}')
    settling = asyncio.create_task(attempt.settle_metered())
    await asyncio.sleep(0)

    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
    async with asyncio.timeout(10):
        await store.has_settled.wait()

    (outcome,) = store.settled
    assert outcome.flags == ("estimated",)
    assert outcome.usage[Component.INPUT] == 8
    assert outcome.usage[Component.OUTPUT] == 4


async def test_what_the_answer_told_is_settled_without_counting(
    attempt: Attempt, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(attempt.meter), "count", None)
    attempt.meter.read_reply(b'{"usage": {"prompt_tokens": 5, "completion_tokens": 6}}')

    outcome = await attempt.settle_metered()

    assert (outcome.cost, outcome.flags) == (Decimal(11), ())
    assert store.settled == [outcome]


async def test_an_error_whose_client_does_not_wait_for_its_end_is_settled(
    attempt: Attempt, store: Store
) -> None:
    reading = asyncio.Event()

    async def never(**_: object) -> bytes:
        reading.set()
        await asyncio.Event().wait()
        return b""

    async def post(*_: object, **__: object) -> Any:
        return SimpleNamespace(status=503, headers={}, read=never, close=lambda: None)

    attempt._process.upstream = SimpleNamespace(post=post)  # type: ignore[assignment]
    asking = asyncio.create_task(attempt.run())
    async with asyncio.timeout(10):
        await reading.wait()
        asking.cancel()
        await store.has_settled.wait()

    (outcome,) = store.settled
    assert (outcome.cost, outcome.status) == (Decimal(0), 503)
    assert outcome.flags == ("upstream_error",)
