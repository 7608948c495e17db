"""
What must hold after a run, whatever was broken: the sandbox's own fsynced lines are the truth,
and the ledger is held against them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connections
from django.db.models import Sum

from budgets import storekeeper
from spend.models import EventKind, SpendEvent
from tests.faults.fleet import Fleet
from tests.stack import command

SETTLE_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True)
class Verdict:
    """``lost`` and ``doubled`` are requests that were served and have no row, or too many."""

    served: int
    rows: int
    lost: list[UUID]
    doubled: list[UUID]
    orphans: int
    orphans_unserved: int
    """Charged although the upstream never saw them: the price of not knowing."""
    charged_unserved: list[UUID]
    """Charged though not served, and no orphan: must not be."""
    reservations: int
    drift: str
    """What ``verify-ledger`` has to say, or nothing."""

    def figures(self) -> dict[str, object]:
        return {
            "served": self.served,
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "orphans": self.orphans,
            "orphans unserved": self.orphans_unserved,
            "reservations left": self.reservations,
            "drift": self.drift or 0,
        }

    def check(self) -> None:
        """Fail unless every served request has exactly one row, and all sums agree."""
        assert self.lost == []
        assert self.doubled == []
        assert self.charged_unserved == []
        assert self.reservations == 0
        assert self.drift == ""


def judge(fleet: Fleet, *, settle_seconds: float = SETTLE_SECONDS_MAX) -> Verdict:
    """Wait for quiet, then compare. The whole ledger is compared: a scenario has its own."""
    connections.close_all()  # Postgres may have been away since the last look
    fleet.settle_down(seconds=settle_seconds)
    served = {UUID(line["request_id"]) for line in fleet.served()}
    rows = list(SpendEvent.objects.values_list("request_id", "kind", "amount_units"))
    net = _net_rows(rows)
    orphaned = {id for id, kind, _ in rows if kind == EventKind.ORPHAN}
    charged = {id for id, _, units in rows if units}
    return Verdict(
        served=len(served),
        rows=len(rows),
        lost=[id for id in served if net[id] < 1],
        doubled=[id for id, count in net.items() if count > 1],
        orphans=len(orphaned),
        orphans_unserved=len(orphaned - served),
        charged_unserved=sorted(charged - served - orphaned),
        reservations=len(storekeeper.open_reservations()),
        drift=drift(fleet),
    )


def drift(fleet: Fleet) -> str:
    """Return what ``verify-ledger`` complains of, or nothing."""
    ran = command("verify-ledger", env=fleet.env)
    return "" if ran.returncode == 0 and "drift 0" in ran.stdout else ran.stderr[-2_000:]


def spent(account: UUID, *, since: datetime | None = None) -> int:
    """Return what the ledger has for an account, in units; of requests admitted ``since`` then."""
    rows = SpendEvent.objects.filter(accounts__contains=[account])
    if since is not None:
        rows = rows.filter(admitted_at__gte=since)
    return int(rows.aggregate(sum=Sum("amount_units"))["sum"] or 0)


def _net_rows(rows: Iterable[tuple[UUID, str, int]]) -> "Counter[UUID]":
    """An orphan, what takes it back, and the true row are together one."""
    net: Counter[UUID] = Counter()
    for request_id, kind, _ in rows:
        net[request_id] += -1 if kind == EventKind.ORPHAN_REVERSAL else 1
    return net
