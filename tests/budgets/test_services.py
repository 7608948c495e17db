"""Each write does one thing in one transaction, or says which field is wrong and does nothing."""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction

from budgets import keys as secrets
from budgets import snapshots
from budgets.changes import change
from budgets.contexts import PathAccount
from budgets.errors import Conflict, InvalidInput
from budgets.livestore import LiveStore
from budgets.models import (
    Account,
    AccountBudget,
    AccountKind,
    ApiKey,
    Budget,
    Change,
    Membership,
    Organization,
    OrganizationMembership,
    PeriodTotal,
    Team,
    TeamRole,
    User,
)
from budgets.services import accounts, budgets, keys, tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Owner
from tests.budgets.support import Bench, account, context, record_everything
from tests.conftest import Cast

FIVE = Terms(max_budget=Decimal(5), duration="1d")


def now() -> datetime:
    return datetime.now(UTC)


def execute(sql: str, values: Sequence[Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def private_of(holder: Account) -> Budget | None:
    return Budget.objects.filter(private_to=holder).first()


def in_force_on(holder: Account) -> set[int]:
    return set(AccountBudget.objects.filter(account=holder).values_list("budget_id", flat=True))


def changes_kept() -> int:
    return Change.objects.count()


# --- Terms -------------------------------------------------------------------------------


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (Terms(max_budget=Decimal("-0.000000001")), "max_budget"),
        (Terms(max_budget=Decimal("1000000000.000000001")), "max_budget"),
        (Terms(max_budget=Decimal("0.0000000001")), "max_budget"),
        (Terms(max_budget=Decimal("NaN")), "max_budget"),
        (Terms(max_budget=Decimal("sNaN")), "max_budget"),
        (Terms(max_budget=Decimal("Infinity")), "max_budget"),
        (Terms(soft_budget=Decimal("-Infinity")), "soft_budget"),
        (Terms(soft_budget=Decimal(-1)), "soft_budget"),
        (Terms(max_budget=Decimal(1), soft_budget=Decimal("1.000000001")), "soft_budget"),
        (Terms(duration="30 d"), "budget_duration"),
        (Terms(duration="1 d"), "budget_duration"),
        (Terms(time_zone="Mars/Olympus"), "budget_time_zone"),
        (Terms(time_zone=""), "budget_time_zone"),
        (Terms(enforcement="lax"), "enforcement"),
        (Terms(enforcement=""), "enforcement"),
    ],
)
def test_terms_that_do_not_fit_name_their_field(terms: Terms, field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        terms.checked()

    assert refusal.value.field == field
    assert refusal.value.problem


@pytest.mark.no_servers
@pytest.mark.parametrize(
    "terms",
    [
        Terms(),
        Terms(max_budget=Decimal(0)),
        Terms(max_budget=Decimal(10**9)),
        Terms(max_budget=Decimal("0.000000001")),
        Terms(max_budget=Decimal("1.50000000000000")),
        Terms(max_budget=Decimal("1E+8")),
        Terms(max_budget=Decimal(5), soft_budget=Decimal(5)),
        Terms(soft_budget=Decimal(5)),
    ],
)
def test_terms_at_the_bounds_fit(terms: Terms) -> None:
    checked = terms.checked()

    assert (checked.max_budget, checked.soft_budget) == (terms.max_budget, terms.soft_budget)


@pytest.mark.no_servers
def test_durations_are_kept_in_their_one_spelling() -> None:
    assert Terms(duration="monthly").checked().duration == "1mo"
    assert Terms(duration="7d").checked().duration == "1w"


# --- Constraints, named ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "change_to"),
    [
        ("budget_max_in_range", "max_budget = -1"),
        ("budget_max_in_range", "max_budget = 1000000000.000000001"),
        ("budget_soft_in_range", "soft_budget = -0.000000001"),
        ("budget_soft_in_range", "soft_budget = 1000000001, max_budget = NULL"),
        ("budget_soft_not_above_max", "max_budget = 1, soft_budget = 1.000000001"),
        ("budget_duration_is_canonical", "duration = '0d'"),
        ("budget_duration_is_canonical", "duration = 'monthly'"),
        ("budget_enforcement_is_known", "enforcement = 'lax'"),
    ],
)
def test_budget_that_does_not_fit_is_refused_by_the_database(
    constraint: str, change_to: str, cast: Cast
) -> None:
    budget = budgets.create_budget(organization=cast.organization, terms=FIVE)

    with pytest.raises(IntegrityError, match=constraint):
        execute(f"UPDATE budgets_budget SET {change_to} WHERE id = %s", [budget.pk])


