"""Limits in the admin: rates and modes everywhere, further budgets, budgets of single models."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags
from redis.exceptions import ConnectionError as RedisAway

from budgets import storekeeper
from budgets.admin import account_page, figures
from budgets.models import (
    Account,
    AccountKind,
    ApiKey,
    Budget,
    Change,
    Organization,
    Team,
    holder_model_account_id,
)
from budgets.scripts import TAG
from budgets.services import accounts, tenancy
from budgets.services import budgets as budget_services
from budgets.services.accounts import Terms
from budgets.services.closing import close_accounts
from tests import admin_site
from tests.admin_site import Pages, errors_of, login, raises_version, save, text_of
from tests.conftest import Cast

RATES = {"rpm_limit": "60", "tpm_limit": "100000", "max_parallel_requests": "4"}
ACCOUNT = Pages(Account)


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


def limit_models(holder: Account, *names: str) -> None:
    terms = {name: Terms(Decimal(1)) for name in names}
    with transaction.atomic():
        accounts.set_model_budgets(holder=holder, terms=terms, now=datetime.now(UTC))


def windows(*rows: dict[str, str]) -> dict[str, str]:
    """Return new rows of an account's further budgets as a browser sends them."""
    return _rows("windows", {"enforcement": "adaptive"}, *rows)


def models(*rows: dict[str, str]) -> dict[str, str]:
    return _rows("models", {"enforcement": "adaptive"}, *rows)


def _rows(prefix: str, usual: dict[str, str], *rows: dict[str, str]) -> dict[str, str]:
    sent = {f"{prefix}-TOTAL_FORMS": str(len(rows)), f"{prefix}-INITIAL_FORMS": "0"}
    for number, row in enumerate(rows):
        sent |= {f"{prefix}-{number}-{name}": value for name, value in (usual | row).items()}
    return sent


# --- Rates and modes ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Organization, Team, ApiKey, Account])
@pytest.mark.parametrize("mode", ["strict", "adaptive", "observe"])
def test_rates_and_the_mode_are_written_wherever_a_limit_is(
    mode: str, model: Any, cast: Cast, root: Client
) -> None:
    holder: Any = {
        Organization: lambda: cast.organization,
        Team: lambda: cast.team,
        ApiKey: lambda: cast.key().key,
        Account: lambda: cast.team.account,
    }[model]()

    with raises_version(cast.organization.pk):
        save(root, Pages(model).url("change", holder.pk), enforcement=mode, **RATES)

    account = holder if model is Account else holder.account
    own = Budget.objects.get(private_to=account)
    assert (own.rpm_limit, own.tpm_limit, own.max_parallel_requests) == (60, 100_000, 4)
    assert own.enforcement == mode
    assert "counts what it would have refused" in text_of(
        root.get(Pages(model).url("change", holder.pk))
    )


@pytest.mark.parametrize("model", [Organization, Team, ApiKey, Budget])
def test_a_new_form_proposes_the_adaptive_mode(model: Any, root: Client) -> None:
    assert admin_site.form_of(root, Pages(model).url("add"))["enforcement"] == "adaptive"


def test_a_mode_without_any_limit_makes_no_budget(cast: Cast, root: Client) -> None:
    save(root, Pages(Team).url("change", cast.team.pk), enforcement="strict")

    assert not Budget.objects.filter(private_to=cast.team.account).exists()


@pytest.mark.parametrize("number", ["-1", "1.5", "1000000000001", "many"])
def test_a_rate_that_does_not_fit_is_said_at_its_field(
    number: str, cast: Cast, root: Client
) -> None:
    answer = save(root, Pages(Team).url("change", cast.team.pk), tpm_limit=number)

    assert list(errors_of(answer)) == ["tpm_limit"]


def test_a_form_that_shows_fewer_terms_leaves_the_others(cast: Cast, root: Client) -> None:
    now = datetime.now(UTC)
    kept = Terms(Decimal(5), Decimal(4), "1w", "Asia/Tokyo", enforcement="strict")
    member = tenancy.add_member(team=cast.team, user=cast.user, role="user", terms=kept, now=now)

    save(root, Pages(Team).url("change", cast.team.pk), **{"memberships-0-max_budget": "9"})

    own = Budget.objects.get(private_to=member.account)
    assert (own.max_budget, own.soft_budget) == (Decimal(9), Decimal(4))
    assert (own.duration, own.time_zone, own.enforcement) == ("1w", "Asia/Tokyo", "strict")


