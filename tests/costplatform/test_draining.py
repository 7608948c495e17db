"""A web process that is told to stop first says that it is not ready, and serves on meanwhile."""

import signal
import threading
from collections.abc import Callable

import pytest

from tests.conftest import Cast
from tests.gateway.support import chat
from tests.stack import Stack, is_ready, wait_until

pytestmark = pytest.mark.slow


def test_a_process_told_to_stop_is_not_ready_serves_on_and_then_ends(
    stack: Stack, cast: Cast
) -> None:
    key = cast.key("1")
    url = stack.start_web("draining", processes=1, DRAIN_SECONDS="4")
    process = stack.processes["draining-0"]

    process.send_signal(signal.SIGTERM)
    wait_until(lambda: not is_ready(url), seconds=3)
    during = chat(url, key.secret)
    process.wait(timeout=30)

    assert during.status == 200
    assert process.returncode == 0
    del stack.processes["draining-0"]


def test_a_stream_that_runs_when_its_process_is_told_to_stop_comes_to_its_end(
    stack: Stack, cast: Cast
) -> None:
    key = cast.key("1")
    url = stack.start_web("ending", processes=1)
    process = stack.processes["ending-0"]
    script = {"chunks": 20, "chunk_delay_ms": 100}

    answer = _streaming(url, key.secret, script, after=0.5, act=lambda: process.terminate())
    process.wait(timeout=30)

    assert answer.endswith("data: [DONE]\n\n")
    assert process.returncode == -signal.SIGTERM  # passed on once all has ended in order
    del stack.processes["ending-0"]


def _streaming(
    url: str, secret: str, script: dict[str, int], *, after: float, act: Callable[[], None]
) -> str:
    """Ask for a stream and do something while it runs; return all of it."""
    timer = threading.Timer(after, act)
    timer.start()
    try:
        answer = chat(url, secret, stream=True, sandbox=script)
    finally:
        timer.join()
    return answer.body.decode()