def test_nan_is_no_limit_for_the_database_either(cast: Cast) -> None:
    budget = budgets.create_budget(organization=cast.organization, terms=FIVE)

    with pytest.raises(IntegrityError, match="budget_max_in_range"):
        execute("UPDATE budgets_budget SET max_budget = 'NaN' WHERE id = %s", [budget.pk])


def test_period_that_runs_backwards_is_refused_by_the_database(cast: Cast) -> None:
    of, at = account(cast.organization), now()

    with pytest.raises(IntegrityError, match="total_period_is_forward"):
        PeriodTotal.objects.create(account_id=of.id, period_start=at, period_end=at)


@pytest.mark.parametrize(
    ("constraint", "double"),
    [
        ("budget_once_per_account", lambda c, k, b: AccountBudget.objects.bulk_create(
            [AccountBudget(account=k.account, budget=b)] * 2)),
        ("user_once_per_organization", lambda c, k, b: OrganizationMembership.objects.create(
            organization=c.organization, user=c.user, account_id=account(c.organization).id)),
        ("total_once_per_period", lambda c, k, b: PeriodTotal.objects.bulk_create(
            [PeriodTotal(account=k.account, period_start=now().replace(hour=0, microsecond=0),
                         period_end=datetime(2999, 1, 1, tzinfo=UTC))] * 2)),
        ("key_name_once_per_organization", lambda c, k, b: execute(
            "UPDATE budgets_apikey SET name = 'same' WHERE organization_id = %s",
            [c.organization.pk])),
    ],
)  # fmt: skip
def test_what_may_be_there_once_is_refused_twice_by_the_database(
    constraint: str, double: Callable[..., object], cast: Cast
) -> None:
    key, budget = cast.key().key, budgets.create_budget(organization=cast.organization, terms=FIVE)
    cast.key()

    with pytest.raises(IntegrityError, match=constraint):
        double(cast, key, budget)


# --- Conflicts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "again"),
    [
        ("organization_id", lambda c: tenancy.create_organization(
            values={"public_id": c.organization.public_id, "name": "x"}, terms=FIVE, now=now())),
        ("team_id", lambda c: tenancy.create_team(
            organization=c.outsider, values={"public_id": c.team.public_id, "name": "x"},
            terms=FIVE, now=now())),
        ("user_id", lambda c: tenancy.create_user(
            values={"public_id": c.user.public_id}, organization=c.outsider, terms=FIVE,
            now=now())),
        ("user_email", lambda c: tenancy.create_user(
            values={"email": c.user.email}, organization=c.outsider, terms=FIVE, now=now())),
        ("budget_id", lambda c: budgets.create_budget(
            organization=c.outsider, terms=FIVE, public_id="budget-of-test-services")),
        ("key_alias", lambda c: c.key(name="taken")),
    ],
)  # fmt: skip
def test_id_that_is_taken_is_a_conflict_that_names_it_and_changes_nothing(
    field: str, again: Callable[[Cast], object], cast: Cast
) -> None:
    if not Budget.objects.filter(public_id="budget-of-test-services").exists():
        budgets.create_budget(
            organization=cast.organization, terms=FIVE, public_id="budget-of-test-services"
        )
    cast.key(name="taken")
    before = changes_kept(), Account.objects.count(), snapshots.version_of(cast.outsider.pk)

    with pytest.raises(Conflict) as refusal:
        again(cast)

    assert refusal.value.field == field
    after = changes_kept(), Account.objects.count(), snapshots.version_of(cast.outsider.pk)
    assert after == before


def test_secret_that_is_taken_is_a_conflict(cast: Cast) -> None:
    secret = f"sk-{uuid.uuid4()}"
    owner = Owner(cast.organization)
    keys.issue_key(owner=owner, values={}, terms=Terms(), secret=secret, now=now())
    other = cast.key().key

    with pytest.raises(Conflict) as issuing:
        keys.issue_key(owner=owner, values={}, terms=Terms(), secret=secret, now=now())
    with pytest.raises(Conflict) as rotating:
        keys.rotate_key(key=other, secret=secret)

    assert (issuing.value.field, rotating.value.field) == ("key", "new_key")
    assert ApiKey.objects.filter(digest=secrets.digest(secret)).count() == 1


