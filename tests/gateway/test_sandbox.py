"""
The sandbox provider, as a process of its own, seen through OpenAI's SDK and through bare sockets.

Other tests take it for the truth, so these ask it what they would: does it say what it was told
to say, fail as it was told to fail, and count what it did?
"""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway.sandbox.journal import Journal
from tests.stack import wait_until
from tests.wire import Cut, Wire

pytestmark = pytest.mark.asyncio

REPOSITORY = Path(__file__).resolve().parents[2]
USAGE_FIELDS = {
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
}


@dataclass(frozen=True)
class Running:
    port: int
    log: Path
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lines(self, **wanted: object) -> list[dict[str, Any]]:
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line for line in lines if wanted.items() <= line.items()]

    async def line(self, **wanted: object) -> dict[str, Any]:
        """Wait for the one line that says so."""
        for _ in range(200):
            if found := self.lines(**wanted):
                assert len(found) == 1
                return found[0]
            await asyncio.sleep(0.02)
        raise AssertionError(f"no line with {wanted}")


@contextmanager
def running(log: Path) -> Iterator[Running]:
    """Run the sandbox as a process until the block ends."""
    command = [sys.executable, "-m", "gateway.sandbox", "--port", "0", "--log", str(log)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, port = process.stdout.readline().split()
            assert word == "LISTENING"
            yield Running(int(port), log, process.pid)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("sandbox") / "truth.jsonl") as process:
        yield process


@asynccontextmanager
async def sdk(sandbox: Running, key: str = "sk-any") -> AsyncIterator[openai.AsyncOpenAI]:
    base_url = f"{sandbox.url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        yield client


@asynccontextmanager
async def raw(sandbox: Running, **session: Any) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": "Bearer sk-any"}
    async with aiohttp.ClientSession(sandbox.url, headers=headers, **session) as client:
        yield client


