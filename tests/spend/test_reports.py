"""Reports: every grouping adds up to what the ledger has, and of others nothing is told."""

import random
import uuid
from datetime import date, timedelta
from decimal import Decimal
from itertools import combinations, permutations
from typing import Any

import pytest
from django.db import connection

from budgets import periods
from budgets.errors import InvalidInput
from budgets.services import keys, tenancy
from spend.models import SpendEvent
from spend.reporting import report_sums, reports
from spend.reporting.report_sums import Group
from tests.spend.report_support import (
    FIRST,
    SECOND,
    THIRD,
    Spender,
    adjust,
    amounts,
    noon,
    rate,
    report,
    spender,
)

Pair = tuple[str, str]
CENT = Decimal("0.01")
SINGLE = [(group,) for group in Group]
DOUBLE = list(combinations(Group, 2))


@pytest.fixture
def pair(currency: str) -> Pair:
    """A currency without rates, and one that has minor units."""
    return currency, "EUR"


# --- Groups --------------------------------------------------------------------------------


def spend_at_random(of: Spender, *, requests: int, seed: int) -> None:
    dice = random.Random(seed)
    teams = [None, of.team("A"), of.team("B")]
    users = [None, of.user("Ada"), of.user("Bob")]
    issued = [None, of.key("one"), of.key("two")]
    for n in range(requests):
        request = of.spend(
            f"{dice.randrange(10**9)}e-9",
            at=noon(FIRST) + timedelta(hours=dice.randrange(48)),
            team=dice.choice(teams), user=dice.choice(users), key=dice.choice(issued),
            model=dice.choice(["m1", "m2"]), provider=dice.choice(["p1", "p2"]),
            deployment=dice.choice(["d1", "d2"]),
        )  # fmt: skip
        if n % 7 == 0:
            adjust(request, -dice.randrange(10**6))


def test_every_grouping_has_the_total_of_the_ledger(pair: Pair) -> None:
    spenders = [spender(pair[0], time_zone="America/New_York"), spender(pair[1])]
    for seed, each in enumerate(spenders):
        spend_at_random(each, requests=30, seed=seed)
    for n, day in enumerate((FIRST - timedelta(days=1), FIRST, SECOND, THIRD)):
        rate(*pair, f"1.1{n}", on=day)
    whole = expected_total(spenders, pair)

    for groups in [*SINGLE, *DOUBLE]:
        found = report(*spenders, by=groups, currency=pair[1], first_day=FIRST - timedelta(days=1))

        assert found.total.exact == whole, groups
        assert sum(row.figures.exact for row in found.rows) == whole, groups
        assert found.rounding + sum(r.figures.amount for r in found.rows) == found.total.amount
        assert abs(found.rounding) <= (len(found.rows) + 1) * CENT / 2
        assert found.total.events == 2 * (30 + 5), groups


def expected_total(spenders: list[Spender], pair: Pair) -> Decimal:
    """Return what the ledger's rows come to, each converted by itself."""
    whole = Decimal(0)
    for each in spenders:
        for row in SpendEvent.objects.filter(organization_id=each.organization.pk):
            zone = each.organization.time_zone
            day = row.admitted_at.astimezone(periods.zone_of(zone)).date()
            number = (day - (FIRST - timedelta(days=1))).days
            worth = Decimal(f"1.1{number}") if row.currency == pair[0] else Decimal(1)
            whole += Decimal(row.amount_units).scaleb(-9) * worth
    return whole


def test_spend_of_no_team_is_what_the_teams_do_not_have() -> None:
    acme = spender()
    team = acme.team("Blue")
    acme.spend("3", team=team)
    acme.spend("1")

    found = report(acme, by=[Group.TEAM])

    assert amounts(found) == {(team.public_id,): 3, ("",): 1}
    assert [row.groups[0].name for row in found.rows] == ["Blue", ""]


@pytest.mark.parametrize("groups", list(permutations(sorted(report_sums.HOLDERS), 2)))
def test_two_kinds_of_holders_are_told_apart_by_the_ledger(groups: tuple[Group, Group]) -> None:
    acme = spender()
    team, user, key = acme.team(), acme.user(), acme.key("k")
    ids = {Group.TEAM: team.public_id, Group.USER: user.public_id, Group.KEY: key.digest}
    acme.spend("3", team=team, user=user, key=key)
    acme.spend("1")

    found = report(acme, by=groups)

    assert amounts(found) == {(ids[groups[0]], ids[groups[1]]): 3, ("", ""): 1}


def test_a_user_of_two_organizations_is_one_row_in_two_currencies(pair: Pair) -> None:
    acme, other = spender(pair[0]), spender(pair[1])
    rate(*pair, "2")
    ada = acme.user("Ada")
    acme.spend("1", user=ada)
    other.spend("1", user=ada)

    found = report(acme, other, by=[Group.USER], currency=pair[1])

    assert amounts(found) == {(ada.public_id,): 3}
    assert found.rows[0].groups[0].name == "Ada"
    assert len(found.rows[0].figures.original) == 2


