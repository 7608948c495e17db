"""The admin's page of reports: who sees what, and what it says of converting."""

import csv
import html
import io
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from budgets.models import User, UserRole
from budgets.services import tenancy
from spend.admin import reports as page
from tests import admin_site
from tests.admin_site import HOSTILE, few_queries, login, queries_of, text_of
from tests.spend.report_support import FIRST, SECOND, THIRD, Spender, rate, spender

URL = reverse("spend_report")
MAY_LOOK = "spend.view_spendevent"
QUERIES_MAX = 18
Pair = tuple[str, str]


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def pair(currency: str) -> Pair:
    """A currency without rates, and one that has minor units."""
    return currency, "EUR"


def asked(of: Spender | None = None, **query: str) -> dict[str, str]:
    usual = {"first_day": str(FIRST), "last_day": str(THIRD), "group_by": "day", **query}
    return usual | ({"organization": str(of.organization.pk)} if of else {})


def member_of(*spenders: Spender, **fields: Any) -> User:
    """Return somebody who may look at spend, and is in these organizations."""
    user = admin_site.staff(MAY_LOOK)
    User.objects.filter(pk=user.pk).update(**fields)
    for each in spenders:
        tenancy.join_organization(organization=each.organization, user=user)
    return User.objects.get(pk=user.pk)


def test_a_report_shows_rows_total_and_how_it_was_converted(root: Client, pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "2")
    acme.spend("1234.5", model="dear")
    acme.spend("0.001", model="cheap", on=SECOND)

    told = text_of(root.get(URL, asked(acme, group_by="model", currency="EUR")))

    assert "EUR 2,469.00" in told
    assert "&lt;EUR 0.01" in told
    assert f"{pair[0]} 1,234.50" in told
    assert "is converted at the rate in force on that date" in told
    assert f"1 {pair[0]} = 2 EUR of {FIRST}, for {FIRST} to {SECOND}" in told


def test_what_has_no_rate_or_a_stale_one_is_said(root: Client, pair: Pair) -> None:
    acme = spender(pair[0])
    acme.spend("7")
    without = text_of(root.get(URL, asked(acme, currency="EUR")))
    rate(*pair, "2", on=FIRST.replace(month=1))

    stale = text_of(root.get(URL, asked(acme, currency="EUR")))

    assert "Not converted, and not in the total:" in without
    assert f"{pair[0]} 7.00" in without
    assert "Not converted, and not" not in stale
    assert "at rates that were <strong>stale</strong>" in stale


def test_what_needs_no_rate_says_so(root: Client) -> None:
    acme = spender()
    acme.spend("1")

    told = text_of(root.get(URL, asked(acme)))

    assert "Nothing had to be converted: all of it was spent in USD." in told
    assert "≈" not in told


def test_what_could_not_be_converted_does_not_read_as_nothing(root: Client, pair: Pair) -> None:
    acme = spender(pair[0])
    acme.spend("7", model="m")

    answer = root.get(URL, asked(acme, group_by="model", currency="EUR"))

    (row,) = answer.context["told"].rows
    assert row.figures.amount == "–"
    assert "EUR 0.00" not in text_of(answer)


def test_groups_of_one_name_are_told_apart_by_their_ids(root: Client) -> None:
    acme = spender()
    teams = [acme.team("Blue"), acme.team("Blue"), acme.team("Red")]
    for team in teams:
        acme.spend("1", team=team)

    told = root.get(URL, asked(acme, group_by="team")).context["told"]

    names = "".join(row.groups[0] for row in told.rows)
    assert [f">{team.public_id}<" in names for team in teams] == [True, True, False]


def test_rounding_is_a_line_of_its_own(root: Client) -> None:
    acme = spender()
    for n in range(3):
        acme.spend("0.004", model=f"m{n}")

    assert "Rounding of the rows" in text_of(root.get(URL, asked(acme, group_by="model")))
    assert "Rounding of the rows" not in text_of(root.get(URL, asked(acme, group_by="day")))


def test_without_a_question_this_month_is_shown(root: Client) -> None:
    answer = root.get(URL)

    assert answer.status_code == 200
    assert answer.context["form"].is_valid()
    assert answer.context["report"].first_day.day == 1


def test_nothing_spent_says_so(root: Client) -> None:
    assert "Nothing was spent in these days" in text_of(root.get(URL, asked(spender())))


