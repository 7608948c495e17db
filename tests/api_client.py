"""The management API as its clients use it, in process; and spend to be told by it."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.db import transaction
from rest_framework.test import APIClient

from budgets import storekeeper
from budgets.models import Organization, Partition, Reload
from budgets.money import Units
from budgets.periods import Period
from budgets.scripts import TAG
from budgets.storekeeper import PARTITION, Entry
from spend import events, ledger, recorder
from spend.components import Component
from spend.events import Described, Outcome

JSON: Final = "application/json"


@cache
def _client() -> APIClient:
    return APIClient(SERVER_NAME="127.0.0.1")


@dataclass(frozen=True)
class Reply:
    """An answer; numbers with a point are decimals, so that a lost digit shows."""

    status: int
    content: Any
    headers: Mapping[str, str]
    text: str

    @property
    def error(self) -> dict[str, Any]:
        """The error, which has the one shape that all errors have."""
        assert set(self.content) == {"error"}
        error: dict[str, Any] = self.content["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@dataclass(frozen=True)
class Api:
    """Sends what it is given, as the holder of ``key``; text goes as it is."""

    key: str = ""
    client: APIClient = field(default_factory=_client)

    def post(self, path: str, body: Any = None) -> Reply:
        content = body if isinstance(body, str | bytes) else json.dumps(body or {})
        response = self.client.post(
            path, data=content, content_type=JSON, headers=self._authorization()
        )
        return _reply(response)

    def patch(self, path: str, body: Any = None) -> Reply:
        content = body if isinstance(body, str | bytes) else json.dumps(body or {})
        response = self.client.patch(
            path, data=content, content_type=JSON, headers=self._authorization()
        )
        return _reply(response)

    def delete(self, path: str, query: Mapping[str, Any] | None = None) -> Reply:
        asked = urlencode(query or {}, doseq=True)
        return _reply(self.client.delete(f"{path}?{asked}", headers=self._authorization()))

    def get(
        self,
        path: str,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        sent = {**self._authorization(), **(headers or {})}
        return _reply(self.client.get(path, query or {}, headers=sent))

    def made(self, path: str, **body: Any) -> dict[str, Any]:
        """Send what must succeed; return the answer."""
        reply = self.post(path, body)
        assert reply.status == 200, reply.text
        content: dict[str, Any] = reply.content
        return content

    def told(self, path: str, **query: Any) -> Any:
        """Ask what must succeed; return the answer."""
        reply = self.get(path, query)
        assert reply.status == 200, reply.text
        return reply.content

    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


def master() -> Api:
    return Api(settings.MASTER_KEY)


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def spend(
    organization: Organization,
    accounts: Sequence[UUID],
    amount: str,
    *,
    at: datetime | None = None,
    flags: Sequence[str] = (),
    saved_units: int = 0,
    **described: Any,
) -> UUID:
    """Record a request that cost ``amount`` on these accounts, as the recorder would."""
    request_id = uuid.uuid4()
    at = at or datetime.now(UTC)
    known: dict[str, Any] = {
        "organization_id": organization.pk, "currency": organization.currency,
        "key_digest": "digest", "team": "", "user": "", "end_user": "", "tags": (),
        "route": "/v1/chat/completions", "model": "model", "provider": "provider",
        "upstream_model": "upstream", "deployment": "deployment", "price_reference": "price:1",
        "cost_currency": "USD", "streamed": False, "reserved_units": 0,
    }  # fmt: skip
    outcome = Outcome(
        status=200, cost=Decimal(amount), usage={Component.INPUT: 3}, flags=tuple(flags),
        saved_units=Units(saved_units),
    )  # fmt: skip
    entry = Entry(
        position="0-1",
        id=str(request_id),
        amount=Units(int(Decimal(amount) * 10**9)),
        admitted_at=at,
        path=tuple(accounts),
        kind="usage",
        payload=events.encode(Described(**known | described), outcome),
    )
    ledger.make_partitions([at.date()])
    with transaction.atomic():
        partition = Partition.objects.select_for_update().get(number=PARTITION)
        recorder.apply([entry], now=at, revision=partition.revision)
    return request_id


@contextmanager
def live_counter(account: UUID, period: Period, units: int) -> Iterator[None]:
    """Have the live store count ``units`` for an account, as if requests were not recorded yet."""
    # A recorder of another test would drop it when it comes to what a new budget has listed.
    Reload.objects.filter(account_id=account).delete()
    key, bounds = f"{TAG}c:{account.hex}", f"{period.start_ms}:{period.end_ms}"
    counted = {f"s:{bounds}": units, f"r:{bounds}": 0, f"e:{bounds}": 0}
    storekeeper.store().hset(key, mapping=counted)
    try:
        yield
    finally:
        storekeeper.store().delete(key)


def _reply(response: Any) -> Reply:
    text = response.content.decode()
    content = json.loads(text, parse_float=Decimal) if text else None
    return Reply(response.status_code, content, dict(response.headers), text)