def test_master_key_is_never_a_key_that_calls_models(cast: Cast) -> None:
    with pytest.raises(InvalidInput):
        keys.issue_key(
            owner=Owner(cast.organization), values={}, terms=Terms(),
            secret=settings.MASTER_KEY, now=now(),
        )  # fmt: skip


def test_member_twice_is_a_conflict(cast: Cast) -> None:
    def add() -> Membership:
        return tenancy.add_member(
            team=cast.team, user=cast.user, role=TeamRole.USER, terms=FIVE, now=now()
        )

    add()

    with pytest.raises(Conflict) as refusal:
        add()

    assert refusal.value.field == "member"
    assert Membership.objects.filter(team=cast.team, user=cast.user).count() == 1


@pytest.mark.parametrize(
    "refused",
    [
        lambda c, bad: tenancy.create_team(
            organization=c.organization, values={"name": "x"}, terms=bad, now=now()),
        lambda c, bad: tenancy.create_organization(values={"name": "x"}, terms=bad, now=now()),
        lambda c, bad: tenancy.create_user(
            values={}, organization=c.organization, terms=bad, now=now()),
        lambda c, bad: keys.issue_key(
            owner=Owner(c.organization, c.team, c.user), values={}, terms=bad, now=now()),
        lambda c, bad: tenancy.add_member(
            team=c.team, user=c.user, role=TeamRole.USER, terms=bad, now=now()),
        lambda c, bad: budgets.create_budget(organization=c.organization, terms=bad),
        lambda c, bad: tenancy.update_team(
            team=c.team, values={"name": "never"}, terms=bad, now=now()),
    ],
)  # fmt: skip
def test_write_with_terms_that_do_not_fit_writes_nothing_at_all(
    refused: Callable[[Cast, Terms], object], cast: Cast
) -> None:
    before = changes_kept(), Account.objects.count(), Membership.objects.count()

    with pytest.raises(InvalidInput, match="must be from 0"):
        refused(cast, Terms(max_budget=Decimal(-1)))

    assert (changes_kept(), Account.objects.count(), Membership.objects.count()) == before


# --- Accounts and budgets ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "holder"),
    [
        ("organization", lambda c: c.organization),
        ("team", lambda c: c.team),
        ("user", lambda c: c.user.organizations.get(organization=c.organization)),
        ("key", lambda c: c.key().key),
        ("member", lambda c: tenancy.add_member(
            team=c.team, user=c.user, role=TeamRole.USER, terms=Terms(), now=now())),
    ],
)  # fmt: skip
def test_whoever_can_spend_holds_an_account_of_its_organization(
    kind: str, holder: Callable[[Cast], object], cast: Cast
) -> None:
    held = Account.objects.get(pk=holder(cast).account_id)  # type: ignore[attr-defined]

    assert held.kind == kind
    assert held.organization_id == cast.organization.pk


def test_inline_limits_make_a_private_budget_and_replace_it_in_place(cast: Cast) -> None:
    key = cast.key(limit="5").key
    first = private_of(key.account)

    keys.update_key(key=key, values={}, terms=Terms(max_budget=Decimal(7)), now=now())
    second = private_of(key.account)

    assert first is not None
    assert second is not None
    assert (first.pk, first.max_budget) != (second.pk, second.max_budget)
    assert first.pk == second.pk
    assert (second.max_budget, second.duration) == (Decimal(7), "")
    assert in_force_on(key.account) == {second.pk}


def test_terms_that_say_nothing_end_the_private_budget(cast: Cast) -> None:
    key = cast.key(limit="5").key

    keys.update_key(key=key, values={}, terms=Terms(), now=now())

    assert private_of(key.account) is None
    assert in_force_on(key.account) == set()


def test_limits_stay_where_terms_are_not_given(cast: Cast) -> None:
    key = cast.key(limit="5").key

    keys.update_key(key=key, values={"name": "renamed"}, now=now())

    kept = private_of(key.account)
    assert kept is not None
    assert kept.max_budget == Decimal(5)


