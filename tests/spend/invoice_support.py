"""What the tests of invoices share: a provider of their own, spend there, and files that fit it."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest
from django.db import transaction

from spend.models import InvoiceImport, Provider
from spend.reconciling import invoicing
from spend.signals import invoice_drifted
from tests import api_client
from tests.conftest import Cast

FIRST: Final = date(2026, 3, 1)
HEAD: Final = (
    "day,provider,model,key,currency,amount,input_tokens,output_tokens,requests,external_id"
)
NOW: Final = datetime(2026, 4, 1, 12, tzinfo=UTC)


def day_of(n: int) -> date:
    return FIRST + timedelta(days=n)


@dataclass(frozen=True)
class Bill:
    """A provider that no other test knows, with what was spent there and what it bills."""

    cast: Cast
    provider: str = field(default_factory=lambda: f"p-{uuid.uuid4().hex[:16]}")

    def spend(self, amount: str, *, day: int = 0, hour: int = 12, **described: Any) -> None:
        """Record a request of three tokens."""
        at = datetime.combine(day_of(day), datetime.min.time(), UTC) + timedelta(hours=hour)
        known = {"provider": self.provider, "upstream_model": "m"} | described
        account = self.cast.organization.account_id
        api_client.spend(self.cast.organization, [account], amount, at=at, **known)

    def line(self, amount: str, *, day: int = 0, model: str = "m", **more: str) -> str:
        values = {
            "day": f"{day_of(day)}", "provider": self.provider, "model": model,
            "currency": "USD", "amount": amount,
        } | more  # fmt: skip
        return ",".join(values.get(name, "") for name in HEAD.split(","))

    def file(self, *lines: str) -> bytes:
        return "\n".join([HEAD, *lines]).encode()

    def keep(self, *lines: str, **more: Any) -> InvoiceImport:
        """Import a file of these lines."""
        given: dict[str, Any] = {
            "provider": self.provider, "format": "generic_csv", "content": self.file(*lines),
            "file_name": "bill.csv", "by": "a test", "now": NOW,
        }  # fmt: skip
        return invoicing.import_invoice(**given | more)


@pytest.fixture
def bill(cast: Cast) -> Bill:
    made = Bill(cast)
    Provider.objects.create(slug=made.provider, name="Provider")
    return made


@pytest.fixture
def heard() -> Any:
    """Which invoices were told of as drifting, each with whether that was after the commit."""
    told: list[tuple[str, bool]] = []

    def hear(invoice_id: str, **_: object) -> None:
        told.append((invoice_id, not transaction.get_connection().in_atomic_block))

    receiver: Callable[..., None] = hear
    invoice_drifted.connect(receiver)
    yield told
    invoice_drifted.disconnect(receiver)
