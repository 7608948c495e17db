"""Who changed what, and when: kept by triggers, for services and for SQL by hand alike."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import Error as DatabaseError
from django.db import connection, transaction

from budgets.changes import SYSTEM, acting, change
from budgets.models import ApiKey, Change, User
from budgets.services import budgets, keys, tenancy
from budgets.services.accounts import Terms
from gateway.models import Credential
from spend.models import Provider
from tests.conftest import Cast


def history_of(table: str, id: object) -> list[Change]:
    return list(Change.objects.filter(table_name=table, object_id=str(id)).order_by("id"))


def last_of(table: str, id: object) -> Change:
    return history_of(table, id)[-1]


def execute(sql: str, values: Sequence[Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def test_change_holds_the_row_before_and_after_and_who_did_it_why(cast: Cast) -> None:
    began = datetime.now(UTC)

    with acting("ada@example.com"), change(scope=cast.organization.pk, reason="audit"):
        cast.team.name = "Renamed"
        cast.team.save()

    kept = last_of("budgets_team", cast.team.pk)
    assert (kept.action, kept.actor, kept.reason) == ("update", "ada@example.com", "audit")
    assert kept.before is not None
    assert kept.after is not None
    assert (kept.before["name"], kept.after["name"]) == ("Team", "Renamed")
    assert began <= kept.at <= datetime.now(UTC)


def test_making_and_deleting_are_kept_as_well(cast: Cast) -> None:
    budget = budgets.create_budget(
        organization=cast.organization, terms=Terms(max_budget=Decimal("1.5")), name="Once"
    )
    id = budget.pk

    budgets.delete_budget(budget=budget)

    made, deleted = history_of("budgets_budget", id)
    assert (made.action, made.before, made.actor) == ("insert", None, SYSTEM)
    assert (deleted.action, deleted.after) == ("delete", None)
    assert made.after == deleted.before
    assert made.after is not None
    assert Decimal(str(made.after["max_budget"])) == Decimal("1.5")


def test_sql_by_hand_is_kept_under_the_name_of_the_database_user(cast: Cast) -> None:
    execute("UPDATE budgets_team SET name = 'By hand' WHERE id = %s", [cast.team.pk])

    kept = last_of("budgets_team", cast.team.pk)
    assert kept.actor == f"sql:{connection.settings_dict['USER']}"
    assert kept.reason == ""


def test_actor_and_reason_end_with_their_transaction(cast: Cast) -> None:
    with acting("ada@example.com"), change(scope=cast.organization.pk, reason="audit"):
        pass

    execute("UPDATE budgets_team SET name = 'Later' WHERE id = %s", [cast.team.pk])

    kept = last_of("budgets_team", cast.team.pk)
    assert kept.actor.startswith("sql:")
    assert kept.reason == ""


def test_update_that_changes_nothing_writes_nothing(cast: Cast) -> None:
    before = len(history_of("budgets_team", cast.team.pk))

    cast.team.save()
    execute("UPDATE budgets_team SET name = name WHERE id = %s", [cast.team.pk])

    assert len(history_of("budgets_team", cast.team.pk)) == before


def test_change_that_is_rolled_back_is_not_kept(cast: Cast) -> None:
    before = len(history_of("budgets_team", cast.team.pk))

    with transaction.atomic():
        execute("UPDATE budgets_team SET name = 'Never' WHERE id = %s", [cast.team.pk])
        transaction.set_rollback(True)

    assert len(history_of("budgets_team", cast.team.pk)) == before


# --- Secrets -----------------------------------------------------------------------------


def test_digests_of_keys_are_never_kept(cast: Cast) -> None:
    issued = cast.key()
    ApiKey.objects.filter(pk=issued.key.pk).update(legacy_digest="e" * 64)
    keys.rotate_key(key=issued.key)

    kept = history_of("budgets_apikey", issued.key.pk)

    text = str([(each.before, each.after) for each in kept])
    assert len(kept) >= 2
    assert issued.secret not in text
    assert issued.key.digest not in text
    assert "e" * 64 not in text
    assert "digest" not in text


def test_new_secret_of_a_key_is_kept_as_a_change_even_if_nothing_else_changed(cast: Cast) -> None:
    key = cast.key().key
    before = len(history_of("budgets_apikey", key.pk))

    execute("UPDATE budgets_apikey SET digest = %s WHERE id = %s", [f"{key.pk:064}", key.pk])

    assert len(history_of("budgets_apikey", key.pk)) == before + 1


def test_second_secret_of_a_key_is_kept_as_a_change(cast: Cast) -> None:
    """``legacy_digest`` opens the door as ``digest`` does."""
    key = cast.key().key
    before = len(history_of("budgets_apikey", key.pk))

    execute("UPDATE budgets_apikey SET legacy_digest = %s WHERE id = %s", [f"{key.pk:064}", key.pk])

    assert len(history_of("budgets_apikey", key.pk)) == before + 1


def test_new_password_is_kept_as_a_change_and_the_password_is_not(cast: Cast) -> None:
    before = len(history_of("budgets_user", cast.user.pk))

    execute("UPDATE budgets_user SET password = 'hash-of-it' WHERE id = %s", [cast.user.pk])

    kept = history_of("budgets_user", cast.user.pk)
    assert "hash-of-it" not in str([(each.before, each.after) for each in kept])
    assert len(kept) == before + 1


def test_login_is_no_change(cast: Cast) -> None:
    before = len(history_of("budgets_user", cast.user.pk))

    User.objects.filter(pk=cast.user.pk).update(last_login=datetime.now(UTC))

    assert len(history_of("budgets_user", cast.user.pk)) == before


def test_credentials_of_providers_are_kept_without_their_secret() -> None:
    credential = Credential.objects.create(name="c", host="h:1", secret=b"never-shown")
    Credential.objects.filter(pk=credential.pk).update(secret=b"also-never")

    kept = history_of("gateway_credential", credential.pk)
    credential.delete()

    assert [each.action for each in kept] == ["insert", "update"]
    assert all("secret" not in (each.after or {}) for each in kept)


def test_prices_have_their_history_too() -> None:
    provider = Provider.objects.create(slug=f"p-{datetime.now(UTC):%H%M%S%f}", name="P")
    Provider.objects.filter(pk=provider.pk).update(name="Q")
    id = provider.pk
    provider.delete()

    assert [each.action for each in history_of("spend_provider", id)] == [
        "insert",
        "update",
        "delete",
    ]


# --- Append-only -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE budgets_change SET actor = 'nobody' WHERE id = %s",
        "DELETE FROM budgets_change WHERE id = %s",
    ],
)
def test_history_is_never_altered_and_never_deleted(statement: str, cast: Cast) -> None:
    kept = last_of("budgets_team", cast.team.pk)

    with pytest.raises(DatabaseError, match="append-only"):
        execute(statement, [kept.pk])

    assert Change.objects.filter(pk=kept.pk, actor=kept.actor).exists()


def test_whole_history_cannot_be_emptied_either() -> None:
    with pytest.raises(DatabaseError, match="append-only"):
        _truncate_and_roll_back("budgets_change")


def test_deleting_a_team_keeps_the_history_of_all_that_went_with_it(cast: Cast) -> None:
    owner = keys.Owner(cast.organization, cast.team)
    key = keys.issue_key(owner=owner, values={}, terms=Terms(), now=datetime.now(UTC)).key
    ids = cast.team.pk, key.pk

    with acting("ada@example.com"):
        tenancy.delete_teams(teams=[cast.team])

    team, gone = last_of("budgets_team", ids[0]), last_of("budgets_apikey", ids[1])
    assert [each.action for each in (team, gone)] == ["delete", "delete"]
    assert [each.actor for each in (team, gone)] == ["ada@example.com"] * 2


def _truncate_and_roll_back(table: str) -> None:
    with transaction.atomic():
        execute(f"TRUNCATE {table}")
        transaction.set_rollback(True)