def test_what_was_deleted_keeps_its_spend_and_the_name_it_had() -> None:
    acme = spender()
    key, team = acme.key("gone"), acme.team("Gone too")
    acme.spend("2", key=key, team=team)
    keys.delete_keys(chosen=[key])
    tenancy.delete_teams(teams=[team])

    by_key, by_team = report(acme, by=[Group.KEY]), report(acme, by=[Group.TEAM])

    assert amounts(by_key) == {(str(key.account_id),): 2}
    assert by_team.rows[0].groups[0].name == "Gone too"


def test_a_re_rated_request_counts_as_it_was_corrected() -> None:
    acme = spender()
    adjust(acme.spend("2", model="m"), -500_000_000)

    found = report(acme, by=[Group.MODEL])

    assert amounts(found) == {("m",): Decimal("1.50")}


def test_models_and_providers_can_be_chosen_and_what_nobody_has_is_left_of_them_too() -> None:
    acme = spender()
    team = acme.team()
    acme.spend("1", model="a", provider="p", team=team)
    acme.spend("2", model="a", provider="q")
    acme.spend("4", model="b", provider="p")

    assert report(acme, model="a").total.amount == 3
    assert report(acme, provider="p").total.amount == 5
    assert amounts(report(acme, by=[Group.TEAM], model="a")) == {(team.public_id,): 1, ("",): 2}


def test_days_come_in_order_and_of_the_rest_the_dearest_first() -> None:
    acme = spender()
    acme.spend("1", model="cheap", on=FIRST)
    acme.spend("2", model="dear", on=FIRST)
    acme.spend("9", model="cheap", on=SECOND)

    found = report(acme, by=[Group.MODEL, Group.DAY])

    assert [tuple(each.id for each in row.groups) for row in found.rows] == [
        ("dear", "2026-03-02"), ("cheap", "2026-03-02"), ("cheap", "2026-03-03"),
    ]  # fmt: skip


def test_nobody_elses_spend_is_in_a_report() -> None:
    acme, outsider = spender(), spender()
    acme.spend("1", team=acme.team())
    outsider.spend("50", team=outsider.team(), model="theirs")

    for groups in [*SINGLE, (Group.TEAM, Group.USER)]:
        found = report(acme, by=groups)

        assert found.total.amount == 1, groups
        assert "theirs" not in repr(found)
    assert report(spender()).rows == ()


# --- Bounds --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("to", {"first_day": SECOND, "last_day": FIRST}),
        ("to", {"last_day": FIRST + timedelta(days=reports.DAYS_MAX)}),
        ("to", {"by": (Group.KEY, Group.TEAM), "last_day": FIRST + timedelta(days=31)}),
        ("group_by", {"by": ()}),
        ("group_by", {"by": (Group.DAY, Group.DAY)}),
        ("group_by", {"by": (Group.DAY, Group.TEAM, Group.MODEL)}),
    ],
)  # fmt: skip
def test_what_no_report_can_be_of_is_refused_by_name(field: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        report(spender(), **asked)

    assert refused.value.field == field


def test_as_many_days_as_may_be_are_reported() -> None:
    acme = spender()
    last = FIRST + timedelta(days=reports.DAYS_MAX - 1)
    acme.spend("1", on=date(2026, 11, 1))

    assert report(acme, last_day=last).total.amount == 1


def test_more_rows_than_may_be_are_refused_and_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    acme = spender()
    for n in range(3):
        acme.spend("1", model=f"m{n}")
    monkeypatch.setattr(reports, "ROWS_MAX", 3)
    whole = report(acme, by=[Group.MODEL])
    monkeypatch.setattr(reports, "ROWS_MAX", 2)

    with pytest.raises(InvalidInput, match="more than 2 rows"):
        report(acme, by=[Group.MODEL])
    assert len(whole.rows) == 3


def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(30)")

    monkeypatch.setattr(reports, "QUERY_MS_MAX", 50)
    monkeypatch.setattr(report_sums, "by_day", sleep)

    with pytest.raises(InvalidInput, match="takes too long"):
        report(spender())


def test_a_large_sum_is_exact_to_the_last_unit(pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "0.123456789012345")
    acme.spend("999999999.999999999")

    found = report(acme, currency=pair[1])

    assert found.total.exact == Decimal("123456789.012344999876543210987655")


def test_no_id_of_a_group_is_taken_for_sql() -> None:
    acme, name = spender(), f"x'; DROP TABLE spend_day; -- {uuid.uuid4()}"
    acme.spend("1", model=name)

    assert report(acme, by=[Group.MODEL], model=name).total.amount == 1
    assert report(acme, model="' OR 1=1 --").total.amount == 0
