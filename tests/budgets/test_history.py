"""Who changed what, and when: kept by triggers, for services and for SQL by hand alike."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from budgets.changes import SYSTEM, Origin, Source, acting, change
from budgets.models import AccountKind, ApiKey, Change, EndUser, User, derived_account_id
from budgets.services import budgets, keys, tenancy
from budgets.services.accounts import Terms
from gateway.models import Credential
from spend.models import Provider, ProviderKey
from tests.admin_site import login, save, superuser
from tests.api_client import Api, master, spend
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


# --- From where --------------------------------------------------------------------------


def test_sql_by_hand_says_so_and_from_where(cast: Cast) -> None:
    execute("UPDATE budgets_team SET name = 'By hand' WHERE id = %s", [cast.team.pk])

    kept = last_of("budgets_team", cast.team.pk)
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(host(inet_client_addr()), '')")
        (address,) = cursor.fetchone()
    assert (kept.source, kept.address) == ("sql", address)


def test_process_of_its_own_accord_says_so(cast: Cast) -> None:
    with change(scope=cast.organization.pk):
        cast.team.name = "Renamed"
        cast.team.save()

    kept = last_of("budgets_team", cast.team.pk)
    assert (kept.actor, kept.source, kept.address) == (SYSTEM, "system", "")


def test_name_within_a_request_keeps_where_it_came_from(cast: Cast) -> None:
    with (
        acting("admin:ada", origin=Origin(Source.ADMIN, "192.0.2.7")),
        acting("proposal"),
        change(scope=cast.organization.pk),
    ):
        cast.team.name = "Renamed"
        cast.team.save()

    kept = last_of("budgets_team", cast.team.pk)
    assert (kept.actor, kept.source, kept.address) == ("proposal", "admin", "192.0.2.7")


def test_api_and_admin_are_told_apart_with_the_clients_address(cast: Cast) -> None:
    master().made("/team/update", team_id=cast.team.public_id, team_alias="By the API")
    by_api = last_of("budgets_team", cast.team.pk)

    root = superuser()
    url = reverse("admin:budgets_team_change", args=[cast.team.pk])
    answer = save(login(root), url, name="By the admin")
    by_admin = last_of("budgets_team", cast.team.pk)

    assert answer.status_code == 302
    assert (by_api.actor, by_api.source, by_api.address) == ("master key", "api", "127.0.0.1")
    assert by_admin.actor == f"admin:{root.username}"
    assert (by_admin.source, by_admin.address) == ("admin", "127.0.0.1")


def test_page_of_the_history_says_from_where(cast: Cast) -> None:
    master().made("/team/update", team_id=cast.team.public_id, team_alias="By the API")

    url = reverse("admin:budgets_team_history", args=[cast.team.pk])
    page = login(superuser()).get(url).content.decode()

    assert "by way of api from 127.0.0.1" in page


# --- Nothing bypasses it -----------------------------------------------------------------

WHOLE: Final = {"INSERT", "UPDATE", "DELETE"}
PARTLY: Final = {
    "budgets_account": ({"UPDATE"}, "holders are kept; of the account itself that it was closed"),
    "budgets_reset": ({"INSERT"}, "append-only"),
    "spend_exchangerate": ({"INSERT", "UPDATE"}, "never deleted, by a trigger"),
    "spend_rerating": ({"INSERT", "DELETE"}, "how far it has come is no decision"),
    "spend_invoiceimport": ({"INSERT", "DELETE"}, "comparing it again is no decision"),
}
NOT_KEPT: Final = {
    "budgets_change": "the history itself",
    "budgets_configversion": "raised by triggers",
    "budgets_member": "processes that come and go",
    "budgets_partition": "the recorder's position",
    "budgets_periodtotal": "sums of the ledger",
    "budgets_refusalcount": "counts",
    "budgets_reload": "counters to be loaded anew",
    "gateway_gatewaybatch": "requests of callers, in the ledger when they are settled",
    "gateway_gatewayfile": "what callers have sent",
    "spend_day": "sums of the ledger",
    "spend_event": "the ledger, append-only",
    "spend_invoiceline": "a part of its import",
    "spend_labelday": "sums of the ledger",
    "spend_labelquarterhour": "sums of the ledger",
    "spend_priceproposal": "keeps who applied it; the prices are kept",
    "spend_quarterhour": "sums of the ledger",
    "spend_ratefetch": "what a fetch has found; rates are kept",
    "spend_setaside": "what could not be recorded",
    "spend_unpricedmodel": "counts",
    "spend_verification": "what a check has found",
    "auth_permission": "made by migrations",
    "budgets_book": "until where the worker has closed periods",
    "budgets_closing": "is history itself, and append-only",
    "django_admin_log": "nothing is written there: the history is",
    "django_celery_beat_periodictasks": "when the schedule was changed last",
    "django_content_type": "made by migrations",
    "django_migrations": "made by migrations",
    "django_session": "logins",
}


def test_every_table_is_kept_or_said_why_not() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_KEPT_EVENTS)
        kept = {table: set(events) - {None} for table, events in cursor.fetchall()}

    partly = {table: events for table, (events, _) in PARTLY.items()}
    expected = {
        table: set() if table in NOT_KEPT else partly.get(table, WHOLE)
        for table in kept.keys() | NOT_KEPT.keys() | PARTLY.keys()
    }
    assert kept == expected


_KEPT_EVENTS = """
    SELECT relation.relname, array_agg(DISTINCT event.name)
    FROM pg_class relation
    JOIN pg_namespace space ON space.oid = relation.relnamespace AND space.nspname = 'public'
    LEFT JOIN pg_trigger kept ON kept.tgrelid = relation.oid
         AND kept.tgfoid = 'costplatform_keep_history'::regproc AND kept.tgenabled <> 'D'
    LEFT JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE')) AS event(bit, name)
         ON kept.tgtype & event.bit <> 0
    WHERE relation.relkind IN ('r', 'p') AND NOT relation.relispartition
    GROUP BY relation.relname
