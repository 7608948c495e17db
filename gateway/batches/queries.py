"""Reads: the files and batches that a key may see, and the batches that are due."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from django.db.models import Model, Q, QuerySet

from budgets.snapshots import KeySnapshot
from gateway.errors import BatchUnknown, FileUnknown
from gateway.models import DUE_STATES, GatewayBatch, GatewayFile, Purpose

FILES_LISTED_MAX: Final = 1_000
BATCHES_LISTED_MAX: Final = 100
Row = TypeVar("Row", bound=Model)


def _visible_to(snapshot: KeySnapshot) -> Q:
    """Those of the key itself, which may have been rotated since, and of its team."""
    own = Q(key=snapshot.key_id)
    if snapshot.team_public_id:
        own |= Q(team=snapshot.team_public_id)
    return own & Q(organization=snapshot.organization_id)


def files_of(snapshot: KeySnapshot) -> QuerySet[GatewayFile]:
    found = GatewayFile.objects.filter(_visible_to(snapshot), deleted_at=None)
    return found.select_related("deployment__credential", "batch")


def batches_of(snapshot: KeySnapshot) -> QuerySet[GatewayBatch]:
    found = GatewayBatch.objects.filter(_visible_to(snapshot))
    return found.select_related("deployment__credential", "input_file")


def find_file(*, public_id: str, snapshot: KeySnapshot) -> GatewayFile:
    """:raises FileUnknown: if the key sees no such file"""
    found = files_of(snapshot).filter(public_id=public_id).first()
    if found is None:
        raise FileUnknown("There is no such file of this key.")
    return found


def find_batch(*, public_id: str, snapshot: KeySnapshot) -> GatewayBatch:
    """:raises BatchUnknown: if the key sees no such batch"""
    found = batches_of(snapshot).filter(public_id=public_id).first()
    if found is None:
        raise BatchUnknown("There is no such batch of this key.")
    return found


def page(rows: QuerySet[Any], *, after: str, limit: int) -> tuple[Sequence[Any], bool]:
    """Return the rows that come after the one of that id, the newest first, and if more follow."""
    rows = rows.order_by("-id")
    if after:
        last = rows.filter(public_id=after).values_list("id", flat=True).first()
        rows = rows.filter(id__lt=last) if last is not None else rows.none()
    found = list(rows[: limit + 1])
    return found[:limit], len(found) > limit


def inputs_of(organization_id: int) -> int:
    """Return how many input files an organization has at its providers."""
    return GatewayFile.objects.filter(
        organization=organization_id, purpose=Purpose.BATCH, deleted_at=None
    ).count()


def due(*, now: datetime, at_most: int) -> list[int]:
    """Return the batches to be looked at, those that have waited longest first."""
    waiting = GatewayBatch.objects.filter(state__in=DUE_STATES, next_look_at__lte=now)
    return list(waiting.order_by("next_look_at", "id").values_list("id", flat=True)[:at_most])