def chat(text: str = "hello", *, model: str = "sandbox-chat", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def named(request_id: str) -> dict[str, str]:
    return {"X-Request-Id": request_id}


def post(
    client: aiohttp.ClientSession, request: dict[str, Any], request_id: str = "unnamed"
) -> Any:
    return client.post("/v1/chat/completions", json=request, headers=named(request_id))


async def events_of(response: aiohttp.ClientResponse) -> list[bytes]:
    """Return what follows ``data: `` in each event."""
    body = await response.read()
    assert body.endswith(b"\n\n")
    return [event.removeprefix(b"data: ") for event in body[:-2].split(b"\n\n")]


async def test_chat_reply_echoes_the_last_user_message_and_counts_tokens(sandbox: Running) -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "first"},
        {"role": "user", "content": [{"type": "text", "text": "marmalade " * 20}]},
    ]

    async with sdk(sandbox) as client:
        reply = await client.chat.completions.create(model="sandbox-chat", messages=messages)  # type: ignore[arg-type]

    text = reply.choices[0].message.content
    assert text is not None
    assert ("marmalade " * 20)[:80] in text
    assert "first" not in text
    assert reply.usage is not None
    assert set(reply.usage.model_dump()) >= USAGE_FIELDS
    assert reply.usage.prompt_tokens == -(-(len("be kind" + "first") + 200) // 4)
    assert reply.usage.completion_tokens == -(-len(text) // 4)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.choices[0].finish_reason == "stop"


async def test_the_same_question_gets_the_same_answer(sandbox: Running) -> None:
    async with sdk(sandbox) as client:
        replies = [await client.chat.completions.create(**chat("twice")) for _ in range(2)]

    assert replies[0].choices == replies[1].choices
    assert replies[0].usage == replies[1].usage
    assert replies[0].id != replies[1].id


async def test_stream_with_usage_ends_with_a_chunk_of_usage_and_no_choices(
    sandbox: Running,
) -> None:
    request = chat("in pieces", stream=True, stream_options={"include_usage": True})

    async with sdk(sandbox) as client:
        stream = await client.chat.completions.create(**request)
        *chunks, last = [chunk async for chunk in stream]
        whole = await client.chat.completions.create(**chat("in pieces"))

    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_stream_says_nothing_of_usage_unless_asked(sandbox: Running) -> None:
    async with raw(sandbox) as client, post(client, chat(stream=True)) as response:
        *chunks, done = await events_of(response)

    assert response.content_type == "text/event-stream"
    assert done == b"[DONE]"
    assert all("usage" not in json.loads(chunk) for chunk in chunks)


async def test_chunks_before_the_last_say_usage_null_when_it_is_asked_for(sandbox: Running) -> None:
    request = chat(stream=True, stream_options={"include_usage": True})

    async with raw(sandbox) as client, post(client, request) as response:
        *chunks, last = map(json.loads, (await events_of(response))[:-1])

    assert {repr(chunk["usage"]) for chunk in chunks} == {"None"}
    assert set(last["usage"]) == USAGE_FIELDS


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": -1, "cost": 10**40, "odd": [None, 0.1]}, {}, "plenty"]
)
async def test_scripted_usage_is_told_verbatim(sandbox: Running, usage: Any, stream: bool) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    options: dict[str, Any] = asked if stream else {}
    request_id = f"verbatim-{stream}-{usage}"[:60]

    async with raw(sandbox) as client:
        request = chat(sandbox={"usage": usage}, **options)
        async with post(client, request, request_id) as response:
            told = (await events_of(response))[-2] if stream else await response.read()

    assert json.loads(told)["usage"] == usage
    assert (await sandbox.line(event="end", request_id=request_id))["usage"] == usage


async def test_scripted_null_usage_is_left_out(sandbox: Running) -> None:
    script = {"usage": None}
    streamed = chat(stream=True, stream_options={"include_usage": True}, sandbox=script)

    async with raw(sandbox) as client, post(client, chat(sandbox=script), "no-usage") as response:
        whole = await response.json()
        async with post(client, streamed) as response:
            *chunks, _ = await events_of(response)

    assert "usage" not in whole
    assert all(json.loads(chunk)["choices"] for chunk in chunks)
    assert (await sandbox.line(event="end", request_id="no-usage"))["usage"] is None


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_the_default_reply_keeps_within_the_tokens_asked_for(
    sandbox: Running, limit: str
) -> None:
    async with sdk(sandbox) as client:
        asked: Any = chat() | {limit: 3}
        reply = await client.chat.completions.create(**asked)

    assert reply.choices[0].message.content == "You said: he"
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3


async def test_a_scripted_reply_ignores_the_tokens_asked_for(sandbox: Running) -> None:
    request = chat(max_tokens=1, sandbox={"reply": "twelve chars"})

    async with raw(sandbox) as client, post(client, request) as response:
        reply = await response.json()

    assert reply["choices"][0]["message"]["content"] == "twelve chars"
    assert reply["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_every_choice_asked_for_is_given_and_counted(sandbox: Running, stream: bool) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    options: dict[str, Any] = asked if stream else {}
    request = chat(n=3, sandbox={"reply": "abcdefgh"}, **options)

    async with raw(sandbox) as client, post(client, request, f"three-{stream}") as response:
        raws = (await events_of(response))[:-1] if stream else [await response.read()]

    bodies = [json.loads(each) for each in raws]
    assert {choice["index"] for body in bodies for choice in body["choices"]} == {0, 1, 2}
    assert bodies[-1]["usage"]["completion_tokens"] == 6
    end = await sandbox.line(event="end", request_id=f"three-{stream}")
    assert end["completion_tokens"] == 6


@pytest.mark.parametrize(
    ("script", "texts"),
    [
        ({"reply": ["one ", "two", "", "ß€😀"]}, ["one ", "two", "", "ß€😀"]),
        ({"reply": "abcdef", "chunks": 2}, ["abc", "def"]),
        ({"reply": "ab", "chunks": 3}, ["", "a", "b"]),
        ({"reply": ""}, []),
    ],
)
async def test_a_reply_is_streamed_in_the_scripted_pieces(
    sandbox: Running, script: dict[str, Any], texts: list[str]
) -> None:
    async with raw(sandbox) as client, post(client, chat(stream=True, sandbox=script)) as response:
        _, *chunks, _, _ = await events_of(response)

    assert [json.loads(chunk)["choices"][0]["delta"]["content"] for chunk in chunks] == texts


async def test_a_default_reply_is_long_enough_for_the_chunks_asked_for(sandbox: Running) -> None:
    request = chat(stream=True, sandbox={"chunks": 1_000})

    async with raw(sandbox) as client, post(client, request) as response:
        _, *chunks, _, _ = await events_of(response)

    assert len(chunks) == 1_000
    assert all(json.loads(chunk)["choices"][0]["delta"]["content"] for chunk in chunks)


async def test_tier_and_finish_reason_are_the_scripted_ones(sandbox: Running) -> None:
    script = {"service_tier": "priority", "finish_reason": "content_filter"}

    async with sdk(sandbox) as client:
        reply = await client.chat.completions.create(**chat(), extra_body={"sandbox": script})

    assert reply.service_tier == "priority"
    assert reply.choices[0].finish_reason == "content_filter"


async def test_delays_hold_back_the_headers_the_first_chunk_and_each_next(sandbox: Running) -> None:
    script = {"reply": ["a", "b"], "delay_ms": 200, "first_delay_ms": 150, "chunk_delay_ms": 100}
    began = time.monotonic()

    async with raw(sandbox) as client, post(client, chat(stream=True, sandbox=script)) as response:
        headers = time.monotonic() - began
        await response.content.readline()
        first = time.monotonic() - began
        await response.read()
        whole = time.monotonic() - began

    assert 0.19 < headers < first
    assert 0.34 < first < whole
    assert whole > 0.44


async def test_a_scripted_status_is_an_openai_error_and_no_accepted_request(
    sandbox: Running,
) -> None:
    script = {"status": 429, "retry_after": 7, "marker": "slow down"}

    async with sdk(sandbox) as client:
        with pytest.raises(openai.RateLimitError) as refusal:
            await client.chat.completions.create(
                **chat(), extra_body={"sandbox": script}, extra_headers=named("limited")
            )

    assert refusal.value.code == "rate_limit_exceeded"
    assert refusal.value.response.headers["retry-after"] == "7"
    line = await sandbox.line(request_id="limited")
    assert (line["event"], line["status"], line["marker"]) == ("refused", 429, "slow down")


@pytest.mark.parametrize("status", [500, 503])
async def test_a_scripted_server_error_has_its_shape(sandbox: Running, status: int) -> None:
    async with raw(sandbox) as client, post(client, chat(sandbox={"status": status})) as response:
        error = (await response.json())["error"]

    assert response.status == status
    assert error["type"] == "server_error"
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("stream", [False, True])
async def test_reset_before_headers_gives_the_client_nothing(
    sandbox: Running, stream: bool
) -> None:
    request = chat(stream=stream, sandbox={"fault": "reset_before_headers"})

    async with raw(sandbox) as client:
        with pytest.raises(aiohttp.ClientOSError):
            await post(client, request, f"reset-{stream}")

    end = await sandbox.line(event="end", request_id=f"reset-{stream}")
    assert (end["completed"], end["cancelled"], end["completion_tokens"]) == (False, False, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_reset_mid_stream_cuts_the_connection_after_a_part(
    sandbox: Running, stream: bool
) -> None:
    request = chat(stream=stream, sandbox={"fault": "reset_mid_stream", "reply": ["half", "rest"]})
    got = b""

    async with raw(sandbox) as client, post(client, request, f"mid-{stream}") as response:
        with pytest.raises(aiohttp.ClientError):  # noqa: PT012  (what came before it is kept)
            while True:
                got += await response.content.readany()

    assert (b"half" in got and b"rest" not in got) if stream else got
    end = await sandbox.line(event="end", request_id=f"mid-{stream}")
    assert (end["completed"], end["usage"]) == (False, None)
    assert end["completion_tokens"] == (1 if stream else 2)


async def test_a_truncated_stream_ends_in_order_but_without_done_and_usage(
    sandbox: Running,
) -> None:
    script = {"fault": "truncate", "reply": ["half", "rest"]}
    request = chat(stream=True, stream_options={"include_usage": True}, sandbox=script)

    async with raw(sandbox) as client, post(client, request, "truncated") as response:
        events = [json.loads(event) for event in await events_of(response)]

    assert [event["choices"][0]["delta"]["content"] for event in events] == ["", "half"]
    assert {event["usage"] for event in events} == {None}
    end = await sandbox.line(event="end", request_id="truncated")
    assert (end["completed"], end["cancelled"], end["completion_tokens"]) == (False, False, 1)


async def test_a_truncated_body_is_shorter_than_it_was_announced(sandbox: Running) -> None:
    request = chat(sandbox={"fault": "truncate"})

    async with raw(sandbox) as client, post(client, request, "cut-body") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    assert not (await sandbox.line(event="end", request_id="cut-body"))["completed"]


async def test_malformed_json_is_a_whole_body_that_cannot_be_read(sandbox: Running) -> None:
    async with (
        raw(sandbox) as client,
        post(client, chat(sandbox={"fault": "malformed_json"})) as response,
    ):
        body = await response.read()

    assert response.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_malformed_json_in_a_stream_is_one_bad_event_among_good_ones(
    sandbox: Running,
) -> None:
    script = {"fault": "malformed_json", "reply": ["a", "b", "c"]}
    request = chat(stream=True, stream_options={"include_usage": True}, sandbox=script)

    async with raw(sandbox) as client, post(client, request) as response:
        events = await events_of(response)

    assert [is_json(event) for event in events] == [True, True, False, True, True, True, False]
    assert json.loads(events[-2])["usage"]
    assert events[-1] == b"[DONE]"


async def test_garbage_in_a_stream_is_no_event_and_ends_it(sandbox: Running) -> None:
    request = chat(stream=True, sandbox={"fault": "garbage_sse", "reply": ["half", "rest"]})

    async with raw(sandbox) as client, post(client, request) as response:
        body = await response.read()

    *events, garbage = body.split(b"\n\n")
    assert len(events) == 2
    assert b"[DONE]" not in body
    with pytest.raises(UnicodeDecodeError):
        garbage.decode()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_answer_comes_unasked_on_the_same_connection(
    sandbox: Running, stream: bool
) -> None:
    wire = await Wire.open(sandbox.url)
    await wire.ask("sk-any", chat(stream=stream, sandbox={"fault": "answer_twice"}))

    async for _ in wire.pieces():
        assert wire.heard.status == 200
    await asyncio.to_thread(wait_until, lambda: wire.spare().endswith(b"}"), seconds=5)

    assert wire.heard.body.endswith(b"data: [DONE]\n\n" if stream else b"}")
    assert wire.spare().startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"You said: hello" in wire.spare()
    await wire.cut(Cut.RST)


async def test_the_log_tells_how_many_characters_a_client_was_sent(sandbox: Running) -> None:
    script = {"reply": ["one ", "two ", "three"], "fault": "truncate"}
    async with raw(sandbox) as client:
        await (await post(client, chat(stream=True, sandbox=script), "counted-1")).read()
        await (await post(client, chat(sandbox={"reply": "whole"}), "counted-2")).read()

    assert (await sandbox.line(event="end", request_id="counted-1"))["characters"] == len(
        "one two "
    )
    assert (await sandbox.line(event="end", request_id="counted-2"))["characters"] == len("whole")


async def test_a_hanging_request_is_on_the_disk_never_answered_and_cancelled_by_its_client(
    sandbox: Running,
) -> None:
    async with raw(sandbox, timeout=aiohttp.ClientTimeout(0.5)) as client:
        with pytest.raises(TimeoutError):
            await post(client, chat(sandbox={"fault": "hang", "marker": "m"}), "hanging")

    accepted = await sandbox.line(event="accepted", request_id="hanging")
    assert (accepted["model"], accepted["stream"], accepted["marker"]) == (
        "sandbox-chat",
        False,
        "m",
    )
    assert (await sandbox.line(event="end", request_id="hanging"))["cancelled"]


async def test_disconnect_in_a_stream_is_logged_as_cancelled_with_what_was_produced(
    sandbox: Running,
) -> None:
    script = {"reply": ["four"] * 100, "chunk_delay_ms": 50}

    async with sdk(sandbox) as client:
        stream = await client.chat.completions.create(
            **chat(stream=True),
            extra_body={"sandbox": script},
            extra_headers=named("left"),
        )
        got = [await anext(stream) for _ in range(4)]
        await stream.close()

    end = await sandbox.line(event="end", request_id="left")
    assert len(got) == 4
    assert (end["cancelled"], end["completed"], end["usage"]) == (True, False, None)
    assert 3 <= end["completion_tokens"] <= 10


async def test_disconnect_during_a_delay_is_logged_as_cancelled_with_nothing_produced(
    sandbox: Running,
) -> None:
    async with raw(sandbox, timeout=aiohttp.ClientTimeout(0.3)) as client:
        with pytest.raises(TimeoutError):
            await post(client, chat(sandbox={"delay_ms": 60_000}), "impatient")

    end = await sandbox.line(event="end", request_id="impatient")
    assert (end["cancelled"], end["completion_tokens"]) == (True, 0)


async def test_disconnect_stops_a_stream_that_has_no_delays(sandbox: Running) -> None:
    request = chat(stream=True, n=10, sandbox={"reply": ["x" * 100] * 10_000})

    async with raw(sandbox) as client:
        response = await post(client, request, "fast")
        await response.content.readline()
        response.close()

    end = await sandbox.line(event="end", request_id="fast")
    assert end["cancelled"]
    assert end["completion_tokens"] < 250_000


async def test_stopping_the_sandbox_ends_what_it_accepted_as_nobodys_cancelling(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "truth.jsonl") as stopped:
        async with raw(stopped) as client:
            request = asyncio.ensure_future(post(client, chat(sandbox={"fault": "hang"}), "cut"))
            await stopped.line(event="accepted", request_id="cut")
            os.kill(stopped.pid, signal.SIGTERM)
            with pytest.raises(aiohttp.ClientError):
                await request

    end = await stopped.line(event="end", request_id="cut")
    assert (end["completed"], end["cancelled"]) == (False, False)


async def test_200_parallel_requests_each_have_their_own_reply_and_one_pair_of_lines(
    sandbox: Running,
) -> None:
    async def ask(number: int) -> str:
        request = chat(f"marker-{number:03}", stream=number % 2 == 0)
        async with post(client, request, f"parallel-{number:03}") as response:
            return str(await response.text())

    connector = aiohttp.TCPConnector(limit=0)
    async with raw(sandbox, connector=connector) as client:
        bodies = await asyncio.gather(*map(ask, range(200)))

    for number, body in enumerate(bodies):
        text = body if number % 2 else streamed_text(body)
        assert f"marker-{number:03}" in text
        assert text.count("marker-") == 1
    names = {f"parallel-{number:03}" for number in range(200)}
    accepted, ended = (
        [line for line in sandbox.lines(event=event) if line["request_id"] in names]
        for event in ("accepted", "end")
    )
    assert len(accepted) == len(ended) == 200
    assert {line["request_id"] for line in accepted} == names
    assert {line["request_id"] for line in ended} == names
    assert all(line["completed"] for line in ended)


async def test_the_end_is_in_the_log_by_the_time_the_client_has_read_it(sandbox: Running) -> None:
    async with raw(sandbox) as client:
        for number in range(20):
            request = chat(stream=number % 2 == 0)
            async with post(client, request, f"prompt-{number}") as response:
                await response.read()
            assert len(sandbox.lines(request_id=f"prompt-{number}")) == 2


async def test_pipelined_requests_are_answered_in_their_order(sandbox: Running) -> None:
    def request(text: str, **script: object) -> bytes:
        body = json.dumps(chat(text, sandbox=script)).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer k\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    writer.write(request("slow-one", delay_ms=200) + request("quick-two"))
    first, second = [await read_response(reader) for _ in range(2)]
    writer.close()
    await writer.wait_closed()

    assert b"slow-one" in first
    assert b"quick-two" in second


async def test_a_reset_is_a_real_one(sandbox: Running) -> None:
    body = json.dumps(chat(sandbox={"fault": "reset_before_headers"}))
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer k\r\n"

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", sandbox.port)) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            return client.recv(1)

    with pytest.raises(ConnectionResetError):
        await asyncio.to_thread(ask)


@pytest.mark.parametrize(
    ("script", "param"),
    [
        ({"fualt": "hang"}, "sandbox.fualt"),
        ({"fault": "explode"}, "sandbox.fault"),
        ({"chunks": 10_001}, "sandbox.chunks"),
        ({"chunks": True}, "sandbox.chunks"),
        ({"delay_ms": 600_001}, "sandbox.delay_ms"),
        ({"chunk_delay_ms": -1}, "sandbox.chunk_delay_ms"),
        ({"status": 200}, "sandbox.status"),
        ({"retry_after": 1}, "sandbox.retry_after"),
        ({"status": 503, "retry_after": "a\r\nb: c"}, "sandbox.retry_after"),
        ({"status": 503, "fault": "hang"}, "sandbox.fault"),
        ({"reply": 5}, "sandbox.reply"),
        ({"reply": ["a"] * 10_001}, "sandbox.reply"),
        ({"reply": ["a"], "chunks": 1}, "sandbox.chunks"),
        ({"fault": "garbage_sse"}, "sandbox.fault"),
        ({"marker": "m" * 257}, "sandbox.marker"),
        (["hang"], "sandbox"),
    ],
)
async def test_unknown_and_unfit_script_fields_are_refused(
    sandbox: Running, script: object, param: str
) -> None:
    async with sdk(sandbox) as client:
        with pytest.raises(openai.BadRequestError) as refusal:
            await client.chat.completions.create(
                **chat(), extra_body={"sandbox": script}, extra_headers=named("unfit")
            )

    assert refusal.value.param == param
    assert sandbox.lines(request_id="unfit") == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"model":"sandbox-chat"}',
        b'{"messages":[{}]}',
        b'{"model":"sandbox-chat","messages":[]}',
        b'{"model":"sandbox-chat","messages":[{}],"n":0}',
        b'{"model":"sandbox-chat","messages":[{}],"n":129}',
        b'{"model":"sandbox-chat","messages":[{}],"stream":"yes"}',
        b'{"model":"sandbox-chat","messages":[{}],"max_tokens":1.5}',
        b'{"model":"sandbox-chat","messages":[{}],"stream_options":{}}',
        b'{"model":"sandbox-chat","messages":[{}],"temperature":NaN}',
        b'{"model":"sandbox-chat","messages":[{}],"temperature":1e999}',
        b"[" * 100_000,
    ],
)
async def test_what_is_no_chat_request_gets_an_openai_error(sandbox: Running, body: bytes) -> None:
    async with raw(sandbox) as client, client.post("/v1/chat/completions", data=body) as response:
        error = (await response.json())["error"]

    assert response.status == 400
    assert error["type"] == "invalid_request_error"


