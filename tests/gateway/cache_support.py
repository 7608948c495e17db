"""Doors with the response cache on, and waiting until it has kept an answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from budgets import storekeeper
from gateway.caching.scripts import TAG
from tests.gateway.support import HELLO, Answer, post
from tests.gateway.upstreams import Canned
from tests.stack import Stack, wait_until

USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
SERVED = Canned.json({"id": "kept", "choices": [], "usage": USAGE})
EXPIRY, SIZES = f"{TAG}expiry", f"{TAG}sizes"


@contextmanager
def caching(stack: Stack, name: str, **env: str) -> Iterator[str]:
    """Run a web process that answers from the cache."""
    url = stack.start_web(name, processes=1, RESPONSE_CACHE="on", **env)
    try:
        yield url
    finally:
        stack.stop(f"{name}-0")


def ask(url: str, secret: str, model: str, **fields: Any) -> Answer:
    return post(url, secret, {"model": model, "messages": HELLO, "max_tokens": 10} | fields)


def primed(url: str, secret: str, model: str, **fields: Any) -> Answer:
    """Ask for the first time; return the answer when it is kept."""
    before = kept()
    answer = ask(url, secret, model, **fields)
    assert answer.status == 200, answer
    wait_until(lambda: kept() > before, seconds=10)
    return answer


def kept() -> int:
    """Return how many answers there are that have not expired."""
    seconds, microseconds = storekeeper.store().time()
    now_ms = seconds * 1_000 + microseconds // 1_000
    return int(storekeeper.store().zcount(EXPIRY, f"({now_ms}", "+inf"))


def looked_up(answer: Answer) -> str:
    return answer.headers["x-costplatform-cache"]
