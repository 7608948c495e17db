"""
What Postgres says of a key, read once and used for many requests: who it is, what it may call,
and the terms of every budget on its path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import connection, transaction

from budgets import contexts, totals
from budgets.contexts import Context, PathAccount, Terms
from budgets.livestore import LedgerTotal
from budgets.models import AccountBudget, ApiKey, ConfigVersion, Membership, OrganizationMembership
from budgets.money import Units

GLOBAL_SCOPE = 0


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """A key with its path; ``path`` goes from the key up to its organization."""

    key_id: int
    digest: str
    organization_id: int
    organization_public_id: str
    currency: str
    team_public_id: str
    user_public_id: str
    blocked: bool
    expires_at: datetime | None
    model_lists: tuple[frozenset[str], ...]
    path: tuple[PathAccount, ...]
    terms: tuple[Terms, ...]
    version: int

    def may_call(self, model: str) -> bool:
        """Return whether every list that names models names this one; an empty list allows all."""
        return all(model in allowed for allowed in self.model_lists if allowed)

    def has_expired(self, *, at: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= at

    def context(self, *, at: datetime, global_version: int) -> Context:
        """
        Return what a reserve needs, for the periods that hold ``at``; ``global_version`` labels
        what the caller knows of models and prices.
        """
        limits = contexts.limits_at(terms=self.terms, currency=self.currency, at=at)
        start, end = contexts.validity_ms(limits, expires_at=self.expires_at)
        return Context(
            organization_id=self.organization_id,
            currency=self.currency,
            organization_version=self.version,
            global_version=global_version,
            path=self.path,
            limits=limits,
            valid_from_ms=start,
            valid_until_ms=end,
        )


def version_of(scope: int) -> int:
    """Return how often the configuration of an organization (or of all: 0) has changed."""
    kept = ConfigVersion.objects.filter(scope=scope).values_list("version", flat=True).first()
    return kept or 0


def read_key(*, digest: str, legacy_digest: str) -> KeySnapshot | None:
    """Return the key of that digest, or of that LiteLLM hash, or None if there is none."""
    found = (
        ApiKey.objects.filter(digest=digest).values_list("pk", "organization_id").first()
        or ApiKey.objects.filter(legacy_digest=legacy_digest)
        .values_list("pk", "organization_id")
        .first()
    )
    if found is None:
        return None
    pk, organization_id = found
    # Read before what it labels: a change in between makes the snapshot stale, never newer.
    version = version_of(organization_id)
    key = (
        ApiKey.objects.select_related("organization__account", "team__account", "user", "account")
        .filter(pk=pk)
        .first()
    )
    return None if key is None else _snapshot(key, version)


def ledger_totals(limits: Sequence[contexts.Limit]) -> list[LedgerTotal]:
    """Return total, position and revision of each limit's period, all of one Postgres snapshot."""
    rows = _read_totals(limits)
    missing = {
        (limit.account.id, limit.period)
        for limit, (spent, *_) in zip(limits, rows, strict=True)
        if spent is None
    }
    if missing:
        # No row is not 0: it may be that nobody has summed the ledger yet.
        with transaction.atomic():
            totals.lock_partition()
            totals.make_missing(wanted=missing)
        rows = _read_totals(limits)
    return [
        LedgerTotal(
            account=limit.account.id.hex,
            start_ms=limit.period.start_ms,
            end_ms=limit.period.end_ms,
            spent=Units(spent or 0),
            generation=generation,
            position=position,
            revision=revision,
        )
        for limit, (spent, generation, position, revision) in zip(limits, rows, strict=True)
    ]


def _read_totals(limits: Sequence[contexts.Limit]) -> list[tuple[int | None, int, str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT total.amount_units, partition.generation, partition.position, partition.revision
            FROM unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[])
                     WITH ORDINALITY AS wanted(account, first, last, n)
            CROSS JOIN budgets_partition partition
            LEFT JOIN budgets_periodtotal total ON total.account_id = wanted.account
                 AND total.period_start = wanted.first AND total.period_end = wanted.last
            WHERE partition.number = 0
            ORDER BY wanted.n
            """,
            [
                [limit.account.id for limit in limits],
                [limit.period.start for limit in limits],
                [limit.period.end for limit in limits],
            ],
        )
        return list(cursor.fetchall())


def _snapshot(key: ApiKey, version: int) -> KeySnapshot:
    organization, team, user = key.organization, key.team, key.user
    path = _path(key)
    model_lists = [key.allowed_models, organization.allowed_models]
    model_lists += [team.allowed_models] if team else []
    model_lists += [user.allowed_models] if user else []
    return KeySnapshot(
        key_id=key.pk,
        digest=key.digest,
        organization_id=organization.pk,
        organization_public_id=organization.public_id,
        currency=organization.currency,
        team_public_id=team.public_id if team else "",
        user_public_id=user.public_id if user else "",
        blocked=_is_blocked(key),
        expires_at=key.expires_at,
        model_lists=tuple(frozenset(names) for names in model_lists),
        path=path,
        terms=_terms(path),
        version=version,
    )


def _is_blocked(key: ApiKey) -> bool:
    holders_blocked = key.organization.blocked or (key.team is not None and key.team.blocked)
    user_left = key.user is not None and not key.user.is_active
    return key.blocked or holders_blocked or user_left


def _path(key: ApiKey) -> tuple[PathAccount, ...]:
    accounts = [key.account]
    if key.user is not None and key.team is not None:
        member = Membership.objects.filter(team=key.team, user=key.user)
        accounts += [each.account for each in member.select_related("account")]
    if key.user is not None:
        joined = OrganizationMembership.objects.filter(organization=key.organization, user=key.user)
        accounts += [each.account for each in joined.select_related("account")]
    if key.team is not None:
        accounts.append(key.team.account)
    accounts.append(key.organization.account)
    return tuple(PathAccount(each.id, each.kind, each.label) for each in accounts)


def _terms(path: Sequence[PathAccount]) -> tuple[Terms, ...]:
    """Return the budgets with a limit, in the order of the path."""
    by_id = {account.id: account for account in path}
    rows = AccountBudget.objects.filter(
        account__in=by_id, budget__max_budget__isnull=False
    ).select_related("budget")
    terms = [
        Terms(
            account=by_id[row.account_id],
            budget_id=row.budget.public_id,
            max_budget=_limit_of(row.budget.max_budget),
            duration=row.budget.duration,
            time_zone=row.budget.time_zone,
        )
        for row in rows
    ]
    order = {account.id: place for place, account in enumerate(path)}
    return tuple(sorted(terms, key=lambda each: (order[each.account.id], each.budget_id)))


def _limit_of(max_budget: Decimal | None) -> Decimal:
    assert max_budget is not None, "budgets without a limit are left out by the query"
    return max_budget
