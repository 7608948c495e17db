"""Whoever changes the configuration, and however: the version grows, in the order of commits."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction

from budgets import snapshots, storekeeper
from budgets.changes import change
from budgets.models import (
    ApiKey,
    Budget,
    ConfigVersion,
    EndUser,
    Membership,
    Tag,
    Team,
    TeamRole,
    User,
)
from budgets.scripts import TAG
from budgets.services import accounts, budgets, keys, tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Owner
from tests.budgets.support import account
from tests.conftest import Cast

LIMITED = Terms(max_budget=Decimal(5), duration="1d")


@dataclass
class World:
    """An organization with one of everything, to be changed."""

    cast: Cast
    team: Team
    member: Membership
    user: User
    key: ApiKey
    budget: Budget

    @property
    def scope(self) -> int:
        return self.cast.organization.pk


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def world(cast: Cast) -> World:
    organization = cast.organization
    member = tenancy.add_member(
        team=cast.team, user=cast.user, role=TeamRole.USER, terms=Terms(), now=now()
    )
    budget = budgets.create_budget(organization=organization, terms=LIMITED)
    owner = Owner(organization, cast.team, cast.user)
    key = keys.issue_key(owner=owner, values={}, terms=LIMITED, now=now()).key
    return World(cast, cast.team, member, cast.user, key, budget)


def execute(sql: str, values: Sequence[Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def global_version() -> int:
    return snapshots.version_of(snapshots.GLOBAL_SCOPE)


@contextmanager
def another_connection() -> Iterator["psycopg.Connection"]:
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as other:
        # Who waits for the other here would wait for ever.
        for impatient in (other.execute, execute):
            impatient("SET lock_timeout = '3s'")
        yield other


# --- Every change counts -----------------------------------------------------------------

BY_SERVICE: dict[str, Callable[[World], object]] = {
    "organization": lambda w: tenancy.update_organization(
        organization=w.cast.organization, values={"blocked": True}
    ),
    "team made": lambda w: tenancy.create_team(
        organization=w.cast.organization, values={"name": "New"}, terms=Terms(), now=now()
    ),
    "team": lambda w: tenancy.update_team(
        team=w.team, values={"blocked": True}, terms=None, now=now()
    ),
    "team's limits": lambda w: tenancy.update_team(
        team=w.team, values={}, terms=LIMITED, now=now()
    ),
    "team deleted": lambda w: tenancy.delete_teams(teams=[w.team]),
    "user": lambda w: tenancy.update_user(
        user=w.user, values={"is_active": False}, organization=w.cast.organization,
        terms=None, now=now(),
    ),
    "user's limits": lambda w: tenancy.update_user(
        user=w.user, values={}, organization=w.cast.organization, terms=LIMITED, now=now()
    ),
    "user made": lambda w: tenancy.create_user(
        values={}, organization=w.cast.organization, terms=Terms(), now=now()
    ),
    "member's limits": lambda w: tenancy.update_member(
        member=w.member, role=None, terms=LIMITED, now=now()
    ),
    "member removed": lambda w: tenancy.remove_member(member=w.member),
    "key made": lambda w: w.cast.key(limit="1"),
    "key": lambda w: keys.update_key(key=w.key, values={"name": "renamed"}, now=now()),
    "key's limits": lambda w: keys.update_key(key=w.key, values={}, terms=Terms(), now=now()),
    "key blocked": lambda w: keys.block_key(key=w.key, blocked=True),
    "key rotated": lambda w: keys.rotate_key(key=w.key),
    "key deleted": lambda w: keys.delete_keys(chosen=[w.key]),
    "budget made": lambda w: budgets.create_budget(
        organization=w.cast.organization, terms=LIMITED
    ),
    "budget": lambda w: budgets.update_budget(budget=w.budget, terms=Terms(), now=now()),
    "budget deleted": lambda w: budgets.delete_budget(budget=w.budget),
    "budget put on": lambda w: keys.update_key(
        key=w.key, values={}, budgets=[w.budget], now=now()
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BY_SERVICE)
def test_change_by_a_service_raises_the_version_here_and_in_the_store(
    what: str, world: World
) -> None:
    before = snapshots.version_of(world.scope)
    theirs = snapshots.version_of(world.cast.outsider.pk)

    BY_SERVICE[what](world)

    after = snapshots.version_of(world.scope)
    assert after > before
    assert storekeeper.store().hget(f"{TAG}ver", str(world.scope)) == str(after).encode()
    assert snapshots.version_of(world.cast.outsider.pk) == theirs


BY_SQL: dict[str, tuple[str, Callable[[World], object]]] = {
    "organization": (
        "UPDATE budgets_organization SET blocked = true WHERE id = %s", lambda w: w.scope,
    ),
    "team": ("UPDATE budgets_team SET blocked = true WHERE id = %s", lambda w: w.team.pk),
    "key": ("UPDATE budgets_apikey SET blocked = true WHERE id = %s", lambda w: w.key.pk),
    "key deleted": ("DELETE FROM budgets_apikey WHERE id = %s", lambda w: w.key.pk),
    "budget": ("UPDATE budgets_budget SET max_budget = 1 WHERE id = %s", lambda w: w.budget.pk),
    "budget taken off": (
        "DELETE FROM budgets_accountbudget WHERE account_id = %s", lambda w: w.key.account_id,
    ),
    "budget put elsewhere": (
        "UPDATE budgets_accountbudget SET budget_id = (SELECT max(id) FROM budgets_budget)"
        " WHERE account_id = %s",
        lambda w: w.key.account_id,
    ),
    "member": ("DELETE FROM budgets_membership WHERE id = %s", lambda w: w.member.pk),
    "joined": (
        "UPDATE budgets_organizationmembership SET created_at = now() WHERE user_id = %s",
        lambda w: w.user.pk,
    ),
    "user left": (
        "UPDATE budgets_user SET is_active = false WHERE id = %s", lambda w: w.user.pk,
    ),
    "user's models": (
        "UPDATE budgets_user SET allowed_models = '{gpt}' WHERE id = %s", lambda w: w.user.pk,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BY_SQL)
def test_change_by_hand_raises_the_version_as_well(what: str, world: World) -> None:
    sql, value = BY_SQL[what]
    before = snapshots.version_of(world.scope)

    execute(sql, [value(world)])

    assert snapshots.version_of(world.scope) > before


def test_row_that_moves_to_another_organization_changes_both(world: World) -> None:
    ours, theirs = world.scope, world.cast.outsider.pk
    before = snapshots.version_of(ours), snapshots.version_of(theirs)

    execute(
        "UPDATE budgets_budget SET organization_id = %s WHERE id = %s", [theirs, world.budget.pk]
    )

    assert snapshots.version_of(ours) > before[0]
    assert snapshots.version_of(theirs) > before[1]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE spend_provider SET name = name || '!' WHERE slug = 'sandbox'",
        "UPDATE spend_model SET context_window = 1 + context_window WHERE name = 'sandbox-chat'",
        "UPDATE spend_priceversion SET source_version = 'x' WHERE source = 'sandbox'",
        "UPDATE spend_pricerate SET rate = rate WHERE component = 'request'",
        "UPDATE gateway_deployment SET weight = weight WHERE model_name = 'sandbox-chat'",
        "UPDATE gateway_credential SET host = host",
    ],
)
def test_change_of_what_all_share_raises_the_version_of_all(sql: str) -> None:
    before = global_version()

    execute(sql)

    assert global_version() > before


def test_import_of_thousands_of_rates_raises_the_version_once_per_table() -> None:
    before = global_version()

    execute("UPDATE spend_pricerate SET rate = rate")

    assert global_version() == before + 1


# --- What is no change -------------------------------------------------------------------


def test_end_users_and_tags_that_first_spend_change_no_configuration(world: World) -> None:
    before = snapshots.version_of(world.scope)
    organization = world.cast.organization

    EndUser.objects.create(
        organization=organization, external_id="c", account_id=account(organization).id
    )
    Tag.objects.create(organization=organization, name="t", account_id=account(organization).id)

    assert snapshots.version_of(world.scope) == before


def test_login_of_a_user_changes_no_configuration(world: World) -> None:
    before = snapshots.version_of(world.scope)

    execute("UPDATE budgets_user SET last_login = now() WHERE id = %s", [world.user.pk])

    assert snapshots.version_of(world.scope) == before


def test_change_that_is_rolled_back_changes_nothing(world: World) -> None:
    before = snapshots.version_of(world.scope)

    with change(scope=world.scope):
        keys.block_key(key=world.key, blocked=True)
        transaction.set_rollback(True)

    assert snapshots.version_of(world.scope) == before


# --- Order of commits --------------------------------------------------------------------


def test_version_grows_at_commit_so_that_who_commits_later_has_the_higher(world: World) -> None:
    before = snapshots.version_of(world.scope)
    with another_connection() as slow, slow.transaction():
        slow.execute("UPDATE budgets_team SET name = 'slow' WHERE id = %s", [world.team.pk])
        keys.block_key(key=world.key, blocked=True)
        quick = snapshots.version_of(world.scope)

    assert quick == before + 1
    assert snapshots.version_of(world.scope) == before + 2


def test_snapshot_read_before_a_commit_has_the_lower_version(world: World) -> None:
    """A snapshot may be older than its version says, never newer."""
    issued = world.cast.key()
    with transaction.atomic():
        ApiKey.objects.filter(pk=issued.key.pk).update(blocked=True)
        with another_connection() as onlooker:
            seen = onlooker.execute(
                "SELECT version, (SELECT blocked FROM budgets_apikey WHERE id = %s)"
                " FROM budgets_configversion WHERE scope = %s",
                [issued.key.pk, world.scope],
            ).fetchone()

    after = snapshots.read_key(digest=issued.key.digest, legacy_digest="")

    assert after is not None
    assert after.blocked
    assert seen == (after.version - 1, False)


def test_two_changes_at_once_make_two_versions(world: World) -> None:
    before = snapshots.version_of(world.scope)

    with (
        another_connection() as one, another_connection() as two,
        one.transaction(), two.transaction(),
    ):  # fmt: skip
        one.execute("UPDATE budgets_team SET name = 'a' WHERE id = %s", [world.team.pk])
        two.execute("UPDATE budgets_apikey SET name = 'b' WHERE id = %s", [world.key.pk])

    assert snapshots.version_of(world.scope) == before + 2


# --- Telling others ----------------------------------------------------------------------


def test_every_change_notifies_with_its_scope(world: World) -> None:
    with another_connection() as listener:
        listener.execute("LISTEN costplatform_config")

        execute("UPDATE budgets_team SET blocked = true WHERE id = %s", [world.team.pk])
        execute("UPDATE spend_pricerate SET rate = rate WHERE component = 'request'")

        heard = [each.payload for each in listener.notifies(timeout=2, stop_after=2)]

    assert heard == [str(world.scope), "0"]


def test_store_that_is_closed_or_away_does_not_hinder_a_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(**_: object) -> None:
        raise storekeeper.Closed

    monkeypatch.setattr(storekeeper, "publish_versions", closed)

    keys.block_key(key=world.key, blocked=True)

    assert ApiKey.objects.get(pk=world.key.pk).blocked


def test_version_is_published_only_after_the_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[int] = []
    monkeypatch.setattr(
        storekeeper, "publish_versions",
        lambda scopes: published.extend(
            ConfigVersion.objects.filter(scope__in=scopes).values_list("version", flat=True)
        ),
    )  # fmt: skip

    with transaction.atomic():
        keys.block_key(key=world.key, blocked=True)
        within = list(published)

    assert within == []
    assert published == [snapshots.version_of(world.scope)]


# --- What a snapshot says ----------------------------------------------------------------


def test_key_that_nobody_has_is_none() -> None:
    assert snapshots.read_key(digest="0" * 64, legacy_digest="0" * 64) is None


def test_key_taken_over_from_litellm_is_found_by_its_old_hash(world: World) -> None:
    ApiKey.objects.filter(pk=world.key.pk).update(legacy_digest="f" * 64)

    found = snapshots.read_key(digest="0" * 64, legacy_digest="f" * 64)
    ApiKey.objects.filter(pk=world.key.pk).update(legacy_digest=None)

    assert found is not None
    assert found.key_id == world.key.pk


def test_path_goes_from_the_key_over_member_user_and_team_to_the_organization(
    world: World,
) -> None:
    found = snapshots.read_key(digest=world.key.digest, legacy_digest="")

    assert found is not None
    joined = world.user.organizations.get(organization=world.cast.organization)
    assert [(each.kind, each.id) for each in found.path] == [
        ("key", world.key.account_id),
        ("member", world.member.account_id),
        ("user", joined.account_id),
        ("team", world.team.account_id),
        ("organization", world.cast.organization.account_id),
    ]


def test_terms_are_those_of_every_budget_nearest_first(world: World) -> None:
    organization = world.cast.organization
    with change(scope=world.scope):
        accounts.attach(account=organization.account, budget=world.budget, now=now())
        soft_only = Terms(soft_budget=Decimal(1), duration="1d")
        accounts.set_private_budget(account=world.team.account, terms=soft_only, now=now())

    found = snapshots.read_key(digest=world.key.digest, legacy_digest="")

    assert found is not None
    assert [each.account.kind for each in found.terms] == ["key", "team", "organization"]
    assert [each.max_budget for each in found.terms][:2] == [Decimal(5), None]


@pytest.mark.parametrize(
    "blocking",
    [
        lambda w: keys.block_key(key=w.key, blocked=True),
        lambda w: tenancy.update_team(team=w.team, values={"blocked": True}, terms=None, now=now()),
        lambda w: tenancy.update_organization(
            organization=w.cast.organization, values={"blocked": True}
        ),
        lambda w: tenancy.update_user(
            user=w.user, values={"is_active": False}, organization=w.cast.organization,
            terms=None, now=now(),
        ),
    ],
    ids=["key", "team", "organization", "user"],
)  # fmt: skip
def test_key_is_blocked_with_any_of_its_holders(
    blocking: Callable[[World], object], world: World
) -> None:
    before = snapshots.read_key(digest=world.key.digest, legacy_digest="")

    blocking(world)
    after = snapshots.read_key(digest=world.key.digest, legacy_digest="")

    assert before is not None
    assert after is not None
    assert (before.blocked, after.blocked) == (False, True)


def test_key_expires_at_its_very_instant(world: World) -> None:
    at = now() + timedelta(hours=1)
    keys.update_key(key=world.key, values={"expires_at": at}, now=now())

    found = snapshots.read_key(digest=world.key.digest, legacy_digest="")

    assert found is not None
    assert not found.has_expired(at=at - timedelta(microseconds=1))
    assert found.has_expired(at=at)


def test_model_is_allowed_only_if_every_list_that_names_models_names_it(world: World) -> None:
    tenancy.update_team(
        team=world.team, values={"allowed_models": ["a", "b"]}, terms=None, now=now()
    )
    keys.update_key(key=world.key, values={"allowed_models": ["b", "c"]}, now=now())

    found = snapshots.read_key(digest=world.key.digest, legacy_digest="")

    assert found is not None
    assert [model for model in "abcd" if found.may_call(model)] == ["b"]


def test_key_without_any_list_may_call_every_model(world: World) -> None:
    found = snapshots.read_key(digest=world.key.digest, legacy_digest="")

    assert found is not None
    assert found.may_call("anything")


def test_context_is_labelled_with_the_versions_it_was_read_at(world: World) -> None:
    found = snapshots.read_key(digest=world.key.digest, legacy_digest="")
    assert found is not None

    context = found.context(at=now(), global_version=7, model="m")

    assert context.organization_version == snapshots.version_of(world.scope)
    assert context.global_version == 7
    accounts, _, models = context.path_text.partition(";")
    assert accounts.split(",") == [each.id.hex for each in found.path]
    assert len(models.split(",")) == len(found.path)
