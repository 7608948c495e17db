"""
Every change of the configuration goes through :func:`change`: one transaction, an actor for the
history, and the new version in the live store as soon as it is committed.

Triggers raise the versions and write the history, so that SQL by hand does the same; what is
here only makes it quicker and says who it was.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from django.db import IntegrityError, connection, transaction
from psycopg.errors import UniqueViolation
from redis.exceptions import RedisError

from budgets import storekeeper
from budgets.errors import Conflict

log = logging.getLogger(__name__)

SYSTEM = "system"


class Source(StrEnum):
    """By which way a change came; the trigger says ``sql`` where nobody has said anything."""

    ADMIN = "admin"
    API = "api"
    COMMAND = "command"
    SYSTEM = "system"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change comes from: by which way, and from which network address if there is one."""

    source: Source
    address: str = ""


_actor: ContextVar[str] = ContextVar("actor", default=SYSTEM)
_origin: ContextVar[Origin] = ContextVar("origin", default=Origin(Source.SYSTEM))  # noqa: B039  # it is frozen


@contextmanager
def acting(by: str, *, origin: Origin | None = None) -> Iterator[None]:
    """Name who makes the changes within, and from where if that differs; the history keeps it."""
    actor, where = _actor.set(by), _origin.set(origin or _origin.get())
    try:
        yield
    finally:
        _origin.reset(where)
        _actor.reset(actor)


def actor() -> str:
    """Return who makes changes now, as the history will name them."""
    return _actor.get()


@contextmanager
def change(*, scope: int, reason: str = "") -> Iterator[None]:
    """
    Change the configuration of ``scope`` (an organization's id, or 0 for what all share) in one
    transaction; the next request of every gateway process obeys it.
    """
    origin = _origin.get()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('costplatform.actor', %s, true),"
                " set_config('costplatform.reason', %s, true),"
                " set_config('costplatform.source', %s, true),"
                " set_config('costplatform.address', %s, true)",
                [_actor.get(), reason, origin.source, origin.address],
            )
        transaction.on_commit(partial(_publish, scope))
        yield


@contextmanager
def unique(field: str) -> Iterator[None]:
    """
    Write something that must be unique.

    :raises Conflict: naming ``field``, if it is taken
    """
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if not isinstance(error.__cause__, UniqueViolation):
            raise
        constraint = error.__cause__.diag.constraint_name or ""
        raise Conflict(_FIELDS.get(constraint, field), "is taken") from error


_FIELDS: Final[Mapping[str, str]] = {
    "key_name_once_per_organization": "key_alias",
    "user_email_once": "user_email",
    "user_once_per_team": "member",
}
"""Where a constraint is about another field than the id."""


def _publish(scope: int) -> None:
    try:
        storekeeper.publish_versions(scopes=[scope])
    except (RedisError, storekeeper.Closed):
        # The recorder mirrors versions too: what is missed here comes a moment later.
        log.warning("version_not_published", extra={"scope": scope})