"""


def test_roles_are_kept() -> None:
    user, group = superuser(), Group.objects.create(name=uuid.uuid4().hex)
    permission = Permission.objects.all()[0]

    user.groups.add(group)
    user.user_permissions.add(permission)
    group.permissions.add(permission)

    made = Change.objects.filter(action="insert", after__user_id=user.pk)
    assert set(made.values_list("table_name", flat=True)) == {
        "budgets_user_groups", "budgets_user_user_permissions",
    }  # fmt: skip
    assert Change.objects.filter(
        table_name="auth_group_permissions", after__group_id=group.pk
    ).exists()


def test_end_user_that_somebody_made_is_kept_and_one_that_the_recorder_made_is_not(
    cast: Cast,
) -> None:
    made, spent = uuid.uuid4().hex, uuid.uuid4().hex
    master().made("/customer/new", user_id=made, organization_id=cast.organization.public_id)
    id = derived_account_id(
        organization_id=cast.organization.pk, kind=AccountKind.END_USER, text=spent
    )
    spend(cast.organization, [id], "1", end_user=spent)

    kept = Change.objects.filter(table_name="budgets_enduser", action="insert")
    assert EndUser.objects.filter(external_id=spent).exists()
    assert [each.actor for each in kept.filter(after__external_id=made)] == ["master key"]
    assert not kept.filter(after__external_id=spent).exists()


def test_run_of_the_schedule_is_no_change_and_a_new_time_is() -> None:
    every = IntervalSchedule.objects.create(every=7, period="days")
    task = PeriodicTask.objects.create(name=uuid.uuid4().hex, task="x", interval=every)
    id = task.pk
    rows = PeriodicTask.objects.filter(pk=task.pk)

    rows.update(last_run_at=datetime.now(UTC), total_run_count=1)
    rows.update(enabled=False)
    task.delete()

    kept = history_of("django_celery_beat_periodictask", id)
    assert [each.action for each in kept] == ["insert", "update", "delete"]


def test_no_secret_of_any_kind_is_in_the_history(cast: Cast) -> None:
    canary = uuid.uuid4().hex
    issued = cast.key()
    ApiKey.objects.filter(pk=issued.key.pk).update(digest=canary, legacy_digest=f"l{canary}")
    user = superuser()
    user.set_password(canary)
    user.save()
    hashed = user.password
    Credential.objects.create(name="c", host="h:1", secret=canary.encode()).delete()
    ProviderKey.objects.create(provider="p", external_id=uuid.uuid4().hex, key_digests=[canary])

    secrets = [issued.secret, canary, canary.encode().hex(), hashed, issued.key.digest]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM budgets_change change, unnest(%s::text[]) AS secret"
            " WHERE strpos(change::text, secret) > 0",
            [secrets],
        )
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize("table", ["budgets_change", "budgets_reset"])
def test_not_even_a_session_that_plays_a_replica_alters_it(table: str) -> None:
    with transaction.atomic():
        execute("SET LOCAL session_replication_role = replica")
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            execute(f"TRUNCATE {table}")


# --- By the API --------------------------------------------------------------------------


def test_api_tells_the_history_of_an_object_the_newest_first(cast: Cast) -> None:
    began = datetime.now(UTC)
    master().made("/team/update", team_id=cast.team.public_id, max_budget=0.1)
    master().made("/team/update", team_id=cast.team.public_id, team_alias="Second")
    budget = str(cast.team.account.private_budget.pk)

    told = history_told(table="budgets_team", object=cast.team.pk)
    (limit,) = history_told(table="budgets_budget", object=budget)

    assert [each["action"] for each in told] == ["update", "insert"]
    assert (told[0]["before"]["name"], told[0]["after"]["name"]) == ("Team", "Second")
    assert (told[0]["actor"], told[0]["source"]) == ("master key", "api")
    assert (told[0]["address"], told[0]["reason"]) == ("127.0.0.1", None)
    assert began <= datetime.fromisoformat(told[0]["at"])
    assert limit["after"]["max_budget"] == "0.100000000"
    assert limit["before"] is None


def test_api_tells_pages_and_an_interval(cast: Cast) -> None:
    which = {"table": "budgets_team", "object": cast.team.pk}
    for name in ("One", "Two"):
        master().made("/team/update", team_id=cast.team.public_id, team_alias=name)
    newest, middle, oldest = history_told(**which)

    page = master().get("/api/v1/history", {**which, "size": 2, "page": 2})
    within = history_told(**which, **{"from": middle["at"], "to": newest["at"]})

    assert [each["id"] for each in page.content] == [oldest["id"]]
    assert (page.headers["x-total-count"], page.headers["x-total-pages"]) == ("3", "2")
    assert [each["id"] for each in within] == [middle["id"]]


@pytest.mark.parametrize(
    ("query", "param"),
    [({"object": "1"}, "object"), ({"from": "yesterday"}, "from"), ({"size": "101"}, "size")],
)
def test_what_is_asked_wrongly_of_the_history_is_refused(query: dict[str, str], param: str) -> None:
    reply = master().get("/api/v1/history", query)

    assert (reply.status, reply.error["param"]) == (400, param)


def test_only_the_master_key_reads_the_history(cast: Cast) -> None:
    statuses = [Api(who).get("/api/v1/history").status for who in ("", cast.key().secret)]

    assert statuses == [401, 403]


def history_told(**query: Any) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = master().told("/api/v1/history", **query)
    return told