@pytest.mark.parametrize(
    ("field", "query"),
    [
        ("first_day", {"first_day": "soon"}), ("last_day", {"last_day": ""}),
        ("last_day", {"last_day": "2026-03-01"}), ("last_day", {"last_day": "2027-04-06"}),
        ("currency", {"currency": "BTC"}), ("group_by", {"group_by": "colour"}),
        ("group_by", {"group_by": "day", "then_by": "day"}), ("then_by", {"then_by": "x"}),
        ("organization", {"organization": "0"}), ("organization", {"organization": "x"}),
        ("model", {"model": "x" * 256}), ("model", {"model": "a\0"}),
        ("last_day", {"group_by": "key", "then_by": "user", "last_day": "2026-04-02"}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_at_its_field(
    root: Client, field: str, query: dict[str, Any]
) -> None:
    for form in ("", "csv"):
        answer = root.get(URL, asked(**query) | {"format": form})

        assert answer.status_code == 200
        assert set(answer.context["form"].errors) == {field}
        assert answer.context["report"] is None


# --- Who sees what -------------------------------------------------------------------------


def test_who_may_not_look_at_spend_gets_no_report() -> None:
    nobody = login(admin_site.staff("budgets.view_account"))

    assert nobody.get(URL).status_code == 403
    assert nobody.get(URL, asked() | {"format": "csv"}).status_code == 403
    assert Client(SERVER_NAME="127.0.0.1").get(URL).status_code == 302
    assert URL not in text_of(nobody.get("/admin/"))
    assert URL in text_of(login(admin_site.staff(MAY_LOOK)).get("/admin/"))


def test_members_see_their_organizations_and_no_other() -> None:
    acme, outsider = spender(name="Acme Only"), spender(name="Outsider Only")
    acme.spend("1.25", model="ours")
    outsider.spend("50", model="theirs")
    client = login(member_of(acme))

    for form in ("", "csv"):
        told = client.get(URL, asked(group_by="model") | {"format": form}).content.decode()
        assert "ours" in told
        assert "theirs" not in told
        assert "Outsider Only" not in told
    named = client.get(URL, asked(outsider, group_by="model") | {"format": "csv"})
    assert set(named.context["form"].errors) == {"organization"}
    assert "theirs" not in text_of(named)


def test_who_is_in_no_organization_sees_none() -> None:
    spender().spend("1", model="somebodys")

    told = text_of(login(member_of()).get(URL, asked(group_by="model")))

    assert "Nothing was spent in these days" in told
    assert "somebodys" not in told


@pytest.mark.parametrize("role", [UserRole.PROXY_ADMIN, UserRole.PROXY_ADMIN_VIEWER])
def test_administrators_see_every_organization(role: UserRole) -> None:
    acme = spender()
    acme.spend("1", model="somebodys")

    told = text_of(login(member_of(role=role)).get(URL, asked(acme, group_by="model")))

    assert "somebodys" in told


# --- Files and bounds ----------------------------------------------------------------------


def test_the_download_is_of_what_is_shown(root: Client, pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "2")
    acme.spend("1", model="a", team=acme.team("Blue"))
    shown = root.get(URL, asked(acme, group_by="team", then_by="model", currency="EUR"))
    link = f"{URL}?{shown.context['download']}"

    answer = root.get(link)

    assert html.escape(link) in text_of(shown)
    assert answer["Content-Type"].startswith("text/csv")
    row = next(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert (row["team_name"], row["model"], row["amount"]) == ("Blue", "a", "2.00")


def test_more_rows_than_a_page_holds_are_left_to_the_download(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = spender()
    for n in range(3):
        acme.spend("1", model=f"m{n}")
    monkeypatch.setattr(page, "ROWS_SHOWN_MAX", 1)

    told = text_of(root.get(URL, asked(acme, group_by="model")))

    assert "and 2 more, which the download has" in told
    assert "USD 3.00" in told


def test_a_page_asks_as_often_however_much_it_shows(root: Client, pair: Pair) -> None:
    few, many = spender(pair[0]), spender(pair[0])
    rate(*pair, "2")
    few.spend("1", team=few.team(), model="m")
    for n in range(5):
        many.spend("1", team=many.team(), model=f"m{n}", on=SECOND)
    query = {"group_by": "team", "then_by": "model", "currency": "EUR"}

    once = queries_of(lambda: root.get(URL, asked(few, **query)))

    assert queries_of(lambda: root.get(URL, asked(many, **query))) == once
    with few_queries(QUERIES_MAX):
        root.get(URL, asked(many, **query))


def test_a_hostile_name_is_text(root: Client) -> None:
    acme = spender(name=HOSTILE)
    acme.spend("1", team=acme.team(HOSTILE), model=HOSTILE)

    for groups in (("team", "model"), ("organization", "day")):
        told = text_of(root.get(URL, asked(acme, group_by=groups[0], then_by=groups[1])))
        assert "<script>alert(1)" not in told
        assert admin_site.links_out(told) == []
