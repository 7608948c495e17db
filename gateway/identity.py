"""Who asks: key snapshots of this process, read from Postgres once and checked by version."""

import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final

from django.db import Error as DatabaseError

from budgets import keys, model_lists, snapshots
from budgets.contexts import PathAccount
from budgets.models import AccountKind
from budgets.snapshots import KeySnapshot, Label
from gateway.database import Database
from gateway.errors import (
    AccountClosed,
    EndUserBlocked,
    KeyBlocked,
    KeyExpired,
    ModelForbidden,
    Unauthorized,
    Unavailable,
)
from gateway.shared_work import SharedWork

SNAPSHOTS_MAX: Final = 100_000
LABELS_MAX: Final = 100_000

LabelName = tuple[str, str]
"""Kind and text of an end user or tag."""


@dataclass(slots=True)
class _Kept:
    snapshot: KeySnapshot
    checked_at: float


def secret_of(headers: Mapping[str, str]) -> str:
    """
    Return the key that a request carries, as OpenAI's, Anthropic's or Azure's clients send it.

    :raises Unauthorized: if it carries none that can be one
    """
    secret = sent_in(headers)
    if not secret:
        raise Unauthorized("Send your key as 'Authorization: Bearer sk-…'.")
    if len(secret) > keys.LENGTH_MAX or not keys.is_well_formed(secret):
        raise Unauthorized("This is not a key: check that it was copied whole.")
    return secret


def sent_in(headers: Mapping[str, str]) -> str:
    """Return what is sent in place of a key, or nothing."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    candidates = [bearer.strip() if scheme.lower() == "bearer" else ""]
    candidates += [headers.get("x-api-key", ""), headers.get("api-key", "")]
    return next((candidate for candidate in candidates if candidate), "")


class Identities:
    """
    The snapshots of this process, the least used forgotten first.

    One is checked against Postgres after ``fresh_seconds``; while Postgres is away it serves on
    for ``stale_seconds_max``, since the reserve script still compares its version.
    """

    def __init__(
        self, *, database: Database, fresh_seconds: float, stale_seconds_max: float
    ) -> None:
        self._database = database
        self._fresh_seconds = fresh_seconds
        self._stale_seconds_max = stale_seconds_max
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._quick_key = os.urandom(32)
        self._digests: dict[bytes, str] = {}
        self._reading: SharedWork[str, KeySnapshot] = SharedWork()
        self._rechecking: SharedWork[str, KeySnapshot] = SharedWork()
        self._reading_labels: SharedWork[tuple[int, LabelName, int], tuple[int, Label]]
        self._reading_labels = SharedWork()
        self._labels: OrderedDict[tuple[int, LabelName], tuple[int, Label]] = OrderedDict()

    async def labels(self, names: Sequence[LabelName], *, of: KeySnapshot) -> list[Label]:
        """
        Return the end users and tags that a request names, as of the snapshot's version or newer.

        :raises Unavailable: if Postgres is away and one of them is not known here
        """
        return [
            of.plain_label(kind=name[0], text=name[1])
            if of.is_plain(kind=name[0], text=name[1])
            else await self._label(name, of)
            for name in names
        ]

    async def _label(self, name: LabelName, of: KeySnapshot) -> Label:
        kept = self._labels.get((of.organization_id, name))
        if kept is None or kept[0] < of.version:
            try:
                kept = await self._reading_labels.do(
                    (of.organization_id, name, of.version),
                    lambda: self._database.run(_read_label, of.organization_id, name),
                )
            except DatabaseError as error:
                raise Unavailable(
                    f"This {name[0].replace('_', ' ')} cannot be looked up right now.",
                    code="ledger_unavailable",
                ) from error
            self._labels[of.organization_id, name] = kept
        self._labels.move_to_end((of.organization_id, name))
        if len(self._labels) > LABELS_MAX:
            self._labels.popitem(last=False)
        return of.with_template(kept[1])

    async def identify(self, secret: str) -> KeySnapshot:
        """
        Return the snapshot of a key.

        :raises Unauthorized: if there is no such key
        :raises Unavailable: if Postgres is away and the key is not known here
        """
        digest = self._digest_of(secret)
        kept = self._kept.get(digest)
        if kept is None:
            return await self.read_again(secret)
        self._kept.move_to_end(digest)
        if time.monotonic() - kept.checked_at > self._fresh_seconds:
            # Reserve compares versions all the same: one check does for a crowd.
            return await self._rechecking.do(digest, lambda: self._recheck(secret, kept))
        return kept.snapshot

    def _digest_of(self, secret: str) -> str:
        """Return a key's digest, remembered by a quicker one under a key of this process."""
        quick = blake2b(secret.encode(), key=self._quick_key, digest_size=16).digest()
        digest = self._digests.get(quick)
        if digest is None:
            digest = keys.digest(secret)
            if len(self._digests) >= SNAPSHOTS_MAX:
                self._digests.clear()
            self._digests[quick] = digest
        return digest

    async def recheck(self, secret: str) -> KeySnapshot:
        """
        Return the snapshot of the newest version, whatever is kept.

        :raises Unauthorized: if there is no such key (any more)
        :raises Unavailable: if Postgres has been away for too long
        """
        kept = self._kept.get(keys.digest(secret))
        if kept is None:
            return await self.read_again(secret)
        return await self._recheck(secret, kept)

    async def read_again(self, secret: str) -> KeySnapshot:
        """
        Read a key from Postgres, whatever is known of it.

        :raises Unauthorized: if there is no such key
        :raises Unavailable: if Postgres is away
        """
        digest = keys.digest(secret)
        return await self._reading.do(digest, lambda: self._read(secret, digest))

    async def _read(self, secret: str, digest: str) -> KeySnapshot:
        began = time.monotonic()
        try:
            snapshot = await self._database.run(
                snapshots.read_key, digest=digest, legacy_digest=keys.legacy_digest(secret)
            )
        except DatabaseError as error:
            raise Unavailable(
                "Keys cannot be looked up right now.", code="ledger_unavailable"
            ) from error
        if snapshot is None:
            self._kept.pop(digest, None)
            raise Unauthorized("There is no such key.")
        self._keep(digest, _Kept(snapshot, began))
        return snapshot

    async def _recheck(self, secret: str, kept: _Kept) -> KeySnapshot:
        began = time.monotonic()
        try:
            version = await self._database.run(snapshots.version_of, kept.snapshot.organization_id)
        except DatabaseError as error:
            if began - kept.checked_at > self._stale_seconds_max:
                raise Unavailable(
                    "Keys cannot be looked up right now.", code="ledger_unavailable"
                ) from error
            return kept.snapshot
        if version != kept.snapshot.version:
            return await self.read_again(secret)
        kept.checked_at = began
        return kept.snapshot

    def _keep(self, digest: str, kept: _Kept) -> None:
        self._kept[digest] = kept
        self._kept.move_to_end(digest)
        if len(self._kept) > SNAPSHOTS_MAX:
            self._kept.popitem(last=False)