def test_inline_limits_win_over_a_linked_budget(cast: Cast) -> None:
    shared = budgets.create_budget(organization=cast.organization, terms=FIVE)

    issued = keys.issue_key(
        owner=Owner(cast.organization), values={}, terms=Terms(max_budget=Decimal(1)),
        budgets=[shared], now=now(),
    )  # fmt: skip

    private = private_of(issued.key.account)
    assert private is not None
    assert in_force_on(issued.key.account) == {private.pk}


def test_linking_replaces_shared_budgets_and_leaves_the_private_one(cast: Cast) -> None:
    one, two = (budgets.create_budget(organization=cast.organization, terms=FIVE) for _ in "ab")
    key = cast.key(limit="5").key
    private = private_of(key.account)
    assert private is not None
    keys.update_key(key=key, values={}, budgets=[one], now=now())

    keys.update_key(key=key, values={}, budgets=[two], now=now())
    both = in_force_on(key.account)
    keys.update_key(key=key, values={}, budgets=[], now=now())

    assert both == {two.pk, private.pk}
    assert in_force_on(key.account) == {private.pk}


def test_budget_of_another_organization_is_refused(cast: Cast) -> None:
    theirs = budgets.create_budget(organization=cast.outsider, terms=FIVE)
    key = cast.key().key

    with pytest.raises(InvalidInput) as refusal:
        keys.update_key(key=key, values={"name": "never"}, budgets=[theirs], now=now())

    assert refusal.value.field == "budget_id"
    assert in_force_on(key.account) == set()
    assert ApiKey.objects.get(pk=key.pk).name != "never"


@pytest.mark.parametrize("kind", [AccountKind.END_USER, AccountKind.TAG])
def test_budget_of_an_organization_cannot_be_put_on_what_all_organizations_share(
    kind: AccountKind, cast: Cast
) -> None:
    label = Account.objects.create(organization=cast.organization, kind=kind, label="x")
    provider = accounts.platform_account(kind=AccountKind.PROVIDER, text=f"p-{label.id}")
    budget = budgets.create_budget(organization=cast.organization, terms=FIVE)

    with change(scope=cast.organization.pk):
        accounts.attach(account=label, budget=budget, now=now())
    with pytest.raises(InvalidInput), change(scope=cast.organization.pk):
        accounts.attach(account=provider, budget=budget, now=now())

    assert in_force_on(label) == {budget.pk}
    assert in_force_on(provider) == set()


def test_budget_that_is_in_use_is_not_deleted(cast: Cast) -> None:
    budget = budgets.create_budget(organization=cast.organization, terms=FIVE)
    key = cast.key().key
    keys.update_key(key=key, values={}, budgets=[budget], now=now())

    with pytest.raises(InvalidInput, match="linked to 1"):
        budgets.delete_budget(budget=budget)
    keys.update_key(key=key, values={}, budgets=[], now=now())
    budgets.delete_budget(budget=Budget.objects.get(pk=budget.pk))

    assert not Budget.objects.filter(public_id=budget.public_id).exists()


def test_change_of_a_shared_budget_is_one_change_for_all_who_have_it(cast: Cast) -> None:
    budget = budgets.create_budget(organization=cast.organization, terms=FIVE, name="Shared")
    issued = [cast.key() for _ in range(2)]
    for each in issued:
        keys.update_key(key=each.key, values={}, budgets=[budget], now=now())

    budgets.update_budget(budget=budget, terms=Terms(max_budget=Decimal(9)), now=now())

    limits = [snapshots.read_key(digest=each.key.digest, legacy_digest="") for each in issued]
    assert [each.terms[0].max_budget for each in limits if each] == [Decimal(9)] * 2
    assert accounts.terms_of(Budget.objects.get(pk=budget.pk)) == Terms(max_budget=Decimal(9))


def test_account_is_named_like_its_holder(cast: Cast) -> None:
    key = cast.key(name="first").key

    keys.update_key(key=key, values={"name": "second"}, now=now())
    tenancy.update_team(team=cast.team, values={"name": "T2"}, terms=None, now=now())
    tenancy.update_organization(organization=cast.organization, values={"name": "O2"})

    ids = [key.account_id, cast.team.account_id, cast.organization.account_id]
    assert [Account.objects.get(pk=id).label for id in ids] == ["second", "T2", "O2"]