def test_a_reader_sees_rates_and_mode(cast: Cast) -> None:
    with transaction.atomic():
        accounts.set_private_budget(
            account=cast.team.account,
            terms=Terms(rpm_limit=1234, enforcement="observe"),
            now=datetime.now(UTC),
        )

    page = text_of(
        login(admin_site.staff("budgets.view_team")).get(Pages(Team).url("change", cast.team.pk))
    )

    assert "1,234" in page
    assert "Observe: never refuses" in page


# --- Further budgets ---------------------------------------------------------------------------


def test_a_days_budget_is_put_beside_a_months_changed_and_taken_away(
    cast: Cast, root: Client
) -> None:
    account = cast.key("50").key.account
    url = ACCOUNT.url("change", account.pk)

    with raises_version(cast.organization.pk):
        save(root, url, **windows({"budget_duration": "1d", "max_budget": "3"}))
    (day,) = Budget.objects.filter(window_of=account)
    page = text_of(root.get(url))
    save(root, url, **{"windows-0-max_budget": "4", "windows-0-enforcement": "strict"})
    changed = Budget.objects.get(window_of=account)
    save(root, url, **{"windows-0-DELETE": "on"})

    assert (day.duration, day.max_budget, day.enforcement) == ("1d", Decimal(3), "adaptive")
    assert "USD 0.00 of USD 3.00 a day" in page
    assert "USD 0.00 of USD 50.00 a month" in page
    assert "Further budget" in page
    assert (changed.pk, changed.max_budget, changed.enforcement) == (day.pk, Decimal(4), "strict")
    assert not Budget.objects.filter(window_of=account).exists()
    assert Budget.objects.get(private_to=account).max_budget == 50


def test_two_further_budgets_of_one_duration_are_refused_and_nothing_is_written(
    cast: Cast, root: Client
) -> None:
    account = cast.key("50").key.account
    day = {"budget_duration": "1d", "max_budget": "3"}

    answer = save(root, ACCOUNT.url("change", account.pk), **windows(day, day))

    assert "same duration twice" in text_of(answer)
    assert not Budget.objects.filter(window_of=account).exists()


def test_a_further_budget_needs_a_limit(cast: Cast, root: Client) -> None:
    account = cast.key().key.account

    answer = save(root, ACCOUNT.url("change", account.pk), **windows({"budget_time_zone": "UTC"}))

    assert "each must set a limit" in text_of(answer)


def test_tables_of_an_account_cannot_be_changed_by_who_may_only_view_it(cast: Cast) -> None:
    account = cast.key().key.account
    reader = login(admin_site.staff("budgets.view_account"))

    answer = reader.post(
        ACCOUNT.url("change", account.pk),
        {**windows({"budget_duration": "1d", "max_budget": "3"}), **models()},
    )

    assert answer.status_code == 403
    assert not Budget.objects.filter(window_of=account).exists()


# --- Budgets of single models ------------------------------------------------------------------


def test_a_model_of_a_holder_is_limited_shown_and_set_free(cast: Cast, root: Client) -> None:
    key = cast.key().key
    url = ACCOUNT.url("change", key.account_id)
    wanted = {"called": "gpt-4o", "max_budget": "7", "budget_duration": "1mo"}

    with raises_version(cast.organization.pk):
        save(root, url, **models(wanted))
    account = Account.objects.get(id=holder_model_account_id(holder=key.account_id, model="gpt-4o"))
    own = Budget.objects.get(private_to=account)
    page = text_of(root.get(url))
    save(root, ACCOUNT.url("change", account.pk), rpm_limit="10")
    save(root, url, **{"models-0-max_budget": "8"})
    changed = Budget.objects.get(private_to=account)
    save(root, url, **{"models-0-DELETE": "on"})

    assert (own.max_budget, own.duration, own.enforcement) == (Decimal(7), "1mo", "adaptive")
    assert "USD 0.00 of USD 7.00 a month" in page
    assert ACCOUNT.url("change", account.pk) in page
    assert (changed.max_budget, changed.rpm_limit) == (Decimal(8), 10)
    assert not Budget.objects.filter(private_to=account).exists()


def test_models_that_the_form_does_not_show_keep_their_budgets(cast: Cast, root: Client) -> None:
    account = cast.key().key.account
    limit_models(account, "kept")

    save(root, ACCOUNT.url("change", account.pk), **models({"called": "new", "max_budget": "2"}))

    limited = Budget.objects.filter(private_to__holder=account)
    assert {each.private_to.model for each in limited if each.private_to} == {"kept", "new"}


def test_a_model_is_not_limited_twice(cast: Cast, root: Client) -> None:
    account = cast.key().key.account
    row = {"called": "same", "max_budget": "2"}

    answer = save(root, ACCOUNT.url("change", account.pk), **models(row, row))

    assert "same twice" in text_of(answer)