async def test_half_a_surrogate_pair_is_answered_all_the_same(sandbox: Running) -> None:
    body = json.dumps(chat("odd \ud83d one")).encode()

    async with raw(sandbox) as client, client.post("/v1/chat/completions", data=body) as response:
        reply = await response.json()

    assert "odd ? one" in reply["choices"][0]["message"]["content"]


async def test_an_unknown_model_is_not_found(sandbox: Running) -> None:
    async with sdk(sandbox) as client:
        with pytest.raises(openai.NotFoundError) as refusal:
            await client.chat.completions.create(**chat(model="gpt-4o"))

    assert refusal.value.code == "model_not_found"


async def test_the_bad_key_is_refused_and_any_other_is_taken(sandbox: Running) -> None:
    async with sdk(sandbox, key="sk-sandbox-bad") as client:
        with pytest.raises(openai.AuthenticationError) as refusal:
            await client.chat.completions.create(**chat())
    async with (
        aiohttp.ClientSession(sandbox.url) as client_without_key,
        client_without_key.post("/v1/chat/completions", json=chat()) as response,
    ):
        without_key = response.status
    async with sdk(sandbox, key="whatever") as client:
        models = [model.id async for model in client.models.list()]

    assert refusal.value.code == "invalid_api_key"
    assert without_key == 401
    assert models == ["sandbox-chat", "sandbox-request"]


