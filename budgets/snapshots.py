"""
What Postgres says of a key, read once and used for many requests: who it is, what it may call,
and the terms of every budget on its path.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from budgets import contexts, in_force, increases, model_lists, periods, totals
from budgets.contexts import Context, PathAccount, Terms
from budgets.in_force import Increases
from budgets.increases import Added
from budgets.livestore import LedgerTotal
from budgets.models import (
    PLATFORM,
    Account,
    AccountBudget,
    AccountKind,
    ApiKey,
    Budget,
    BudgetTemplate,
    ConfigVersion,
    EndUser,
    IncreaseState,
    Membership,
    OrganizationMembership,
    derived_account_id,
    holder_model_account_id,
)
from budgets.money import Units
from budgets.periods import Period

GLOBAL_SCOPE = PLATFORM
SPECIAL_LABELS_MAX = 1_000

Counted = tuple[UUID, Period]
"""An account and a period: what one counter counts."""
ModelTerms = Mapping[str, tuple[Terms, ...]]
"""Terms of what holders may spend on one model, by the model's name."""


CONTEXTS_MAX: Final = 256
"""So many models and deployments of one key are remembered."""


@dataclass(frozen=True, slots=True)
class Label:
    """An end user or tag of an organization as a request names it; it may have no row yet."""

    account: PathAccount
    blocked: bool = False
    closed: bool = False
    allowed_models: frozenset[str] = frozenset()
    terms: tuple[Terms, ...] = ()
    model_terms: ModelTerms = field(default_factory=dict)
    increases: Mapping[str, tuple[Added, ...]] = field(default_factory=dict)
    """By the ids of budgets, also of those that only a template gives."""


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
    model_terms: ModelTerms
    end_user_template: tuple[Terms, ...]
    """What an end user without a budget of its own may spend."""
    closed: PathAccount | None
    """An account of the path on which nobody may spend, if there is one."""
    special_labels: frozenset[UUID] | None
    """The end users and tags that are limited, blocked or closed; None if there are too many."""
    version: int
    kept: dict[object, Context] = field(default_factory=dict, compare=False, repr=False)
    """What :meth:`context` has made for requests that name nobody else."""

    def may_call(self, model: str) -> bool:
        """Return whether every list that names models names this one; an empty list allows all."""
        return all(model_lists.allows(allowed, model) for allowed in self.model_lists)

    def has_expired(self, *, at: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= at

    def is_plain(self, *, kind: str, text: str) -> bool:
        """Return whether nobody has said anything of a label, as far as this tells."""
        if self.special_labels is None:
            return False
        account = label_account(organization_id=self.organization_id, kind=kind, text=text)
        return account.id not in self.special_labels

    def plain_label(self, *, kind: str, text: str) -> Label:
        """Return a label as it is if nobody has said anything of it."""
        account = label_account(organization_id=self.organization_id, kind=kind, text=text)
        template = self.end_user_template if kind == AccountKind.END_USER else ()
        return Label(account, terms=tuple(each.on(account) for each in template))

    def with_template(self, label: Label) -> Label:
        """Return a label that was read, with the template's terms if it has none of its own."""
        if label.terms or label.account.kind != AccountKind.END_USER:
            return label
        given = (each.on(label.account) for each in self.end_user_template)
        return replace(label, terms=tuple(each.increased_by(label.increases) for each in given))

    def context(
        self,
        *,
        at: datetime,
        global_version: int,
        model: str,
        labels: Sequence[Label] = (),
        platform: Sequence[tuple[PathAccount, tuple[Terms, ...]]] = (),
    ) -> Context:
        """
        Return what a reserve needs, for the periods that hold ``at``; ``global_version`` labels
        what the caller knows of models, prices and the ``platform``'s own accounts.
        """
        if labels:
            return self._made_context(at, global_version, model, labels, platform)
        key = (model, global_version, *(account.id for account, _ in platform))
        context = self.kept.get(key)
        if context is None or not context.holds_at(periods.milliseconds(at)):
            if len(self.kept) >= CONTEXTS_MAX:
                self.kept.clear()
            context = self._made_context(at, global_version, model, (), platform)
            self.kept[key] = context
        return context

    def _made_context(
        self,
        at: datetime,
        global_version: int,
        model: str,
        labels: Sequence[Label],
        platform: Sequence[tuple[PathAccount, tuple[Terms, ...]]],
    ) -> Context:
        holders = (*self.path, *(label.account for label in labels))
        terms = (
            *self.terms,
            *self.model_terms.get(model, ()),
            *(each for label in labels for each in label.terms),
            *(each for label in labels for each in label.model_terms.get(model, ())),
            *(each for _, given in platform for each in given),
        )
        limits = contexts.limits_at(terms=terms, currency=self.currency, at=at)
        start, end = contexts.validity_ms(
            limits,
            expires_at=self.expires_at,
            changes=increases.changes(added for each in terms for added in each.increases),
            at=at,
        )
        return Context(
            organization_id=self.organization_id,
            currency=self.currency,
            organization_version=self.version,
            global_version=global_version,
            path=(*holders, *(account for account, _ in platform)),
            model_path=tuple(
                holder_model_account_id(holder=each.id, model=model) for each in holders
            ),
            limits=limits,
            valid_from_ms=start,
            valid_until_ms=end,
        )


def label_account(*, organization_id: int, kind: str, text: str) -> PathAccount:
    id = derived_account_id(organization_id=organization_id, kind=kind, text=text)
    return PathAccount(id, kind, text)


def platform_account(*, kind: str, text: str, label: str = "") -> PathAccount:
    """Return the account of a model, provider or deployment."""
    id = derived_account_id(organization_id=PLATFORM, kind=kind, text=text)
    return PathAccount(id, kind, label or text)


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


def ledger_totals(counters: Sequence[Counted]) -> list[LedgerTotal]:
    """Return total, position and revision of each counter, all of one Postgres snapshot."""
    rows = _read_totals(counters)
    missing = {each for each, (spent, *_) in zip(counters, rows, strict=True) if spent is None}
    # An end user, tag or model that has never spent has no account yet: there is nothing to sum.
    made = Account.objects.filter(id__in={id for id, _ in missing})
    known = set(made.values_list("id", flat=True))
    if to_sum := {(id, period) for id, period in missing if id in known}:
        # No row is not 0: it may be that nobody has summed the ledger yet.
        with transaction.atomic():
            totals.lock_partition()
            totals.make_missing(wanted=to_sum)
        rows = _read_totals(counters)
    return [
        LedgerTotal(
            account=account.hex,
            start_ms=period.start_ms,
            end_ms=period.end_ms,
            spent=Units(spent or 0),
            generation=generation,
            position=position,
            revision=revision,
        )
        for (account, period), (spent, generation, position, revision) in zip(
            counters, rows, strict=True
        )
    ]


def _read_totals(counters: Sequence[Counted]) -> list[tuple[int | None, int, str, int]]:
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
                [account for account, _ in counters],
                [period.start for _, period in counters],
                [period.end for _, period in counters],
            ],
        )
        return list(cursor.fetchall())


