"""
How often which account refused, and why: counted here, written to Postgres every few seconds.

Refusals are no ledger rows; what a process had not written when it was killed is lost.
"""

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from django.db import DataError, IntegrityError, connection, transaction

from budgets.contexts import Context, Limit
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import PLATFORM_KINDS
from gateway.database import Database

log = logging.getLogger(__name__)

SAMPLES_MAX: Final = 5
KINDS_MAX: Final = 10_000
"""Different (account, reason, minute) between two writings; beyond them none is counted."""

Key = tuple[UUID, str, str, str, bool, datetime, int | None]


@dataclass(slots=True)
class _Count:
    requests: int = 0
    samples: list[UUID] = field(default_factory=list)


class RefusalCounts:
    def __init__(self) -> None:
        self._counts: dict[Key, _Count] = defaultdict(_Count)

    def note(self, limit: Limit, reason: str, *, context: Context, request_id: str) -> None:
        """Count a refusal."""
        self._note(_key(limit, reason, context, observed=False), request_id)

    def note_observed(self, limit: Limit, *, context: Context, request_id: str) -> None:
        """Count what a budget that only observes would have refused."""
        self._note(_key(limit, limit.kind.value, context, observed=True), request_id)

    async def write(self, database: Database) -> None:
        """Add what was counted to the rows in Postgres; keep it if Postgres is away."""
        counts, self._counts = self._counts, defaultdict(_Count)
        if not counts:
            return
        try:
            await database.run(_write, counts)
        except (IntegrityError, DataError):
            # They would fail for ever, and keep back those that come after.
            log.exception("refusals_dropped", extra={"rows": len(counts)})
        except BaseException:
            self._put_back(counts)
            raise

    def _note(self, key: Key, request_id: str) -> None:
        if key not in self._counts and len(self._counts) >= KINDS_MAX:
            return
        count = self._counts[key]
        count.requests += 1
        if len(count.samples) < SAMPLES_MAX:
            count.samples.append(UUID(request_id))

    def _put_back(self, counts: dict[Key, _Count]) -> None:
        for key, count in counts.items():
            kept = self._counts[key]
            kept.requests += count.requests
            kept.samples = [*count.samples, *kept.samples][:SAMPLES_MAX]


def _key(limit: Limit, reason: str, context: Context, *, observed: bool) -> Key:
    account, minute = limit.account, datetime.now(UTC).replace(second=0, microsecond=0)
    # Accounts that all organizations share are nobody's.
    organization = None if account.kind in PLATFORM_KINDS else context.organization_id
    label = account.label[:NAME_LENGTH_MAX]
    return (account.id, account.kind, label, reason, observed, minute, organization)


def _write(counts: dict[Key, _Count]) -> None:
    rows = sorted(counts.items(), key=lambda each: each[0][:6])  # in one order: no deadlocks
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO budgets_refusalcount AS kept (account_id, kind, label, reason, observed,
                minute, organization_id, requests, sample_ids)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::uuid[])
            ON CONFLICT (account_id, reason, observed, minute) DO UPDATE SET
                requests = kept.requests + excluded.requests,
                sample_ids = (kept.sample_ids || excluded.sample_ids)[1:5]
            """,
            [(*key, count.requests, count.samples) for key, count in rows],
        )