def _read_label(organization_id: int, name: LabelName) -> tuple[int, Label]:
    version = snapshots.version_of(organization_id)  # before what it labels
    kind, text = name
    return version, snapshots.read_label(organization_id=organization_id, kind=kind, text=text)


def check_labels(labels: Sequence[Label], *, model: str) -> None:
    """
    Return if the request's end user may use this model.

    :raises AccountClosed: if nobody can say what was spent on one of them
    :raises EndUserBlocked: if it is blocked
    :raises ModelForbidden: if its list of models lacks this one
    """
    for label in labels:
        if label.closed:
            raise closed(label.account)
        if label.account.kind != AccountKind.END_USER:
            continue
        if label.blocked:
            raise EndUserBlocked(f"The end user {label.account.label!r} is blocked.", param="user")
        if not model_lists.allows(label.allowed_models, model):
            raise ModelForbidden(
                f"The end user {label.account.label!r} may not call {model!r}.", param="model"
            )


def check_usable(snapshot: KeySnapshot, *, at: datetime) -> None:
    """
    Return if the key may be used at all.

    :raises KeyBlocked: if it, its team, its user or its organization is blocked
    :raises KeyExpired: if its time is over
    :raises AccountClosed: if nobody can say what was spent on an account of its path
    """
    if snapshot.blocked:
        raise KeyBlocked("This key is blocked. Ask whoever gave it to you.")
    if snapshot.has_expired(at=at):
        raise KeyExpired("This key has expired. Ask whoever gave it to you for another.")
    if snapshot.closed is not None:
        raise closed(snapshot.closed)


def closed(account: PathAccount) -> AccountClosed:
    name = f"{account.kind.replace('_', ' ')} {account.label!r}"
    return AccountClosed(
        f"Nobody can say what was spent on the {name}, so nobody may spend on it. Ask whoever"
        " runs this to look at what was set aside."
    )
