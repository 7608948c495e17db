"""What the tests of reports share: organizations that spent, and what is reported of them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from django.db import transaction

from budgets import totals
from budgets.models import ApiKey, Organization, Team, User
from budgets.services import keys, tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Owner
from spend import ledger
from spend.models import EventKind, SpendEvent
from spend.reporting import reports
from spend.reporting.report_sums import Group
from spend.reporting.reports import Report
from tests import admin_site, rates
from tests.api_client import spend

FIRST, SECOND, THIRD = date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), tzinfo=UTC)


@dataclass
class Spender:
    """An organization whose teams, users and keys spend, each request on all of its path."""

    organization: Organization

    def spend(
        self,
        amount: str,
        *,
        on: date = FIRST,
        at: datetime | None = None,
        team: Team | None = None,
        user: User | None = None,
        key: ApiKey | None = None,
        **described: Any,
    ) -> uuid.UUID:
        accounts = [self.organization.account_id]
        if team is not None:
            accounts.append(team.account_id)
            described["team"] = team.public_id
        if user is not None:
            joined = tenancy.join_organization(organization=self.organization, user=user)
            accounts.append(joined.account_id)
            described["user"] = user.public_id
        described["key_digest"] = ""
        if key is not None:
            accounts.append(key.account_id)
            described["key_digest"] = key.digest
        return spend(self.organization, accounts, amount, at=at or noon(on), **described)

    def team(self, name: str = "Team") -> Team:
        values = {"public_id": f"team-{uuid.uuid4().hex}", "name": name}
        return tenancy.create_team(
            organization=self.organization, values=values, terms=Terms(), now=noon(FIRST)
        )

    def user(self, alias: str = "Ada") -> User:
        values = {"public_id": f"user-{uuid.uuid4().hex}", "alias": alias}
        return tenancy.create_user(
            organization=self.organization, values=values, terms=Terms(), now=noon(FIRST)
        )

    def key(self, name: str = "") -> ApiKey:
        return keys.issue_key(
            owner=Owner(self.organization), values={"name": name}, terms=Terms(), now=noon(FIRST)
        ).key


def spender(currency: str = "USD", **values: Any) -> Spender:
    name = values.pop("name", f"Spender {uuid.uuid4().hex[:6]}")
    return Spender(admin_site.organization_named(name, currency=currency, **values))


def rate(base: str, quote: str, value: str, *, on: date = FIRST) -> None:
    added = rates.adding(((base, quote), value, on))
    assert not added.quarantined


def report(*of: Spender, by: Sequence[Group] = (Group.DAY,), **asked: Any) -> Report:
    """Return a report of organizations, of the first three days unless told."""
    chosen = Organization.objects.filter(pk__in=[each.organization.pk for each in of])
    usual: dict[str, Any] = {"first_day": FIRST, "last_day": THIRD, "currency": ""}
    return reports.read(
        reports.Asked(organizations=chosen, group_by=tuple(by), **{**usual, **asked})
    )


def amounts(found: Report) -> dict[tuple[str, ...], Decimal]:
    """Return the rounded amount of each row by the ids of its groups."""
    return {tuple(each.id for each in row.groups): row.figures.amount for row in found.rows}


def adjust(request_id: uuid.UUID, units: int) -> None:
    """Add what re-rating a request comes to."""
    row = SpendEvent.objects.get(id=request_id)
    values = {name: getattr(row, name) for name in ledger.COLUMNS}
    values |= {
        "id": uuid.uuid4(), "kind": EventKind.ADJUSTMENT, "rerating_id": 1, "amount_units": units,
        "input_tokens": 0, "output_tokens": 0,
        "usage": ledger.as_json({}), "lines": ledger.as_json([]),
    }  # fmt: skip
    with transaction.atomic():
        totals.lock_partition()
        ledger.adjust([values])