def test_the_page_of_an_account_asks_a_few_times_however_many_models_are_limited(
    cast: Cast, root: Client
) -> None:
    account = cast.key("5").key.account
    url = ACCOUNT.url("change", account.pk)
    counted = []
    for number in (2, 12):
        limit_models(account, *(f"model {n}" for n in range(number)))
        counted.append(admin_site.queries_of(lambda: root.get(url)))

    assert counted[0] == counted[1]


# --- The platform's accounts -------------------------------------------------------------------


def test_a_providers_account_takes_budgets_in_the_platforms_currency(
    cast: Cast, root: Client
) -> None:
    account = accounts.platform_account(
        kind=AccountKind.PROVIDER, text=f"provider-{cast.organization.pk}"
    )
    shared = budget_services.create_budget(
        organization=None, terms=Terms(Decimal(90)), name="All providers"
    )
    theirs = budget_services.create_budget(organization=cast.outsider, terms=Terms(Decimal(1)))
    url = ACCOUNT.url("change", account.pk)

    with raises_version(0):
        save(root, url, max_budget="100", budget_duration="1d", shared_budgets=[shared.pk])
    refused = save(root, url, shared_budgets=[theirs.pk])
    page = text_of(root.get(url))

    assert {each.organization for each in account.budgets.all()} == {None}
    assert "USD 0.00 of USD 100.00 a day" in page
    assert "Budgets of single models" not in page
    assert "shared_budgets" in errors_of(refused)


def test_a_budget_for_providers_is_made_and_changed_here(root: Client) -> None:
    page = Pages(Budget)
    name = f"platform {id(root)}"

    save(root, page.url("add"), organization="", name=name, max_budget="10", enforcement="strict")
    made = Budget.objects.get(name=name)
    save(root, page.url("change", made.pk), max_budget="11")

    made.refresh_from_db()
    assert made.organization is None
    assert (made.max_budget, made.enforcement, made.time_zone) == (Decimal(11), "strict", "UTC")


def test_the_search_for_a_platform_accounts_budgets_finds_those_of_no_organization(
    cast: Cast, root: Client
) -> None:
    name = f"found {cast.organization.pk}"
    ours = budget_services.create_budget(organization=None, terms=Terms(Decimal(1)), name=name)
    budget_services.create_budget(
        organization=cast.organization, terms=Terms(Decimal(1)), name=name
    )

    answer = root.get(
        "/admin/autocomplete/",
        {
            "app_label": "budgets", "model_name": "accountbudget", "field_name": "budget",
            "organization": "0", "term": name,
        },
    )  # fmt: skip

    assert [each["id"] for each in answer.json()["results"]] == [str(ours.pk)]


def test_the_history_of_an_account_names_further_budgets_and_those_of_models_also_once_gone(
    cast: Cast, root: Client
) -> None:
    account = cast.key(name="told").key.account
    url = ACCOUNT.url("change", account.pk)
    save(root, url, **windows({"budget_duration": "1d", "max_budget": "3"}))
    save(root, url, **models({"called": "gpt-4o", "max_budget": "7"}))
    save(root, url, **{"windows-0-DELETE": "on"})

    html = text_of(root.get(ACCOUNT.url("history", account.pk)))
    page = " ".join(strip_tags(html).split())

    assert "further budget created" in page
    assert "further budget deleted" in page
    assert "limit of gpt-4o for told" in page


# --- What is used now --------------------------------------------------------------------------


def rates_in(page: str) -> list[str]:
    """Return the table of limits of requests and tokens, a row a string."""
    page = re.sub(r"<span class=\"material-symbols-outlined.*?</span>", "", page)
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", page, re.DOTALL)
    return [" ".join(strip_tags(row.replace("</t", " </t")).split()) for row in rows]


def busy(account: Account) -> None:
    """Have the live store count requests and tokens, some of them more than a minute ago."""
    second = int(storekeeper.store().time()[0])
    window = {f"q{second}": 3, f"q{second - 30}": 4, f"q{second - 61}": 500, f"t{second}": 1_200}
    storekeeper.store().hset(f"{TAG}w:{account.pk.hex}", mapping=window)
    storekeeper.store().hset(f"{TAG}c:{account.pk.hex}", "p", 4)


def limit_rates(account: Account) -> None:
    with transaction.atomic():
        accounts.set_private_budget(
            account=account,
            terms=Terms(rpm_limit=60, tpm_limit=100_000, max_parallel_requests=4),
            now=datetime.now(UTC),
        )


def test_the_page_of_an_account_tells_how_busy_it_is_in_the_last_minute(
    cast: Cast, root: Client
) -> None:
    account = cast.key().key.account
    limit_rates(account)
    busy(account)

    page = text_of(root.get(ACCOUNT.url("change", account.pk)))

    assert rates_in(page) == [
        "Requests in the last minute 7 60 Own limit",
        "Tokens in the last minute 1,200 100,000 Own limit",
        "Requests under way 4 full 4 Own limit",
    ]


