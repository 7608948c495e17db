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
        upstream_model="gpt-4o", public_id="d", region="", serving=openai.PROVIDER
    )
    offer = SimpleNamespace(
        price=PRICE, ceiling=Decimal(10**6), body=Body(b"{}"), target=target, rate=exchange.SAME
    )
    admitted: Any = SimpleNamespace(
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
