"""
Every test runs on the real servers that tests/plugin.py has started, migrated once.

What a test writes stays: tests make organizations of their own and never count on an empty table.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from budgets.models import Organization, Team, User
from budgets.services import tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Issued, Owner, issue_key
from costplatform import seeding
from spend import recovery
from tests import rates
from tests.stack import Stack


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Migrate the throw-away database itself: the processes that tests start use the same one."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]  # pytest-django has no public type for it
        call_command("migrate", verbosity=0)
        recovery.ensure_open(now=datetime.now(UTC))
        seeding.seed(now=datetime.now(UTC))
        yield
        connections.close_all()


@pytest.fixture(autouse=True)
def _database(
    request: pytest.FixtureRequest, django_db_blocker: pytest.FixtureRequest
) -> Iterator[None]:
    if request.node.get_closest_marker("no_servers"):
        yield
        return
    request.getfixturevalue("django_db_setup")
    with django_db_blocker.unblock():  # type: ignore[attr-defined]  # as above
        yield
        connections.close_all()


@dataclass(frozen=True)
class Cast:
    """The fixed cast of a test: its own organization with a team and a user, and an outsider."""

    organization: Organization
    team: Team
    user: User
    outsider: Organization

    def key(self, limit: str | None = None, **fields: object) -> Issued:
        """Issue a key of the organization, with a strict monthly limit if one is given."""
        terms = Terms()
        if limit is not None:
            terms = Terms(max_budget=Decimal(limit), duration="1mo", enforcement="strict")
        return issue_key(
            owner=Owner(self.organization), values=fields, terms=terms, now=datetime.now(UTC)
        )


@pytest.fixture
def cast() -> Cast:
    return make_cast()


def make_cast() -> Cast:
    now, name = datetime.now(UTC), uuid.uuid4().hex
    organization, outsider = (
        tenancy.create_organization(
            values={"public_id": f"{kind}-{name}", "name": f"{kind} {name[:6]}"},
            terms=Terms(),
            now=now,
        )
        for kind in ("org", "outsider")
    )
    team = tenancy.create_team(
        organization=organization,
        values={"public_id": f"team-{name}", "name": "Team"},
        terms=Terms(),
        now=now,
    )
    user = tenancy.create_user(
        organization=organization,
        values={"public_id": f"user-{name}", "email": f"{name}@example.com"},
        terms=Terms(),
        now=now,
    )
    return Cast(organization, team, user, outsider)


@pytest.fixture(scope="session")
def stack(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The real processes: sandbox, recorder, and two web processes for each door."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(params=["lane", "views"])
def door(request: pytest.FixtureRequest, stack: Stack) -> str:
    """The base URL of either door: one pipeline, so the same tests run through both."""
    return stack.lane if request.param == "lane" else stack.views


@pytest.fixture
def data() -> Path:
    return Path(__file__).parent / "data"


@pytest.fixture
def master_key() -> str:
    return str(settings.MASTER_KEY)


@pytest.fixture
def currency() -> Iterator[str]:
    """A currency without rates."""
    with rates.lent(1) as (code,):
        yield code


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two currencies without rates."""
    with rates.lent(2) as (base, quote):
        yield base, quote
