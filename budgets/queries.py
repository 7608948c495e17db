"""Reads: one row by the id that programs know, or a page of them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from django.db.models import Count, Model, Q, QuerySet, TextField
from django.db.models.functions import Cast

from budgets import keys
from budgets.errors import InvalidInput, NotFound
from budgets.models import (
    PLATFORM,
    Account,
    AccountBudget,
    AccountKind,
    ApiKey,
    Budget,
    BudgetTemplate,
    Change,
    Closing,
    EndUser,
    Increase,
    Membership,
    Organization,
    OrganizationMembership,
    Tag,
    Team,
    User,
    UserRole,
    derived_account_id,
)

PAGE_SIZE_MAX: Final = 100
PROVIDERS_MAX: Final = 1_000
SEES_ALL: Final = frozenset({UserRole.PROXY_ADMIN, UserRole.PROXY_ADMIN_VIEWER})
"""Roles of whom no organization is hidden from."""
NO_DIGEST: Final = "-"
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows of many, and how many there are; pages count from 1."""

    rows: list[Row]
    total: int
    number: int
    size: int

    @property
    def pages(self) -> int:
        return -(-self.total // self.size)


def page_of(rows: QuerySet[Row], *, number: int, size: int) -> Page[Row]:
    """Return one page; one beyond the last is empty."""
    assert 0 < size <= PAGE_SIZE_MAX, "pages are bounded"
    start = (number - 1) * size
    return Page(list(rows[start : start + size]), rows.count(), number, size)


def organizations_visible_to(user: User) -> QuerySet[Organization]:
    """Return every organization for administrators, and for others those that they are in."""
    if user.is_superuser or user.role in SEES_ALL:
        return Organization.objects.all()
    return Organization.objects.filter(memberships__user=user)


def find_organization(
    public_id: str, *, field: str = "organization_id", lock: bool = False
) -> Organization:
    """
    :raises NotFound: if there is none
    """
    rows = Organization.objects.filter(public_id=public_id)
    return _found(_locked(rows, lock), field, public_id)


def find_team(public_id: str, *, field: str = "team_id", lock: bool = False) -> Team:
    """
    Return a team with its organization; ``lock`` keeps it as it is until the transaction ends.

    :raises NotFound: if there is none
    """
    teams = Team.objects.select_related("organization", "account").filter(public_id=public_id)
    return _found(_locked(teams, lock), field, public_id)


def find_user(public_id: str, *, field: str = "user_id", lock: bool = False) -> User:
    """
    :raises NotFound: if there is none
    """
    return _found(_locked(User.objects.filter(public_id=public_id), lock), field, public_id)


def find_user_by_email(email: str, *, lock: bool = False) -> User:
    """
    :raises NotFound: if there is none
    """
    users = User.objects.filter(email__iexact=email)
    return _found(_locked(users, lock), "user_email", email)


def find_member(*, team: Team, user: User, lock: bool = False) -> Membership:
    """
    :raises NotFound: if the user is not in the team
    """
    members = Membership.objects.select_related("team__organization", "user", "account")
    return _found(_locked(members.filter(team=team, user=user), lock), "user_id", user.public_id)


def changes(
    *, table: str, object_id: str, since: datetime | None, until: datetime | None
) -> QuerySet[Change]:
    """Return the history's rows of a table, object and time [since, until), the newest first."""
    rows = Change.objects.order_by("-at", "-id")
    for name, value in (
        ("table_name", table), ("object_id", object_id), ("at__gte", since), ("at__lt", until),
    ):  # fmt: skip
        if value:
            rows = rows.filter(**{name: value})
    # As text too: read as usual, amounts would become floats.
    return rows.annotate(
        before_text=Cast("before", TextField()), after_text=Cast("after", TextField())
    )


def find_budget(public_id: str, *, field: str = "budget_id", lock: bool = False) -> Budget:
    """
    :raises NotFound: if there is none
    """
    budgets = _budgets_of_organizations().filter(public_id=public_id)
    return _found(_locked(budgets, lock), field, public_id)


def find_shared_budget(public_id: str, *, field: str = "budget_id") -> Budget:
    """
    :raises NotFound: if there is none that accounts can be linked to
    """
    return _found(shared_budgets().filter(public_id=public_id), field, public_id)


def find_budgets(public_ids: Sequence[str], *, field: str) -> list[Budget]:
    """
    Return budgets in the order in which they are asked for.

    :raises NotFound: naming the first that there is not
    """
    rows = _budgets_of_organizations().filter(public_id__in=public_ids)
    return _in_order({row.public_id: row for row in rows}, public_ids, field)


def find_teams(public_ids: Sequence[str], *, field: str) -> list[Team]:
    """
    :raises NotFound: naming the first that there is not
    """
    rows = Team.objects.select_related("organization", "account").filter(public_id__in=public_ids)
    return _in_order({row.public_id: row for row in rows}, public_ids, field)


def find_organizations(public_ids: Sequence[str], *, field: str) -> list[Organization]:
    """
    :raises NotFound: naming the first that there is not
    """
    rows = Organization.objects.filter(public_id__in=public_ids)
    return _in_order({row.public_id: row for row in rows}, public_ids, field)


def all_keys() -> QuerySet[ApiKey]:
    """Return keys with what is told about them."""
    return ApiKey.objects.select_related("organization", "team", "user", "account")


def find_key(reference: str, *, field: str = "key", lock: bool = False) -> ApiKey:
    """
    Return the key of a secret, or of a token (its digest, or LiteLLM's hash of it).

    :raises NotFound: if there is none; it tells the first characters of a secret, never all
    """
    digest, legacy = _digests(reference)
    found = all_keys().filter(Q(digest=digest) | Q(legacy_digest=legacy))
    return _found(_locked(found, lock), field, shortened(reference))


def find_keys(references: Sequence[str], *, field: str) -> list[ApiKey]:
    """
    :raises NotFound: naming the first that there is not
    """
    digests = dict(zip(references, map(_digests, references), strict=True))
    rows = all_keys().filter(
        Q(digest__in=[ours for ours, _ in digests.values()])
        | Q(legacy_digest__in=[theirs for _, theirs in digests.values()])
    )
    known = {row.digest: row for row in rows} | {
        row.legacy_digest: row for row in rows if row.legacy_digest
    }
    found = {
        reference: known[digest]
        for reference, both in digests.items()
        for digest in both
        if digest in known
    }
    return _in_order(found, references, field)


def find_keys_by_alias(aliases: Sequence[str], *, field: str) -> list[ApiKey]:
    """
    :raises NotFound: naming the first that there is not
    :raises InvalidInput: if several organizations have a key of that alias
    """
    rows = list(all_keys().filter(name__in=aliases))
    found = {row.name: row for row in rows}
    if len(found) < len(rows):
        raise InvalidInput(field, "names keys of several organizations; give their tokens instead")
    return _in_order(found, aliases, field)


def key_digests(reference: str) -> tuple[str, ...]:
    """Return the digests under which the ledger may have the requests of a key, deleted or not."""
    return _digests(reference)


def shortened(reference: str) -> str:
    """Return as much of a secret or token as may be shown."""
    return f"{reference[: keys.SHOWN_CHARACTERS]}…"


def own_budget(account_id: Any) -> Budget | None:
    """Return the budget that is made of an account's own limits."""
    return Budget.objects.filter(private_to=account_id).first()


def model_budgets(account_id: Any) -> dict[str, Budget]:
    """Return the budgets of the single models that are limited on an account, by their names."""
    rows = Budget.objects.filter(private_to__holder=account_id).select_related("private_to")
    return {budget.private_to.model: budget for budget in rows if budget.private_to}


def templates_of(account_ids: Iterable[Any]) -> dict[Any, dict[str, Budget]]:
    """Return what each team or organization gives to whom, by kind; of several the first."""
    found: dict[Any, dict[str, Budget]] = defaultdict(dict)
    rows = BudgetTemplate.objects.filter(holder__in=list(account_ids)).select_related("budget")
    for row in rows.order_by("pk"):
        found[row.holder_id].setdefault(row.applies_to, row.budget)
    return found


def shared_budgets() -> QuerySet[Budget]:
    """Return the budgets that accounts can be linked to."""
    return _budgets_of_organizations().filter(private_to=None, window_of=None)


def all_teams() -> QuerySet[Team]:
    return Team.objects.select_related("organization")


def users_with_key_counts() -> QuerySet[User]:
    """Return users, the newest first, with ``key_count``."""
    return User.objects.annotate(key_count=Count("keys", distinct=True)).order_by(
        "-date_joined", "-id"
    )


def all_end_users() -> QuerySet[EndUser]:
    return EndUser.objects.select_related("organization", "account").order_by("external_id", "pk")


def find_end_user(
    external_id: str, *, organization: Organization, field: str = "user_id"
) -> EndUser:
    """
    :raises NotFound: if the organization has none
    """
    rows = all_end_users().filter(organization=organization, external_id=external_id)
    return _found(rows, field, external_id)


def find_end_users(
    external_ids: Sequence[str], *, organization: Organization, field: str
) -> list[EndUser]:
    """
    :raises NotFound: naming the first that there is not
    """
    rows = all_end_users().filter(organization=organization, external_id__in=external_ids)
    return _in_order({row.external_id: row for row in rows}, external_ids, field)


def blocked_end_users(organization: Organization) -> list[str]:
    """Return the first so many end users of an organization that are blocked."""
    rows = EndUser.objects.filter(organization=organization, blocked=True)
    return list(rows.order_by("external_id").values_list("external_id", flat=True)[:1_000])


def all_tags() -> QuerySet[Tag]:
    return Tag.objects.select_related("organization", "account").order_by("name", "pk")


def find_tag(name: str, *, organization: Organization) -> Tag:
    """
    :raises NotFound: if the organization has none
    """
    rows = all_tags().filter(organization=organization, name=name)
    return _found(rows, "name", name)


def find_tags(names: Sequence[str], *, organization: Organization, field: str) -> list[Tag]:
    """
    :raises NotFound: naming the first that there is not
    """
    rows = all_tags().filter(organization=organization, name__in=names)
    return _in_order({row.name: row for row in rows}, names, field)


def find_account(id: UUID, *, field: str = "account_id") -> Account:
    """
    :raises NotFound: if it has neither a holder nor spent anything yet
    """
    return _found(Account.objects.select_related("organization").filter(pk=id), field, str(id))


def find_any_budget(public_id: str, *, field: str = "budget_id") -> Budget:
    """
    Return a budget, the platform's too.

    :raises NotFound: if there is none
    """
    return _found(Budget.objects.filter(public_id=public_id), field, public_id)


def all_increases() -> QuerySet[Increase]:
    """Return increases with what is told about them, the newest first."""
    return Increase.objects.select_related("account__organization", "account__holder", "budget")


def find_increase(id: UUID) -> Increase:
    """
    :raises NotFound: if there is none
    """
    return _found(all_increases().filter(pk=id), "increase_id", str(id))


def platform_account_id(kind: AccountKind, text: str) -> UUID:
    """Return the account id of a model, provider or deployment, whether it has spent or not."""
    return derived_account_id(organization_id=PLATFORM, kind=kind, text=text)


def limited_accounts(kind: AccountKind) -> QuerySet[Account]:
    """Return the accounts of models, providers or deployments that have budgets."""
    limited = AccountBudget.objects.filter(account__kind=kind).values("account")
    rows = Account.objects.filter(kind=kind, organization=None, id__in=limited)
    return rows.order_by("label", "id")


def find_limited_account(kind: AccountKind, text: str, *, field: str) -> Account:
    """
    :raises NotFound: if it has no budget
    """
    id = platform_account_id(kind, text)
    return _found(limited_accounts(kind).filter(id=id), field, text)


def closings_of(account_id: UUID, *, budget: str | None = None) -> QuerySet[Closing]:
    """
    Return the closed periods of an account, or of one budget on it, the newest first.

    :raises NotFound: if there is no such account
    """
    _found(Account.objects.filter(id=account_id), "account", str(account_id))
    rows = Closing.objects.filter(account=account_id).order_by("-period_end", "-id")
    if budget is not None:
        rows = rows.filter(budget__public_id=budget)
    return rows.select_related("account__organization", "budget")


def membership_for(user: User, organization: Organization | None) -> OrganizationMembership | None:
    """
    Return the membership by whose account a user is shown: that in ``organization``, or where none
    is named the oldest. Reads nothing if the user's memberships were prefetched.
    """
    joined = sorted(user.organizations.all(), key=lambda each: each.pk)
    if organization is not None:
        joined = [each for each in joined if each.organization_id == organization.pk]
    return joined[0] if joined else None


def _budgets_of_organizations() -> QuerySet[Budget]:
    """Those of models, providers and deployments belong to no organization."""
    return Budget.objects.filter(organization__isnull=False).select_related("organization")


def _found(rows: QuerySet[Row], field: str, value: str) -> Row:
    row = rows.first()
    if row is None:
        raise NotFound(field, value)
    return row


def _locked(rows: QuerySet[Row], lock: bool) -> QuerySet[Row]:
    # Of no key: the recorder, which holds the partition, refers to rows that wait for it.
    return rows.select_for_update(of=("self",), no_key=True) if lock else rows


def _in_order(found: dict[str, Row], wanted: Iterable[str], field: str) -> list[Row]:
    """Return each once, in the order asked for."""
    rows: dict[Any, Row] = {}
    for n, name in enumerate(wanted):
        if name not in found:
            raise NotFound(f"{field}[{n}]", shortened(name) if field == "keys" else name)
        rows[found[name].pk] = found[name]
    return list(rows.values())


def _digests(reference: str) -> tuple[str, str]:
    """Return what a key's digest, and its hash at LiteLLM, would be."""
    if reference.startswith("sk-"):
        return keys.digest(reference), keys.legacy_digest(reference)
    token = reference if _TOKEN.fullmatch(reference) else NO_DIGEST
    return token, token