def test_what_nobody_has_counted_yet_is_unknown_and_not_nothing(cast: Cast, root: Client) -> None:
    account = cast.key().key.account
    limit_rates(account)

    page = text_of(root.get(ACCOUNT.url("change", account.pk)))

    assert "Requests under way unknown 4 Own limit" in rates_in(page)


def test_without_the_live_store_nobody_knows_how_busy_an_account_is(
    cast: Cast, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = cast.key().key.account
    limit_rates(account)
    busy(account)

    def away(*_: object) -> Any:
        raise RedisAway

    monkeypatch.setattr(account_page, "pace_of", away)
    one = rates_in(text_of(root.get(ACCOUNT.url("change", account.pk))))
    monkeypatch.setattr(storekeeper, "is_open", away)
    other = rates_in(text_of(root.get(ACCOUNT.url("change", account.pk))))

    assert one == other
    assert one[0] == "Requests in the last minute unknown 60 Own limit"


def test_a_reader_sees_further_budgets_and_those_of_models(cast: Cast, root: Client) -> None:
    account = cast.key("50").key.account
    url = ACCOUNT.url("change", account.pk)
    save(
        root, url,
        **windows({"budget_duration": "1d", "max_budget": "3.25"}),
    )  # fmt: skip
    save(root, url, **models({"called": "gpt-4o", "max_budget": "7.75"}))

    page = text_of(login(admin_site.staff("budgets.view_account")).get(url))

    assert 'name="_save"' not in page
    assert "USD 3.25" in page
    assert "gpt-4o" in page
    assert "USD 7.75" in page


def test_accounts_that_are_full_by_a_template_are_found_too(cast: Cast, root: Client) -> None:
    full, half, own = (cast.key(limit).key for limit in (None, None, "1000"))
    shared = budget_services.create_budget(
        organization=cast.organization, terms=Terms(Decimal(10), duration="1mo"), name="Each"
    )
    with transaction.atomic():
        accounts.set_template(
            holder=cast.organization.account, applies_to="key", budgets=[shared],
            now=datetime.now(UTC),
        )  # fmt: skip
    for key, cost in ((full, "9"), (half, "5"), (own, "9")):
        admin_site.spend_on(key, cost)

    found = figures.fullest(share_min=80, now=datetime.now(UTC))

    assert full.account_id in found
    assert not {half.account_id, own.account_id} & set(found)


def test_a_budget_of_rates_alone_is_told_by_them(cast: Cast, root: Client) -> None:
    made = budget_services.create_budget(
        organization=cast.organization, terms=Terms(rpm_limit=60, max_parallel_requests=4)
    )

    page = text_of(root.get(Pages(Budget).url("changelist"), {"q": made.public_id}))

    assert "60 requests a minute · 4 at once" in page
    assert "no limit" not in page


def test_the_list_of_accounts_leaves_out_models_of_holders_until_asked(
    cast: Cast, root: Client
) -> None:
    account = cast.key(name=f"key {cast.organization.pk}").key.account
    limit_models(account, "gpt-4o")
    url = ACCOUNT.url("changelist")
    narrowed = {"organization__id__exact": str(cast.organization.pk)}

    usual = text_of(root.get(url, narrowed))
    every = text_of(root.get(url, {**narrowed, "kind": "any"}))
    of_one = text_of(root.get(url, {"holder__id__exact": str(account.pk)}))

    assert account.label in usual
    assert f"gpt-4o for {account.label}" not in usual
    assert f"gpt-4o for {account.label}" in every
    assert f"gpt-4o for {account.label}" in of_one


def test_closed_account_says_why_and_is_reopened_with_a_reason(cast: Cast, root: Client) -> None:
    account = cast.team.account
    close_accounts(ids=[account.pk], because="an event of unknown amount was set aside (1-1)")
    page, url = page_of(account), reverse("admin:reopen_account", args=[account.pk])

    told = root.get(page).content.decode()
    refused = root.post(url, {"reason": ""})
    still = Account.objects.get(pk=account.pk).closed_because
    root.post(url, {"reason": "a test wrote it"})

    assert "an event of unknown amount was set aside (1-1)" in told
    assert refused.status_code == 302
    assert still
    assert Account.objects.get(pk=account.pk).closed_because == ""
    assert Change.objects.filter(object_id=account.pk, reason="a test wrote it").exists()


def page_of(account: Account) -> str:
    return reverse("admin:budgets_account_change", args=[account.pk])
