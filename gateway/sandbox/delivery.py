"""Brings a reply to its client as the script says, and notes what was produced."""

from gateway.sandbox.connection import Connection, json_headers
from gateway.sandbox.faults import ENDS_EARLY, broken_json, stream_steps
from gateway.sandbox.journal import Entry
from gateway.sandbox.replies import DONE, Reply, completion, encode
from gateway.sandbox.script import Fault

HANG_SECONDS_MAX = 3_600


async def deliver(reply: Reply, *, connection: Connection, entry: Entry) -> None:
    """
    Send the reply, or fail as scripted; the entry ends before the client can see the end.

    :raises ClientGone: as soon as the client leaves
    """
    script = reply.chat.script
    await connection.pause(script.delay_ms / 1_000)
    if script.fault is Fault.HANG:
        await connection.pause(HANG_SECONDS_MAX)
    if script.fault in {Fault.HANG, Fault.RESET_BEFORE_HEADERS}:
        entry.end()
        await connection.reset()
    elif reply.chat.stream:
        await _stream(reply, connection=connection, entry=entry)
    else:
        await _whole(reply, connection=connection, entry=entry)
    if script.fault is Fault.ANSWER_TWICE:
        await connection.answer_unasked(encode(completion(reply)))


async def _stream(reply: Reply, *, connection: Connection, entry: Entry) -> None:
    fault = reply.chat.script.fault
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    await connection.start(200, headers)
    for step in stream_steps(reply):
        await connection.pause(step.delay_ms / 1_000)
        await connection.write(step.data)
        entry.completion_tokens = step.completion_tokens
        entry.characters = step.characters
        entry.usage = step.usage
    entry.end(completed=fault not in ENDS_EARLY)
    if fault is Fault.RESET_MID_STREAM:
        await connection.reset()
    else:
        await connection.finish(b"" if fault in ENDS_EARLY else DONE)


async def _whole(reply: Reply, *, connection: Connection, entry: Entry) -> None:
    fault = reply.chat.script.fault
    body = encode(completion(reply))
    entry.completion_tokens = reply.completion_tokens
    entry.characters = sum(map(len, reply.parts))
    entry.usage = reply.usage if fault in {None, Fault.ANSWER_TWICE} else None
    if fault in ENDS_EARLY:
        entry.end()
        await connection.start(200, json_headers(len(body)))
        await connection.write(body[: len(body) // 2])
        await (connection.reset() if fault is Fault.RESET_MID_STREAM else connection.close())
        return
    entry.end(completed=True)
    await connection.answer(broken_json(body) if fault is Fault.MALFORMED_JSON else body)