# --- Keys --------------------------------------------------------------------------------


def test_secret_is_in_the_answer_and_nowhere_else(cast: Cast) -> None:
    issued = cast.key()

    row = str(ApiKey.objects.filter(pk=issued.key.pk).values().get())
    assert secrets.is_well_formed(issued.secret)
    assert issued.secret not in row
    assert issued.secret[len(issued.key.prefix) :] not in row
    assert issued.key.digest == secrets.digest(issued.secret)
    assert issued.secret.startswith(issued.key.prefix)
    assert len(issued.key.prefix) == 10


@pytest.mark.parametrize(
    "secret", ["short", "sk-little", "pk-12345678901234567", "sk-cp-not-ours-at-all"]
)
def test_secret_of_ones_own_that_is_none_is_refused(secret: str, cast: Cast) -> None:
    key = cast.key().key

    with pytest.raises(InvalidInput) as issuing:
        keys.issue_key(
            owner=Owner(cast.organization), values={}, terms=Terms(), secret=secret, now=now()
        )
    with pytest.raises(InvalidInput):
        keys.rotate_key(key=key, secret=secret)

    assert issuing.value.field == "key"
    assert secret not in issuing.value.problem


def test_rotated_key_has_a_new_secret_and_keeps_account_and_limits(cast: Cast) -> None:
    old = cast.key(limit="5")
    ApiKey.objects.filter(pk=old.key.pk).update(legacy_digest=secrets.legacy_digest(old.secret))
    old_digest = old.key.digest

    new = keys.rotate_key(key=old.key)

    by_old = snapshots.read_key(digest=old_digest, legacy_digest=secrets.legacy_digest(old.secret))
    by_new = snapshots.read_key(digest=secrets.digest(new.secret), legacy_digest="")
    assert new.secret != old.secret
    assert by_old is None
    assert by_new is not None
    assert by_new.path[0].id == old.key.account_id
    assert by_new.terms[0].max_budget == Decimal(5)


def test_key_for_a_team_of_another_organization_is_refused(cast: Cast) -> None:
    with pytest.raises(InvalidInput) as issuing:
        keys.issue_key(owner=Owner(cast.outsider, cast.team), values={}, terms=Terms(), now=now())
    theirs = keys.issue_key(owner=Owner(cast.outsider), values={}, terms=Terms(), now=now()).key
    with pytest.raises(InvalidInput) as moving:
        keys.update_key(key=theirs, values={"team": cast.team}, now=now())

    assert (issuing.value.field, moving.value.field) == ("team_id", "team_id")
    assert ApiKey.objects.get(pk=theirs.pk).team_id is None


def test_first_key_of_a_user_makes_the_accounts_it_needs_and_the_second_shares_them(
    cast: Cast,
) -> None:
    owner = Owner(cast.organization, cast.team, cast.user)

    paths = []
    for _ in range(2):
        key = keys.issue_key(owner=owner, values={}, terms=Terms(), now=now()).key
        found = snapshots.read_key(digest=key.digest, legacy_digest="")
        assert found is not None
        paths.append([(each.kind, each.id) for each in found.path])

    assert [kind for kind, _ in paths[0]] == ["key", "member", "user", "team", "organization"]
    assert paths[0][1:] == paths[1][1:]


def test_key_of_a_user_without_a_team_has_the_users_account_on_its_path(cast: Cast) -> None:
    owner = Owner(cast.organization, None, cast.user)

    key = keys.issue_key(owner=owner, values={}, terms=Terms(), now=now()).key

    found = snapshots.read_key(digest=key.digest, legacy_digest="")
    assert found is not None
    assert [each.kind for each in found.path] == ["key", "user", "organization"]


def test_account_of_a_user_is_another_in_another_organization(cast: Cast) -> None:
    ours = tenancy.join_organization(organization=cast.organization, user=cast.user)

    theirs = tenancy.join_organization(organization=cast.outsider, user=cast.user)

    assert ours.account_id != theirs.account_id
    assert theirs.account.organization_id == cast.outsider.pk


def test_deleted_key_is_gone_and_its_account_stays(cast: Cast) -> None:
    issued = cast.key(limit="5")

    keys.delete_keys(chosen=[issued.key])

    assert snapshots.read_key(digest=secrets.digest(issued.secret), legacy_digest="") is None
    assert Account.objects.filter(pk=issued.key.account_id).exists()


