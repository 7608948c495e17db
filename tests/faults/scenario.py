"""
One scenario: servers of its own, a proxy before each, the fleet, and Django here pointed at it.

The test asks the servers directly; the processes under test reach them through the proxies.
"""

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import connections

from budgets import storekeeper
from budgets.models import Organization
from budgets.services import tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Issued, Owner, issue_key
from costplatform import env
from costplatform.servers import Addresses
from tests.conftest import Cast, make_cast
from tests.faults.fleet import Fleet
from tests.faults.proxy import Proxy
from tests.faults.servers import Postgres, Valkey, postgres_url, valkey_url

ENV_NAMES = ("DATABASE_URL", "REDIS_URL")


@dataclass(frozen=True)
class Sizes:
    """What a scenario is run with: a sample in CI, the whole with ``FAULTS=full``."""

    full: bool
    seed: int

    def pick(self, *, sample: int, full: int) -> int:
        return full if self.full else sample


@dataclass
class Scenario:
    postgres: Postgres
    valkey: Valkey
    database: Proxy
    """Before Postgres."""
    store: Proxy
    """Before Valkey."""
    fleet: Fleet
    dice: random.Random

    @property
    def url(self) -> str:
        return self.fleet.url

    def organization(self, *, limit: str | None = None) -> Organization:
        name = f"org-{self.dice.getrandbits(48):x}"
        return tenancy.create_organization(
            values={"public_id": name, "name": name}, terms=terms(limit), now=datetime.now(UTC)
        )

    def cast(self) -> Cast:
        return make_cast()

    def key(self, owner: Owner | None = None, *, limit: str | None = None) -> Issued:
        owner = owner or Owner(self.organization())
        return issue_key(owner=owner, values={}, terms=terms(limit), now=datetime.now(UTC))


@dataclass(frozen=True)
class Replica:
    """A second store that follows the scenario's own through a link that can be stalled."""

    server: Valkey
    link: Proxy

    def lag(self) -> None:
        """Receive nothing more, as a replica does that is behind; the primary goes on."""
        self.link.stall()

    def take_over(self, run: Scenario) -> None:
        """The primary dies, this becomes one with what it has, and all clients are led here."""
        run.store.refuse()
        run.valkey.kill()
        self.server.promote()
        run.valkey = self.server
        run.store.retarget(self.server.port)
        point_at(Addresses(run.postgres.url, self.server.url))
        run.store.accept()


@contextlib.contextmanager
def replica_of(run: Scenario) -> Iterator[Replica]:
    """Start a replica that has all that the store has by now."""
    with contextlib.ExitStack() as ours:
        folder = Path(tempfile.mkdtemp(prefix="replica-", dir=env.data_directory()))
        ours.callback(shutil.rmtree, folder, ignore_errors=True)
        server = ours.enter_context(Valkey(folder))
        link = ours.enter_context(Proxy(run.valkey.port))
        server.replicate(port=link.port)
        yield Replica(server, link)


def terms(limit: str | None) -> Terms:
    if limit is None:
        return Terms()
    return Terms(max_budget=Decimal(limit), duration="1mo", enforcement="strict")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a scenario is set up; ``extra`` are settings of its processes."""

    seed: int
    web: int = 4
    recorders: int = 1
    durable: bool = True
    failpoints: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    midnight_in_seconds: float | None = None
    """Have the store's clock strike midnight (UTC) so long after the processes are started."""


@contextlib.contextmanager
def begin(template: Postgres, wanted: Wanted) -> Iterator[Scenario]:
    """Start everything; on the way out end it and remove what it wrote."""
    with contextlib.ExitStack() as ours:
        folder = Path(tempfile.mkdtemp(prefix="faults-", dir=env.data_directory()))
        ours.callback(shutil.rmtree, folder, ignore_errors=True)
        valkey = ours.enter_context(Valkey(folder / "valkey", durable=wanted.durable))
        postgres = Postgres(folder / "postgres", template=template)
        ours.callback(postgres.remove)
        ours.enter_context(postgres)
        store, database = (ours.enter_context(Proxy(each.port)) for each in (valkey, postgres))
        ours.enter_context(pointed_at(Addresses(postgres.url, valkey.url)))
        told = variables(postgres_url(database.port), valkey_url(store.port)) | dict(wanted.extra)
        told |= _clock(wanted)
        fleet = ours.enter_context(
            Fleet(
                folder, env=told, web=wanted.web, recorders=wanted.recorders, seed=wanted.seed,
                failpoints=wanted.failpoints,
            )
        )  # fmt: skip
        yield Scenario(postgres, valkey, database, store, fleet, random.Random(wanted.seed))


@contextlib.contextmanager
def pointed_at(addresses: Addresses) -> Iterator[None]:
    """Let Django in this process use other servers, and then again those that it had."""
    before = Addresses(settings.DATABASE_URL, settings.REDIS_URL)
    point_at(addresses)
    try:
        yield
    finally:
        point_at(before)


def point_at(addresses: Addresses) -> None:
    """Let Django use these servers from now on, in every thread that connects anew."""
    connections.close_all()
    storekeeper.store().close()
    storekeeper.store.cache_clear()
    parts = urlsplit(addresses.database_url)
    connections.settings["default"].update(
        HOST=unquote(parts.hostname or ""),
        PORT=parts.port or 5432,
        NAME=unquote(parts.path.lstrip("/")),
        USER=unquote(parts.username or ""),
        PASSWORD=unquote(parts.password or ""),
    )
    settings.DATABASE_URL, settings.REDIS_URL = addresses


def variables(*addresses: str) -> dict[str, str]:
    """Return our environment with these addresses in place of ours."""
    files = {f"{name}_FILE" for name in ENV_NAMES}
    kept = {name: value for name, value in os.environ.items() if name not in files}
    return kept | dict(zip(ENV_NAMES, addresses, strict=True))


def _clock(wanted: Wanted) -> dict[str, str]:
    if wanted.midnight_in_seconds is None:
        return {}
    ours = datetime.now(UTC) + timedelta(seconds=wanted.midnight_in_seconds)
    midnight = datetime.combine(ours.date() + timedelta(days=1), time(), tzinfo=UTC)
    return {
        "COSTPLATFORM_STORE_CLOCK_OFFSET_MS": str((midnight - ours) // timedelta(milliseconds=1))
    }


def shuffled(dice: random.Random, items: Sequence[Any]) -> list[Any]:
    return dice.sample(items, len(items))
