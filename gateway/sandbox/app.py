"""The sandbox as a bare ASGI application: who may ask what, and the life of one chat request."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Final

from gateway.sandbox import requests
from gateway.sandbox.connection import Connection, Receive, Scope, Send
from gateway.sandbox.delivery import deliver
from gateway.sandbox.errors import ClientGone, RequestRefused, scripted
from gateway.sandbox.journal import Journal
from gateway.sandbox.replies import compose, encode
from gateway.sandbox.requests import MODELS, Chat

BAD_KEY: Final = "sk-sandbox-bad"
MODELS_CREATED: Final = 1_767_225_600  # 2026-01-01, so that the list never changes

Handler = Callable[[Connection], Awaitable[None]]


class Sandbox:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/chat/completions": {"POST": self._chat},
            "/v1/models": {"GET": self._models},
            "/healthz": {"GET": self._health},
            "/sandbox/count": {"GET": self._count},
            "/sandbox/reset": {"POST": self._reset},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = Connection(scope, receive, send)
        try:
            await self._handler(connection)(connection)
        except RequestRefused as refusal:
            body = encode(refusal.body)
            await connection.answer(body, status=refusal.status, headers=refusal.headers)
        except ClientGone:
            return  # noted where it matters: in the journal, by ``_serve``
        except asyncio.CancelledError:
            # The server stops, and this task with it. Were the cancelling passed on, uvicorn
            # would answer with an error that no script asked for.
            await connection.reset()

    def _handler(self, connection: Connection) -> Handler:
        methods = self._routes.get(connection.path)
        if methods is None:
            problem = f"Invalid URL ({connection.method} {connection.path[:200]})"
            raise RequestRefused(problem, status=HTTPStatus.NOT_FOUND, code="unknown_url")
        if connection.method not in methods:
            problem = f"{connection.path} does not take {connection.method}."
            raise RequestRefused(problem, status=HTTPStatus.METHOD_NOT_ALLOWED)
        return methods[connection.method]

    async def _chat(self, connection: Connection) -> None:
        _check_key(connection)
        chat = requests.parse(await connection.body())
        if chat.script.status is None:
            await self._serve(chat, connection)
        else:
            await self._refuse(chat, connection, status=chat.script.status)

    async def _serve(self, chat: Chat, connection: Connection) -> None:
        reply_id = f"chatcmpl-{secrets.token_hex(14)}"
        entry = await self._journal.accept(
            reply_id=reply_id,
            request_id=connection.request_id,
            model=chat.model,
            stream=chat.stream,
            marker=chat.script.marker,
        )
        try:
            reply = compose(chat=chat, reply_id=reply_id, created=int(time.time()))
            await deliver(reply, connection=connection, entry=entry)
        except ClientGone:
            entry.end(cancelled=True)
        finally:
            # Also when the server is stopped, which is nobody's cancelling.
            entry.end()

    async def _refuse(self, chat: Chat, connection: Connection, *, status: int) -> None:
        script = chat.script
        await self._journal.refuse(
            request_id=connection.request_id, model=chat.model, status=status, marker=script.marker
        )
        await connection.pause(script.delay_ms / 1_000)
        raise scripted(status=status, retry_after=script.retry_after)

    async def _models(self, connection: Connection) -> None:
        _check_key(connection)
        common = {"object": "model", "created": MODELS_CREATED, "owned_by": "costplatform"}
        models = [{"id": name} | common for name in MODELS]
        await connection.answer(encode({"object": "list", "data": models}))

    async def _health(self, connection: Connection) -> None:
        await connection.answer(encode({"status": "ok"}))

    async def _count(self, connection: Connection) -> None:
        await connection.answer(encode(asdict(self._journal.counts)))

    async def _reset(self, connection: Connection) -> None:
        self._journal.reset()
        await self._count(connection)


def _check_key(connection: Connection) -> None:
    scheme, _, key = connection.header("authorization").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        problem = "No API key was provided: send one as 'Authorization: Bearer KEY'."
        raise RequestRefused(problem, status=HTTPStatus.UNAUTHORIZED)
    if key.strip() == BAD_KEY:
        raise RequestRefused(
            f"Incorrect API key provided: {BAD_KEY}.",
            status=HTTPStatus.UNAUTHORIZED,
            code="invalid_api_key",
        )
