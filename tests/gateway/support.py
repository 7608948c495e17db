"""Clients and waiting, as several gateway tests need them."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import openai

from spend.models import SpendEvent
from tests.stack import wait_until

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CHAT, PER_REQUEST = "sandbox-chat", "sandbox-request"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:500]!r}"

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.json["error"])


def client(url: str, secret: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=secret)


def post(
    url: str, secret: str, body: object, *, path: str = "/v1/chat/completions", **headers: str
) -> Answer:
    """Send one request, once; ``body`` is JSON or the bytes themselves."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"authorization": f"Bearer {secret}", "content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return _answer(urllib.request.Request(url + path, data=data, headers=sent))


def get(url: str, secret: str, path: str) -> Answer:
    headers = {"authorization": f"Bearer {secret}"}
    return _answer(urllib.request.Request(url + path, headers=headers))


def delete(url: str, secret: str, path: str) -> Answer:
    headers = {"authorization": f"Bearer {secret}"}
    return _answer(urllib.request.Request(url + path, headers=headers, method="DELETE"))


def chat(url: str, secret: str, **fields: object) -> Answer:
    return post(url, secret, {"model": CHAT, "messages": HELLO} | fields)


def recorded(request_id: str) -> SpendEvent:
    """Return the ledger's row of a request as soon as it is there."""
    rows = SpendEvent.objects.filter(id=UUID(request_id))
    wait_until(rows.exists, seconds=15)
    return rows.get()


def _answer(request: urllib.request.Request) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return Answer(reply.status, _lower(reply.headers), reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _lower(error.headers), error.read())


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