def read_label(*, organization_id: int, kind: str, text: str) -> Label:
    """Return what Postgres says of an end user or tag; who has no row is as good as any."""
    account = label_account(organization_id=organization_id, kind=kind, text=text)
    user = (
        EndUser.objects.filter(account=account.id).first() if kind == AccountKind.END_USER else None
    )
    added = in_force.increases_on([account.id])
    return Label(
        account,
        blocked=user is not None and user.blocked,
        closed=_closed([account]) is not None,
        allowed_models=frozenset(user.allowed_models if user else ()),
        terms=_own_terms([account], added),
        model_terms=_model_terms([account]),
        increases=_by_public_id(added),
    )


def _by_public_id(added: Increases) -> dict[str, tuple[Added, ...]]:
    names = dict(
        Budget.objects.filter(pk__in=[pk for _, pk in added]).values_list("pk", "public_id")
    )
    return {names[pk]: each for (_, pk), each in added.items()}


def platform_terms() -> dict[UUID, tuple[Terms, ...]]:
    """Return the terms of every model, provider and deployment that has any."""
    rows = AccountBudget.objects.filter(account__organization=None).select_related(
        "account", "budget"
    )
    found: dict[UUID, list[Terms]] = defaultdict(list)
    added = in_force.platform_increases()
    for row in rows.order_by("pk"):
        account = PathAccount(row.account_id, row.account.kind, row.account.label)
        found[row.account_id].append(in_force.terms_of(account, row.budget, added))
    return {id: tuple(terms) for id, terms in found.items()}


