"""
Writes entries to the ledger as the recorder does, beside a recorder that may be at work.

The row lock of the partition keeps both apart; the raised revision and the listed reloads have
every live counter of the accounts loaded anew, so that none stays behind its ledger.
"""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import transaction
from redis.exceptions import RedisError

from budgets import storekeeper, totals
from budgets.models import Partition
from budgets.storekeeper import Entry
from spend import ledger, recorder


def record(entries: Sequence[Entry], *, now: datetime) -> None:
    """Write entries that never were in the stream; writing one twice changes nothing."""
    ledger.make_partitions({entry.admitted_at.astimezone(UTC).date() for entry in entries})
    with transaction.atomic():
        partition = totals.lock_partition()
        recorder.apply(entries, now=now, revision=partition.revision + 1)
        totals.note_reloads(
            partition=partition, account_ids={id for entry in entries for id in entry.path}
        )
    tell_store()


def tell_store() -> None:
    """Have the counters that are listed loaded anew; if not now, then by the recorder."""
    # A store that is closed or away has no counters in use: whoever opens it loads them anew.
    with contextlib.suppress(storekeeper.Closed, RedisError):
        recorder.tell_store(Partition.objects.get(number=storekeeper.PARTITION))