def test_blocked_key_can_be_admitted_again(cast: Cast) -> None:
    issued = cast.key()
    keys.block_key(key=issued.key, blocked=True)

    keys.block_key(key=issued.key, blocked=False)

    found = snapshots.read_key(digest=issued.key.digest, legacy_digest="")
    assert found is not None
    assert not found.blocked


def test_key_that_expires_is_valid_until_then_and_not_longer(cast: Cast) -> None:
    at = now() + timedelta(minutes=5)
    issued = cast.key(expires_at=at)

    found = snapshots.read_key(digest=issued.key.digest, legacy_digest="")

    assert found is not None
    until = found.context(at=now(), global_version=0, model="m").valid_until_ms
    assert until == int(at.timestamp() * 1_000)


# --- Members, users, organizations -------------------------------------------------------


def test_unknown_role_is_refused(cast: Cast) -> None:
    member = tenancy.add_member(
        team=cast.team, user=cast.user, role=TeamRole.USER, terms=Terms(), now=now()
    )

    with pytest.raises(InvalidInput) as adding:
        tenancy.add_member(team=cast.team, user=cast.user, role="owner", terms=Terms(), now=now())
    with pytest.raises(InvalidInput):
        tenancy.update_member(member=member, role="owner", terms=None, now=now())
    tenancy.update_member(member=member, role=TeamRole.ADMIN, terms=None, now=now())

    assert adding.value.field == "role"
    assert Membership.objects.get(pk=member.pk).role == TeamRole.ADMIN


def test_member_who_leaves_takes_the_keys_for_that_team_along(cast: Cast) -> None:
    owner = Owner(cast.organization, cast.team, cast.user)
    for_team = keys.issue_key(owner=owner, values={}, terms=Terms(), now=now()).key
    own = keys.issue_key(
        owner=Owner(cast.organization, None, cast.user), values={}, terms=Terms(), now=now()
    ).key

    tenancy.remove_member(member=Membership.objects.get(team=cast.team, user=cast.user))

    assert not ApiKey.objects.filter(pk=for_team.pk).exists()
    assert ApiKey.objects.filter(pk=own.pk).exists()
    assert not Membership.objects.filter(team=cast.team, user=cast.user).exists()


def test_deleted_team_leaves_its_accounts_and_what_they_spent(cast: Cast) -> None:
    owner = Owner(cast.organization, cast.team, cast.user)
    key = keys.issue_key(owner=owner, values={}, terms=FIVE, now=now()).key
    ids = cast.team.account_id, key.account_id

    tenancy.delete_teams(teams=[cast.team])

    assert not Team.objects.filter(pk=cast.team.pk).exists()
    assert not ApiKey.objects.filter(pk=key.pk).exists()
    assert Account.objects.filter(pk__in=ids).count() == 2


def test_new_user_cannot_log_in_with_any_password(cast: Cast) -> None:
    assert not User.objects.get(pk=cast.user.pk).has_usable_password()


def test_user_keeps_its_fields_where_only_limits_change(cast: Cast) -> None:
    tenancy.update_user(
        user=cast.user, values={}, organization=cast.organization, terms=FIVE, now=now()
    )

    joined = OrganizationMembership.objects.get(organization=cast.organization, user=cast.user)
    private = private_of(joined.account)
    assert private is not None
    assert private.max_budget == Decimal(5)
    assert User.objects.get(pk=cast.user.pk).email == cast.user.email


async def test_currency_of_an_organization_stays_once_it_has_spent(
    store: LiveStore, cast: Cast
) -> None:
    of: PathAccount = account(cast.organization)
    await Bench(store, of, context(cast.organization, [of])).spend(5)
    record_everything()

    with pytest.raises(InvalidInput):
        tenancy.update_organization(organization=cast.organization, values={"currency": "EUR"})

    assert Organization.objects.get(pk=cast.organization.pk).currency == "USD"


def test_change_within_a_transaction_ends_with_it(cast: Cast) -> None:
    before = changes_kept()

    with transaction.atomic():
        cast.key()
        tenancy.update_team(team=cast.team, values={"name": "never"}, terms=None, now=now())
        transaction.set_rollback(True)

    assert changes_kept() == before