def closed_platform_accounts() -> frozenset[UUID]:
    """Return the accounts of models, providers and deployments on which nobody may spend."""
    closed = Account.objects.filter(organization=None).exclude(closed_because="")
    return frozenset(closed.values_list("id", flat=True))


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
        model_terms=_model_terms(path),
        end_user_template=_end_user_template(key),
        closed=_closed(path),
        special_labels=_special_labels(organization.pk),
        version=version,
    )


def _closed(path: Sequence[PathAccount]) -> PathAccount | None:
    ids = Account.objects.filter(id__in=[each.id for each in path]).exclude(closed_because="")
    closed = set(ids.values_list("id", flat=True))
    return next((account for account in path if account.id in closed), None)


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
    """Return the budgets in force, in the order of the path."""
    budgets = in_force.budgets_on(account.id for account in path)
    added = in_force.increases_on(account.id for account in path)
    return tuple(
        in_force.terms_of(account, budget, added)
        for account in path
        for budget in sorted(budgets.get(account.id, ()), key=lambda each: each.public_id)
    )


def _own_terms(accounts: Sequence[PathAccount], added: Increases) -> tuple[Terms, ...]:
    by_id = {account.id: account for account in accounts}
    rows = AccountBudget.objects.filter(account__in=by_id).select_related("budget")
    return tuple(in_force.terms_of(by_id[row.account_id], row.budget, added) for row in rows)


def _model_terms(holders: Iterable[PathAccount]) -> dict[str, tuple[Terms, ...]]:
    """Return what the holders may spend on single models."""
    accounts = Account.objects.filter(holder__in=[holder.id for holder in holders])
    found: dict[str, list[Terms]] = defaultdict(list)
    rows = AccountBudget.objects.filter(account__in=accounts).select_related("account", "budget")
    rows = rows.order_by("pk")
    added = in_force.increases_on(row.account_id for row in rows)
    for row in rows:
        account = PathAccount(row.account_id, row.account.kind, row.account.label)
        found[row.account.model].append(in_force.terms_of(account, row.budget, added))
    return {model: tuple(terms) for model, terms in found.items()}


def _end_user_template(key: ApiKey) -> tuple[Terms, ...]:
    holders = [key.team.account_id] if key.team else []
    holders.append(key.organization.account_id)
    nobody = PathAccount(key.organization.account_id, AccountKind.END_USER, "")
    applies_to = BudgetTemplate.AppliesTo.END_USER
    return tuple(
        in_force.terms_of(nobody, budget)
        for budget in in_force.templates_of(holders, applies_to=applies_to)
    )


def _increased() -> Q:
    return Q(increases__state=IncreaseState.APPROVED, increases__ends_at__gt=Now())


def _special_labels(organization_id: int) -> frozenset[UUID] | None:
    """
    Return the end users and tags of which anything is said, or None if there are too many: most
    organizations have none, and their requests need not look any up.
    """
    kinds = [AccountKind.END_USER, AccountKind.TAG]
    labels = Account.objects.filter(organization=organization_id, kind__in=kinds)
    users = EndUser.objects.filter(organization=organization_id)
    said = users.filter(Q(blocked=True) | ~Q(allowed_models=[]))
    found: set[UUID] = set()
    for rows in (
        labels.filter(accountbudget__isnull=False).values_list("id", flat=True),
        labels.filter(models__accountbudget__isnull=False).values_list("id", flat=True),
        labels.exclude(closed_because="").values_list("id", flat=True),
        labels.filter(_increased()).values_list("id", flat=True),
        said.values_list("account_id", flat=True),
    ):
        found.update(rows[: SPECIAL_LABELS_MAX + 1])
    return frozenset(found) if len(found) <= SPECIAL_LABELS_MAX else None
