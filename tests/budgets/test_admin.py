"""The admin of organizations, teams, users, keys, budgets and accounts."""

import json
import logging
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from redis.exceptions import ConnectionError as RedisAway

from budgets import keys, periods, storekeeper
from budgets.admin.history import field_changes, read, rows_of
from budgets.models import (
    Account,
    AccountBudget,
    ApiKey,
    Budget,
    Change,
    Membership,
    Organization,
    OrganizationMembership,
    Team,
    User,
)
from budgets.scripts import TAG
from budgets.services import budgets as budget_services
from budgets.services import tenancy
from budgets.services.accounts import Terms
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, errors_of, login, raises_version, save, text_of
from tests.conftest import Cast

MODELS = (
    Account, ApiKey, Budget, Change, Group, IntervalSchedule, Organization, PeriodicTask, Team,
    User,
)  # fmt: skip


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def budget(cast: Cast) -> Budget:
    return budget_services.create_budget(
        organization=cast.organization,
        terms=Terms(Decimal(50), None, "1d", "UTC"),
        name="Daily",
    )


def one_of(model: Any, cast: Cast) -> Any:
    """Return an object of the model; most of the cast, or made from it."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    made = {
        Account: lambda: cast.team.account,
        ApiKey: lambda: cast.key("5").key,
        Budget: lambda: cast.key("5").key.account.budgets.get(),
        Change: lambda: admin_site.newest_change("budgets_team"),
        Group: lambda: Group.objects.get_or_create(name="Readers")[0],
        IntervalSchedule: lambda: interval,
        Organization: lambda: cast.organization,
        PeriodicTask: lambda: PeriodicTask.objects.get_or_create(
            name="tick", defaults={"task": "tick", "interval": interval}
        )[0],
        Team: lambda: cast.team,
        User: lambda: cast.user,
    }
    return made[model]()


# --- Every page --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_page_opens_for_a_superuser_and_fetches_nothing_from_elsewhere(
    model: Any, cast: Cast, root: Client
) -> None:
    for page in Pages(model).all_of(one_of(model, cast)):
        answer = root.get(page)

        assert answer.status_code == 200, page
        assert admin_site.links_out(text_of(answer.render())) == []  # type: ignore[attr-defined]  # a TemplateResponse


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_page_is_refused_to_staff_without_permission(model: Any, cast: Cast) -> None:
    nobody = login(admin_site.staff())

    for page in Pages(model).all_of(one_of(model, cast)):
        assert nobody.get(page).status_code == 403, page


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_who_may_only_view_sees_the_pages_and_no_way_to_save(model: Any, cast: Cast) -> None:
    options = model._meta
    reader = login(admin_site.staff(f"{options.app_label}.view_{options.model_name}"))
    obj = one_of(model, cast)

    page = reader.get(Pages(model).url("change", obj.pk))

    assert page.status_code == 200
    assert 'name="_save"' not in text_of(page)
    assert reader.get(Pages(model).url("changelist")).status_code == 200


@pytest.mark.parametrize("page", ["/admin/", "/admin/login/", "/admin/password_change/"])
def test_the_frame_fetches_nothing_from_elsewhere(page: str, root: Client) -> None:
    client = Client(SERVER_NAME="127.0.0.1") if "login" in page else root

    answer = client.get(page)

    assert answer.status_code == 200
    assert admin_site.links_out(text_of(answer)) == []


def test_the_sidebar_shows_no_link_that_would_be_refused(cast: Cast) -> None:
    reader = login(admin_site.staff("budgets.view_team"))

    page = text_of(reader.get("/admin/"))

    assert reverse("admin:budgets_team_changelist") in page
    assert reverse("admin:budgets_apikey_changelist") not in page
    assert reverse("admin:spend_spendevent_changelist") not in page


@pytest.mark.parametrize("model", [Account, ApiKey, Budget, Organization, Team, User])
def test_lists_ask_the_database_a_few_times_however_long_they_are(
    model: Any, cast: Cast, root: Client
) -> None:
    for number in range(12):
        cast.key(str(5 + number), name=f"key {number}")

    with admin_site.few_queries():
        answer = root.get(
            Pages(model).url("changelist"), {"kind": "any"} if model is Budget else {}
        )

    assert answer.status_code == 200


def test_a_hostile_name_is_text_on_every_page(root: Client) -> None:
    organization = admin_site.organization_named(HOSTILE)
    now = datetime.now(UTC)
    team = tenancy.create_team(
        organization=organization, values={"name": HOSTILE}, terms=Terms(Decimal(1)), now=now
    )
    issued = admin_site.key_of(organization, "5", name=HOSTILE)
    shared = budget_services.create_budget(
        organization=organization, terms=Terms(Decimal(1)), name=HOSTILE
    )

    for obj in (organization, team, issued.key, shared, team.account, issued.key.account):
        for page in Pages(type(obj)).all_of(obj):
            html = text_of(root.get(page, {"q": "script"} if "change" not in page else {}))
            assert "<script>alert(1)" not in html, page
            assert "49" + "x" * 9 not in html, page


# --- Writing -----------------------------------------------------------------------------------


def test_an_organization_made_here_has_an_account_with_its_limit(root: Client) -> None:
    page = Pages(Organization)

    answer = save(
        root, page.url("add"), name="Acme", public_id=f"acme-{id(root)}", currency="EUR",
        time_zone="Europe/Paris", max_budget="500", budget_duration="1mo",
    )  # fmt: skip

    made = Organization.objects.get(public_id=f"acme-{id(root)}")
    budget = Budget.objects.get(private_to=made.account)
    assert answer.status_code == 302
    assert budget.max_budget == Decimal(500)
    assert (budget.duration, budget.time_zone) == ("1mo", "Europe/Paris")
    assert made.account.organization == made


def test_a_change_of_a_team_counts_at_once_and_keeps_who_made_it(cast: Cast) -> None:
    who = admin_site.superuser()

    with raises_version(cast.organization.pk):
        answer = save(login(who), Pages(Team).url("change", cast.team.pk), name="Renamed")

    cast.team.refresh_from_db()
    assert answer.status_code == 302
    assert (cast.team.name, cast.team.account.label) == ("Renamed", "Renamed")
    assert admin_site.newest_change("budgets_team").actor == f"admin:{who.username}"


def test_a_form_saved_as_it_is_changes_nothing(cast: Cast, root: Client) -> None:
    key = cast.key("5", name="As it is", allowed_models=["a", "b"]).key
    before = list(read(rows_of(key)).values_list("id"))
    limit = Budget.objects.get(private_to=key.account)

    answer = save(root, Pages(ApiKey).url("change", key.pk))

    assert answer.status_code == 302
    assert list(read(rows_of(key)).values_list("id")) == before
    assert Budget.objects.get(private_to=key.account).updated_at == limit.updated_at


def test_limits_and_members_of_a_team_are_written_through_services(
    cast: Cast, root: Client
) -> None:
    url = Pages(Team).url("change", cast.team.pk)

    with raises_version(cast.organization.pk):
        answer = save(
            root, url,
            **{
                "max_budget": "20.5", "budget_duration": "1w", "memberships-TOTAL_FORMS": "1",
                "memberships-0-id": "", "memberships-0-team": str(cast.team.pk),
                "memberships-0-user": str(cast.user.pk), "memberships-0-role": "admin",
                "memberships-0-max_budget": "3", "memberships-0-budget_duration": "1d",
                "memberships-0-rpm_limit": "60", "memberships-0-enforcement": "observe",
            },
        )  # fmt: skip

    member = Membership.objects.get(team=cast.team)
    assert answer.status_code == 302
    assert Budget.objects.get(private_to=cast.team.account).max_budget == Decimal("20.5")
    assert member.user == cast.user
    own = Budget.objects.get(private_to=member.account)
    assert (own.duration, own.rpm_limit, own.enforcement) == ("1d", 60, "observe")


def test_a_member_can_be_changed_and_taken_out(cast: Cast, root: Client) -> None:
    tenancy.add_member(
        team=cast.team, user=cast.user, role="user", terms=Terms(), now=datetime.now(UTC)
    )
    url = Pages(Team).url("change", cast.team.pk)

    save(root, url, **{"memberships-0-role": "admin"})
    assert Membership.objects.get(team=cast.team).role == "admin"
    save(root, url, **{"memberships-0-DELETE": "on"})

    assert not Membership.objects.filter(team=cast.team).exists()


def test_a_member_cannot_be_added_by_who_may_only_change_teams(cast: Cast) -> None:
    changer = login(
        admin_site.staff("budgets.change_team", "budgets.view_team", "budgets.view_membership")
    )
    url = Pages(Team).url("change", cast.team.pk)

    save(
        changer, url,
        **{
            "memberships-TOTAL_FORMS": "1", "memberships-INITIAL_FORMS": "0",
            "memberships-0-user": str(cast.user.pk), "memberships-0-role": "admin",
        },
    )  # fmt: skip

    assert not Membership.objects.filter(team=cast.team).exists()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"max_budget": "1", "soft_budget": "2"}, "soft_budget"),
        ({"max_budget": "-1"}, "max_budget"),
        ({"max_budget": "1000000001"}, "max_budget"),
        ({"max_budget": "0.0000000001"}, "max_budget"),
        ({"budget_duration": "30d"}, "budget_duration"),
        ({"budget_time_zone": "Mars/Olympus"}, "budget_time_zone"),
        ({"allowed_models": "x" * 256}, "allowed_models"),
    ],
)
def test_what_does_not_fit_is_said_at_its_field(
    changed: dict[str, str], field: str, cast: Cast, root: Client
) -> None:
    answer = save(root, Pages(Team).url("change", cast.team.pk), **changed)

    assert list(errors_of(answer)) == [field]


def test_what_a_service_refuses_is_said_at_its_field_and_nothing_is_written(
    cast: Cast, root: Client
) -> None:
    cast.key(name="taken")
    other_team = tenancy.create_team(
        organization=cast.outsider, values={"name": "Theirs"}, terms=Terms(), now=datetime.now(UTC)
    )
    url = Pages(ApiKey).url("add")
    before = ApiKey.objects.count()

    taken = save(root, url, organization=cast.organization.pk, name="taken")
    foreign = save(root, url, organization=cast.organization.pk, team=other_team.pk)

    assert errors_of(taken) == {"name": ["Is taken."]}
    assert errors_of(foreign) == {"team": ["Belongs to another organization."]}
    assert ApiKey.objects.count() == before


def test_a_taken_id_is_said_at_its_field(cast: Cast, root: Client) -> None:
    for model in (Team, Budget):
        obj = one_of(model, cast)

        answer = save(
            root, Pages(model).url("add"), organization=cast.organization.pk, name="n",
            public_id=obj.public_id,
        )  # fmt: skip

        assert list(errors_of(answer)) == ["public_id"]


def test_a_currency_stays_once_something_was_spent_in_it(cast: Cast, root: Client) -> None:
    admin_site.spend_on(cast.key().key)

    save(root, Pages(Organization).url("change", cast.organization.pk), currency="EUR")

    cast.organization.refresh_from_db()
    assert cast.organization.currency == "USD"


@pytest.mark.parametrize("model", [Organization, User, Account])
def test_what_the_ledger_names_for_ever_cannot_be_deleted(
    model: Any, cast: Cast, root: Client
) -> None:
    obj = one_of(model, cast)

    assert root.post(Pages(model).url("delete", obj.pk), {"post": "yes"}).status_code == 403
    assert model.objects.filter(pk=obj.pk).exists()


@pytest.mark.parametrize("model", [Team, ApiKey])
def test_deleting_counts_at_once_and_leaves_the_account(
    model: Any, cast: Cast, root: Client
) -> None:
    obj = one_of(model, cast)

    with raises_version(cast.organization.pk):
        answer = root.post(Pages(model).url("delete", obj.pk), {"post": "yes"})

    assert answer.status_code == 302
    assert not model.objects.filter(pk=obj.pk).exists()
    assert Account.objects.filter(pk=obj.account_id).exists()


def test_a_budget_in_use_is_not_deleted_and_says_why(
    cast: Cast, budget: Budget, root: Client
) -> None:
    save(root, Pages(Account).url("change", cast.team.account_id), shared_budgets=[budget.pk])

    page = root.post(Pages(Budget).url("delete", budget.pk), {"post": "yes"})
    both = root.post(
        Pages(Budget).url("changelist"),
        {"action": "delete_selected", "_selected_action": [budget.pk], "post": "yes"},
        follow=True,
    )

    assert page.status_code == 200
    assert both.status_code == 200
    assert Budget.objects.filter(pk=budget.pk).exists()


def test_keys_are_blocked_and_admitted_together(cast: Cast, root: Client) -> None:
    chosen = [cast.key(name=f"k{n}").key.pk for n in range(3)]
    url = Pages(ApiKey).url("changelist")

    for action, blocked in (("block", True), ("admit", False)):
        with raises_version(cast.organization.pk):
            root.post(url, {"action": action, "_selected_action": chosen})

        assert set(ApiKey.objects.filter(pk__in=chosen).values_list("blocked", flat=True)) == {
            blocked
        }


# --- Users -------------------------------------------------------------------------------------


def test_a_user_made_here_belongs_to_an_organization_and_cannot_log_in_yet(
    cast: Cast, root: Client
) -> None:
    name = f"new-{cast.user.pk}"

    answer = save(
        root, Pages(User).url("add"), public_id=name, organization=cast.organization.pk,
        email=f"{name}@example.com", alias="Newcomer",
    )  # fmt: skip

    made = User.objects.get(public_id=name)
    assert answer.status_code == 302
    assert made.organizations.get().organization == cast.organization
    assert not made.has_usable_password()


def test_a_password_is_set_here_and_stands_in_no_history(cast: Cast, root: Client) -> None:
    url = reverse("admin:auth_user_password_change", args=[cast.user.pk])

    answer = root.post(
        url,
        {"usable_password": "true", "password1": "long-enough-1", "password2": "long-enough-1"},
    )

    cast.user.refresh_from_db()
    assert answer.status_code == 302
    assert cast.user.check_password("long-enough-1")
    assert not Change.objects.filter(
        table_name="budgets_user", object_id=str(cast.user.pk), after__has_key="password"
    ).exists()


def test_only_a_superuser_hands_out_rights(cast: Cast) -> None:
    changer = admin_site.staff("budgets.change_user", "budgets.view_user")
    client = login(changer)

    save(client, Pages(User).url("change", changer.pk), is_superuser="on", is_staff="on")
    above = admin_site.superuser()
    refused = client.post(Pages(User).url("change", above.pk), {"email": "mine@example.com"})
    password = client.post(
        reverse("admin:auth_user_password_change", args=[above.pk]),
        {"password1": "long-enough-1", "password2": "long-enough-1"},
    )

    changer.refresh_from_db()
    assert not changer.is_superuser
    assert (refused.status_code, password.status_code) == (403, 403)


def test_a_user_joins_a_further_organization(cast: Cast, root: Client) -> None:
    with raises_version(cast.outsider.pk):
        save(
            root, Pages(User).url("change", cast.user.pk),
            **{
                "organizations-TOTAL_FORMS": "2", "organizations-1-user": str(cast.user.pk),
                "organizations-1-organization": str(cast.outsider.pk),
            },
        )  # fmt: skip

    joined = OrganizationMembership.objects.filter(user=cast.user, organization=cast.outsider)
    assert joined.exists()


# --- Secrets -----------------------------------------------------------------------------------


def new_key(client: Client, cast: Cast, **fields: Any) -> Any:
    return save(
        client, Pages(ApiKey).url("add"), organization=cast.organization.pk, **fields
    )  # fmt: skip


def secret_in(answer: Any) -> str:
    (secret,) = re.findall(r'id="secret"[^>]*value="(sk-cp-\w+)"', text_of(answer))
    return str(secret)


def test_the_secret_is_shown_once_and_kept_nowhere(
    cast: Cast, root: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    answer = new_key(root, cast, name="shown", max_budget="5", budget_duration="1mo")
    secret = secret_in(answer)

    key = ApiKey.objects.get(digest=keys.digest(secret))
    assert "no-store" in answer["Cache-Control"]
    assert answer["Referrer-Policy"] == "no-referrer"
    assert key.name == "shown"
    assert secret not in json.dumps(dict(root.session))
    assert secret not in caplog.text
    assert secret not in str([m.message for m in answer.context["messages"]])
    assert secret not in text_of(root.get(Pages(ApiKey).url("change", key.pk)))
    assert not _anywhere_in_the_database(secret)


def _anywhere_in_the_database(secret: str) -> bool:
    with connection.cursor() as cursor:
        for table in ("budgets_apikey", "budgets_change", "django_session", "django_admin_log"):
            cursor.execute(f"SELECT 1 FROM {table} kept WHERE kept::text LIKE %s", [f"%{secret}%"])
            if cursor.fetchone():
                return True
    return False


def test_who_asks_again_is_told_that_it_was_shown(cast: Cast, root: Client) -> None:
    secret = secret_in(new_key(root, cast))
    key = ApiKey.objects.get(digest=keys.digest(secret))

    again = root.get(reverse("admin:budgets_apikey_secret", args=[key.pk]))

    assert "Already shown" in text_of(again)
    assert secret not in text_of(again)


def test_a_form_sent_twice_makes_one_key(cast: Cast, root: Client) -> None:
    url = Pages(ApiKey).url("add")
    sent = admin_site.form_of(root, url) | {"organization": str(cast.organization.pk)}

    first, second = root.post(url, sent), root.post(url, sent)

    key = ApiKey.objects.get(organization=cast.organization)
    assert keys.digest(secret_in(first)) == key.digest
    assert second.status_code == 302
    assert second["Location"] == reverse("admin:budgets_apikey_secret", args=[key.pk])


def test_rotating_asks_first_then_shows_the_new_secret_and_ends_the_old(
    cast: Cast, root: Client
) -> None:
    issued = cast.key("5")
    url = reverse("admin:budgets_apikey_rotate", args=[issued.key.pk])

    asked, unsure = root.get(url), root.post(url, {})
    assert ApiKey.objects.get(pk=issued.key.pk).digest == keys.digest(issued.secret)
    with raises_version(cast.organization.pk):
        answer = root.post(url, {"sure": "on"})

    assert (asked.status_code, unsure.status_code) == (200, 200)
    assert "Tick the box" in text_of(unsure)
    assert "no-store" in answer["Cache-Control"]
    assert ApiKey.objects.get(pk=issued.key.pk).digest == keys.digest(secret_in(answer))
    assert admin_site.newest_change("budgets_apikey").actor.startswith("admin:")


def test_a_key_is_not_rotated_by_who_may_only_view_it(cast: Cast) -> None:
    issued = cast.key()
    url = reverse("admin:budgets_apikey_rotate", args=[issued.key.pk])

    answer = login(admin_site.staff("budgets.view_apikey")).post(url, {"sure": "on"})

    assert answer.status_code == 403
    assert ApiKey.objects.get(pk=issued.key.pk).digest == keys.digest(issued.secret)


def test_a_pasted_secret_finds_its_key_without_being_in_an_address(
    cast: Cast, root: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    issued, url = cast.key(), reverse("admin:budgets_apikey_find")

    found = root.post(url, {"q": f" {issued.secret} "})
    unknown = root.post(url, {"q": keys.new_secret()})
    part = root.post(url, {"q": issued.secret[:40], "state": "active"})

    assert found["Location"] == Pages(ApiKey).url("change", issued.key.pk)
    assert unknown["Location"] == Pages(ApiKey).url("changelist")
    assert "state=active" in part["Location"]
    assert f"q={issued.secret[:10]}" in part["Location"]
    assert issued.secret[:40] not in part["Location"]
    assert issued.secret not in caplog.text


# --- What is shown -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("enforcement", "left"), [("strict", "USD 0.29 left"), ("adaptive", "USD 0.79 left")]
)
def test_an_account_shows_what_is_spent_and_what_its_mode_holds_now(
    enforcement: str, left: str, cast: Cast, root: Client
) -> None:
    key = cast.key("10").key
    Budget.objects.filter(private_to=key.account).update(enforcement=enforcement)
    period = Budget.objects.get(private_to=key.account).period_at(datetime.now(UTC))
    storekeeper.store().hset(
        f"{TAG}c:{key.account_id.hex}",
        mapping={
            f"s:{period.start_ms}:{period.end_ms}": 8_205_000_000,
            f"r:{period.start_ms}:{period.end_ms}": 1_500_000_000,
            f"e:{period.start_ms}:{period.end_ms}": 1_000_000_000,
        },
    )

    page = text_of(root.get(Pages(Account).url("changelist"), {"q": str(key.account_id)}))

    assert "USD 8.20 of USD 10.00 a month" in page
    assert "82.0 %" in page
    assert left in page
    assert 'aria-label="82.0 per cent spent' in page
    assert "as of the ledger" not in page
    storekeeper.store().delete(f"{TAG}c:{key.account_id.hex}")


def test_without_the_live_store_the_figures_are_those_of_the_ledger(
    cast: Cast, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cast.key("10").key
    admin_site.spend_on(key, "12")

    def away(*_: object) -> Any:
        raise RedisAway

    monkeypatch.setattr(storekeeper, "is_open", away)
    for page in (Pages(Account).url("changelist"), Pages(Account).url("change", key.account_id)):
        html = text_of(root.get(page, {"q": str(key.account_id)} if "change/" not in page else {}))

        assert "USD 12.00 of USD 10.00" in html
        assert "over by USD 2.00" in html
        assert "as of the ledger" in html
    assert "Closed" in text_of(root.get("/admin/"))


def test_the_filter_finds_accounts_that_are_nearly_full(cast: Cast, root: Client) -> None:
    full, half, empty = (cast.key("10", name=f"{n} {cast.organization.pk}").key for n in "abc")
    admin_site.spend_on(full, "8")
    admin_site.spend_on(half, "5")
    url = Pages(Account).url("changelist")

    nearly = text_of(
        root.get(url, {"used": "80", "organization__id__exact": str(cast.organization.pk)})
    )
    all_of_it = text_of(root.get(url, {"used": "100", "q": str(full.account_id)}))

    assert str(full.account_id) in nearly
    assert str(half.account_id) not in nearly
    assert str(empty.account_id) not in nearly
    assert "Nothing matches" in all_of_it


def test_shared_budgets_are_put_on_an_account_and_taken_off(
    cast: Cast, budget: Budget, root: Client
) -> None:
    url = Pages(Account).url("change", cast.team.account_id)

    with raises_version(cast.organization.pk):
        save(root, url, shared_budgets=[budget.pk])
    listed = text_of(root.get(Pages(Budget).url("change", budget.pk)))
    history = text_of(root.get(Pages(Account).url("history", cast.team.account_id)))
    with raises_version(cast.organization.pk):
        save(root, url, shared_budgets=[])

    assert "USD 0.00 of USD 50.00 a day" in listed
    assert "budget Daily" in history
    assert not AccountBudget.objects.filter(budget=budget).exists()


def test_a_budget_of_another_organization_cannot_be_linked(cast: Cast, root: Client) -> None:
    theirs = budget_services.create_budget(organization=cast.outsider, terms=Terms(Decimal(1)))

    answer = save(
        root, Pages(Account).url("change", cast.team.account_id), shared_budgets=[theirs.pk]
    )

    assert "shared_budgets" in errors_of(answer)


def test_the_search_for_budgets_stays_within_the_organization(
    cast: Cast, budget: Budget, root: Client
) -> None:
    theirs = budget_services.create_budget(
        organization=cast.outsider, terms=Terms(Decimal(1)), name="Daily"
    )
    asked = {"app_label": "budgets", "model_name": "accountbudget", "field_name": "budget"}

    bound = {"organization": str(cast.organization.pk), "term": "dai"}
    answer = root.get(reverse("admin:autocomplete"), asked | bound)

    ids = [each["id"] for each in answer.json()["results"]]
    assert str(budget.pk) in ids
    assert str(theirs.pk) not in ids


def test_the_history_shows_changes_by_sql_with_their_exact_amounts(
    cast: Cast, root: Client
) -> None:
    key = cast.key("5").key
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE budgets_budget SET max_budget = 999999999.999999999 WHERE private_to_id = %s",
            [key.account_id],
        )

    page = text_of(root.get(Pages(ApiKey).url("history", key.pk)))

    assert "999999999.999999999" in page
    assert "by <strong>sql:" in page
    assert "max_budget" in page


def test_the_history_has_no_digest_and_says_that_a_secret_was_replaced(
    cast: Cast, root: Client
) -> None:
    issued = cast.key(name="rotated")
    Change.objects.filter(table_name="budgets_apikey")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE budgets_apikey SET digest = md5(digest) WHERE id = %s", [issued.key.pk]
        )

    page = text_of(root.get(Pages(ApiKey).url("history", issued.key.pk)))

    assert issued.key.digest not in page
    assert "a secret was replaced" in page


def test_the_list_of_all_changes_is_read_without_counting(cast: Cast, root: Client) -> None:
    with admin_site.few_queries():
        page = text_of(root.get(Pages(Change).url("changelist"), {"table": "budgets_team"}))

    assert "team Team" in page
    newest = admin_site.newest_change("budgets_team")
    (change,) = read(rows_of(cast.team)).filter(pk=newest.pk)[:1]
    assert [each.name for each in field_changes(change)]


def test_nobody_changes_the_history(cast: Cast, root: Client) -> None:
    change = admin_site.newest_change("budgets_team")
    pages = Pages(Change)

    assert root.get(pages.url("add")).status_code == 403
    assert root.post(pages.url("change", change.pk), {"actor": "me"}).status_code == 403
    assert root.post(pages.url("delete", change.pk), {"post": "yes"}).status_code == 403


def test_a_reset_is_shown_in_the_budgets_own_zone(cast: Cast, root: Client) -> None:
    now = datetime.now(UTC)
    zone = "Pacific/Kiritimati"
    key = admin_site.key_of(cast.organization).key
    save(
        root, Pages(Account).url("change", key.account_id), max_budget="1", budget_duration="1d",
        budget_time_zone=zone,
    )  # fmt: skip

    page = text_of(root.get(Pages(Account).url("changelist"), {"q": str(key.account_id)}))

    end = periods.period_at(duration="1d", zone=periods.zone_of(zone), at=now).end
    local = end.astimezone(periods.zone_of(zone))
    assert f"{local:%Y-%m-%d} 00:00 {zone}" in page
