"""
Very many tiny charges in random order add up exactly, in the live store and in the ledger.

``MONEY=full`` charges a million times (``make money``), otherwise a sample of them.
"""

import asyncio
import os
import random
import sys
from decimal import Decimal

import pytest
from django.db.models import Sum

from budgets import money
from budgets.livestore import LiveStore
from budgets.periods import FOREVER
from spend import ledger, verification
from spend.events import Outcome
from spend.models import QuarterHour, SpendEvent
from tests.budgets.support import bench, event_of, new_id, payload_of, record_everything
from tests.conftest import Cast

CHARGES = 1_000_000 if os.environ.get("MONEY") == "full" else 20_000
AT_ONCE = 500
SEED = int(os.environ.get("MONEY_SEED") or random.randrange(1_000_000))
SMALLEST = Decimal("1E-18")


async def test_tiny_charges_in_random_order_add_up_exactly(store: LiveStore, cast: Cast) -> None:
    drawn = random.Random(SEED)
    one = await bench(store, cast.organization, limit=10**15)
    held = await one.reserve(1)
    at_ms = held.admission.admitted_ms
    await one.release(held)
    # From nothing to a ten-thousandth of a dollar; the store counts billionths.
    costs = [SMALLEST * drawn.randrange(10 ** drawn.randrange(1, 15)) for _ in range(CHARGES)]
    units = sum(money.to_units(cost, currency="USD") for cost in costs)

    for start in range(0, CHARGES, AT_ONCE):
        events = [
            event_of(
                new_id(), money.to_units(cost, currency="USD"), one.context, at_ms,
                payload_of(one.context, outcome=Outcome(status=200, cost=cost, usage={})),
            )
            for cost in costs[start : start + AT_ONCE]
        ]  # fmt: skip
        await asyncio.gather(*map(store.settle, events))
        if start % (20 * AT_ONCE) == 0:
            record_everything()
            if CHARGES > start > 0 and os.environ.get("MONEY") == "full":
                sys.stderr.write(f"\r{start:,} of {CHARGES:,}")
    assert one.counter.spent == units
    record_everything()

    rows = SpendEvent.objects.filter(accounts__contains=[one.account.id]).exclude(cost=0)
    sums = rows.aggregate(cost=Sum("cost"), units=Sum("amount_units"))
    rolled_up = QuarterHour.objects.filter(account_id=one.account.id)
    assert sums["cost"] == sum(costs), f"MONEY_SEED={SEED}"
    assert sums["units"] == units, f"MONEY_SEED={SEED}"
    assert sum(row.amount_units for row in rolled_up) == units
    assert sum(row.events for row in rolled_up) == CHARGES
    assert ledger.sum_of(one.account.id, FOREVER) == (units, CHARGES)
    assert one.counter.spent == units
    report = verification.verify()
    assert report.differences == ()


@pytest.mark.no_servers
def test_order_and_grouping_change_no_sum() -> None:
    drawn = random.Random(SEED)
    costs = [SMALLEST * drawn.randrange(10**14) for _ in range(10_000)]
    expected = sum(int(cost / SMALLEST) for cost in costs)

    for _ in range(5):
        drawn.shuffle(costs)
        middle = drawn.randrange(len(costs))
        halves = (sum(costs[:middle], Decimal(0)), sum(costs[middle:], Decimal(0)))
        assert money.EXACT.add(*halves) == SMALLEST * expected