async def test_a_body_beyond_16_mib_is_refused_also_when_its_length_is_not_told(
    sandbox: Running,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 2**20

    statuses = []
    async with raw(sandbox) as client:
        for body in (io.BytesIO(b" " * (2**24 + 1)), pieces()):
            async with client.post("/v1/chat/completions", data=body) as response:
                statuses.append(response.status)

    assert statuses == [413, 413]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405), ("GET", "/healthz", 200)],
)
async def test_other_paths_and_methods(
    sandbox: Running, method: str, path: str, status: int
) -> None:
    async with raw(sandbox) as client, client.request(method, path) as response:
        body = await response.json()

    assert response.status == status
    assert ("error" in body) is (status != 200)


async def test_counts_are_kept_and_can_be_reset(sandbox: Running) -> None:
    async with raw(sandbox, timeout=aiohttp.ClientTimeout(0.5)) as client:
        async with client.post("/sandbox/reset") as response:
            fresh = await response.json()
        await post(client, chat())
        await post(client, chat(sandbox={"status": 500}))
        with pytest.raises(TimeoutError):
            await post(client, chat(sandbox={"fault": "hang"}), "counted")
        await sandbox.line(event="end", request_id="counted")
        async with client.get("/sandbox/count") as response:
            counts = await response.json()

    assert fresh == {"accepted": 0, "completed": 0, "cancelled": 0}
    assert counts == {"accepted": 2, "completed": 1, "cancelled": 1}


async def test_a_request_is_accepted_only_once_the_disk_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "truth.jsonl"
    on_disk = []

    def fsync(_: int) -> None:
        time.sleep(0.05)
        on_disk.append(log.read_bytes().count(b"\n"))

    monkeypatch.setattr(os, "fsync", fsync)
    journal = Journal(log)

    async def accept(number: int) -> bool:
        await journal.accept(
            reply_id=str(number), request_id="", model="", stream=False, marker=None
        )
        return on_disk[-1] > number

    accepted = await asyncio.gather(*map(accept, range(200)))

    assert all(accepted)
    assert len(on_disk) <= 3, "requests that wait together share a flush"


async def test_a_request_is_not_answered_when_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fsync)
    journal = Journal(tmp_path / "truth.jsonl")

    with pytest.raises(OSError, match="no space"):
        await journal.accept(reply_id="1", request_id="", model="", stream=False, marker=None)

    assert journal.counts.accepted == 0


def is_json(event: bytes) -> bool:
    try:
        json.loads(event)
    except ValueError:
        return False
    return True


def streamed_text(body: str) -> str:
    return "".join(part.split('"')[0] for part in body.split('"content":"')[1:])


async def read_response(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)
