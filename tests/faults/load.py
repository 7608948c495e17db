"""
Asks a gateway many things at once, from a process of its own; whoever starts it may break things
meanwhile. ``python -m tests.faults.load PLAN`` reads a plan and prints what came back.
"""

import asyncio
import json
import re
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import aiohttp

from tests.launch import start_bound

HELLO: Final = [{"role": "user", "content": "hello"}]
SPARE_FILES: Final = 500
NO_ANSWER: Final = 0
CUT_OFF: Final = -1
"""A status was answered, but not the whole body."""


@dataclass(frozen=True)
class Ask:
    """One request: with which key, for what."""

    secret: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """
    ``at_once`` requests are under way at any time. With ``barrier`` all connections are opened
    first, then all requests are sent at the same instant. ``sdk`` asks with OpenAI's own client.
    After each answer a place stays empty for ``pace_ms``, so that refusals are no stampede.
    """

    url: str
    asks: Sequence[Ask]
    at_once: int
    keep_alive: bool = False
    barrier: bool = False
    sdk: bool = False
    pace_ms: int = 0
    seconds_max: float = 120.0


@dataclass(frozen=True)
class Reply:
    status: int
    code: str
    request_id: str
    problem: str = ""


@dataclass(frozen=True)
class Answers:
    """What came back, in the order in which it did."""

    replies: list[Reply] = field(default_factory=list)

    @property
    def statuses(self) -> "Counter[int]":
        return Counter(reply.status for reply in self.replies)

    @property
    def codes(self) -> "Counter[str]":
        return Counter(reply.code for reply in self.replies if reply.code)

    @property
    def problems(self) -> "Counter[str]":
        return Counter(reply.problem for reply in self.replies if reply.problem)


def chat(model: str, *, marker: str, stream: bool = False, **script: object) -> dict[str, Any]:
    """Return the body of a request, with what the sandbox shall do about it."""
    told = {"model": model, "messages": HELLO, "sandbox": {"marker": marker, **script}}
    return told | {"stream": True} if stream else told


class Load:
    """``with Load(plan) as load``: it runs at once; :meth:`answers` waits for its end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 – closed on the way out
        self._told = tempfile.NamedTemporaryFile()  # noqa: SIM115 – likewise

    def __enter__(self) -> "Load":
        allow_files(len(self._plan.asks) + SPARE_FILES)
        self._told.write(json.dumps(asdict(self._plan)).encode())
        self._told.flush()
        argv = [sys.executable, "-m", "tests.faults.load", self._told.name]
        self._process = start_bound(argv, env=None, out=self._out)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._process.kill()
        self._process.wait()
        self._told.close()
        self._out.close()

    def stop(self) -> None:
        """Send nothing more; what is under way is waited for."""
        self._process.send_signal(signal.SIGTERM)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def answers(self) -> Answers:
        self._process.wait(self._plan.seconds_max + 60)
        self._out.seek(0)
        said = self._out.read().decode(errors="replace")
        assert self._process.returncode == 0, said[-4_000:]
        return Answers([Reply(**reply) for reply in json.loads(said.splitlines()[-1])])


def allow_files(count: int) -> None:
    """Let this process, and those it starts, open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


Asking = Callable[[Ask], Awaitable[Reply]]


async def run(plan: Plan) -> list[Reply]:
    """Return the replies to what was asked before SIGTERM came."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with _by_sdk(plan) if plan.sdk else _by_http(plan) as ask:
        left = iter(plan.asks)
        replies: list[Reply] = []

        async def occupy_a_place() -> None:
            for each in left:
                if stopped.is_set():
                    return
                replies.append(await ask(each))
                await asyncio.sleep(plan.pace_ms / 1_000)

        await asyncio.gather(*(occupy_a_place() for _ in range(plan.at_once)))
        return replies


@asynccontextmanager
async def _by_http(plan: Plan) -> AsyncIterator[Asking]:
    connector = aiohttp.TCPConnector(limit=0, force_close=not plan.keep_alive)
    timeout = aiohttp.ClientTimeout(total=plan.seconds_max)
    traces = [_meeting(len(plan.asks))] if plan.barrier else []
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, trace_configs=traces
    ) as session:
        yield partial(_ask, session, f"{plan.url}/v1/chat/completions")


def _meeting(count: int) -> aiohttp.TraceConfig:
    """Hold every new connection back until all are there."""
    barrier = asyncio.Barrier(count)

    async def wait(*_: object) -> None:
        with suppress(asyncio.BrokenBarrierError, TimeoutError):
            async with asyncio.timeout(30):
                await barrier.wait()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(wait)
    return trace


async def _ask(session: aiohttp.ClientSession, url: str, ask: Ask) -> Reply:
    headers = {"authorization": f"Bearer {ask.secret}"}
    status, request_id = NO_ANSWER, ""
    try:
        async with session.post(url, json=ask.body, headers=headers) as reply:
            status = reply.status
            request_id = reply.headers.get("x-request-id", "")
            text = await reply.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Reply(CUT_OFF if status else NO_ANSWER, "", request_id, type(error).__name__)
    if status == 200 and ask.body.get("stream") and "[DONE]" not in text:
        return Reply(CUT_OFF, _code(text), request_id, "stream without its end")
    return Reply(status, _code(text) if status != 200 else "", request_id)


def _code(text: str) -> str:
    found = re.search(r'"code": ?"(\w+)"', text)
    return found[1] if found else ""


@asynccontextmanager
async def _by_sdk(plan: Plan) -> AsyncIterator[Asking]:
    import openai

    clients = {
        secret: openai.AsyncOpenAI(base_url=f"{plan.url}/v1", api_key=secret)
        for secret in {ask.secret for ask in plan.asks}
    }

    async def ask(each: Ask) -> Reply:
        try:
            return await _ask_by_sdk(clients[each.secret], each)
        except openai.APIStatusError as error:
            return Reply(error.status_code, str(error.code or ""), error.request_id or "")
        except openai.OpenAIError as error:
            return Reply(NO_ANSWER, "", "", type(error).__name__)

    yield ask


async def _ask_by_sdk(client: Any, ask: Ask) -> Reply:
    fields = {name: value for name, value in ask.body.items() if name != "sandbox"}
    told = {"sandbox": ask.body.get("sandbox", {})}
    reply = await client.chat.completions.create(**fields, extra_body=told)
    if not fields.get("stream"):
        return Reply(200, "", reply._request_id or "")
    finish = [chunk.choices[0].finish_reason async for chunk in reply if chunk.choices]
    if not any(finish):
        return Reply(CUT_OFF, "", "", "stream without its end")
    return Reply(200, "", reply.response.headers.get("x-request-id", ""))


def main() -> None:
    allow_files(1_000_000)
    told = json.loads(Path(sys.argv[1]).read_text())
    plan = Plan(**told | {"asks": [Ask(**ask) for ask in told["asks"]]})
    replies = asyncio.run(run(plan))
    sys.stdout.write("\n" + json.dumps([asdict(reply) for reply in replies]) + "\n")


if __name__ == "__main__":
    main()
