"""Reports as programs read them: money as text, and files for spreadsheets."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from spend.api.reports import SpendQuery
from spend.reporting import report_csv, reports
from tests.api_client import Api, Reply, master, new_id
from tests.conftest import Cast
from tests.spend.report_support import FIRST, SECOND, THIRD, Spender, rate, spender

URL = "/api/v1/spend"
FORMULAS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1+1",
    "＝1",
)
Pair = tuple[str, str]


@pytest.fixture
def pair(currency: str) -> Pair:
    """A currency without rates, and one that has minor units."""
    return currency, "EUR"


def ask(of: Spender | None = None, **query: Any) -> Reply:
    asked = {"from": str(FIRST), "to": str(THIRD), **query}
    if of is not None:
        asked["organization_id"] = of.organization.public_id
    return master().get(URL, asked)


def file_of(of: Spender, **query: Any) -> list[dict[str, str]]:
    """Return the lines of the file, by the names of their columns."""
    text = csv_of(of, **query)
    return list(csv.DictReader(io.StringIO(text, newline="")))


def csv_of(of: Spender, **query: Any) -> str:
    asked = {"from": str(FIRST), "to": str(THIRD), "format": "csv", **query}
    asked["organization_id"] = of.organization.public_id
    headers = {"authorization": f"Bearer {master().key}"}
    response: Any = master().client.get(URL, asked, headers=headers)
    assert response.status_code == 200
    assert response["Content-Type"] == report_csv.CONTENT_TYPE
    assert response["Content-Disposition"].startswith('attachment; filename="spend-')
    text: str = response.content.decode()
    return text


def test_a_report_tells_rows_total_and_conversion(pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "2", on=SECOND)
    acme.spend("1.0000025", on=FIRST)
    acme.spend("3", on=SECOND)

    told = ask(acme, currency=pair[1]).content

    assert (told["first_day"], told["last_day"]) == (str(FIRST), str(THIRD))
    assert (told["currency"], told["group_by"]) == (pair[1], ["day"])
    first, second = told["rows"]
    assert first["groups"] == {"day": {"id": str(FIRST), "name": str(FIRST)}}
    assert (first["amount"], first["exact_amount"]) == ("0.00", "0")
    assert first["not_converted"] == [{"currency": pair[0], "amount": "1.0000025"}]
    assert (second["amount"], second["stale_rate"]) == ("6.00", False)
    assert second["original"] == [{"currency": pair[0], "amount": "3"}]
    assert (second["events"], second["input_tokens"], second["output_tokens"]) == (1, 3, 0)
    assert told["total"]["amount"] == "6.00"
    conversion = told["conversion"]
    assert conversion["policy"] == "rate_of_each_day"
    assert (conversion["minor_unit"], conversion["rounding"]) == ("0.01", "0.00")
    assert conversion["rates"] == [{
        "currency": pair[0], "first_day": str(SECOND), "last_day": str(SECOND),
        "rate": "2", "rate_date": str(SECOND), "stale": False,
    }]  # fmt: skip
    assert conversion["not_converted"] == [{
        "currency": pair[0], "amount": "1.0000025", "first_day": str(FIRST),
        "last_day": str(FIRST), "days": 1,
    }]  # fmt: skip


@pytest.mark.parametrize("groups", ["day", "team", "team,key"])
def test_what_the_response_cache_has_saved_is_told_as_it_was_saved(groups: str, pair: Pair) -> None:
    acme = spender(pair[0])
    acme.spend("1", on=FIRST, saved_units=2_500_000_000)
    acme.spend("1", on=FIRST, saved_units=1)

    told = ask(acme, currency=pair[1], group_by=groups).content

    saved = [{"currency": pair[0], "amount": "2.500000001"}]
    assert told["total"]["saved"] == saved
    assert [row["saved"] for row in told["rows"]] == [saved]


def test_a_stale_rate_is_told_with_its_date(pair: Pair) -> None:
    acme = spender(pair[0])
    old = FIRST - timedelta(days=30)
    rate(*pair, "2", on=old)
    acme.spend("1", on=FIRST)

    told = ask(acme, currency=pair[1]).content

    (used,) = told["conversion"]["rates"]
    assert (used["stale"], used["rate_date"]) == (True, str(old))
    assert told["rows"][0]["stale_rate"]


def test_rows_are_of_two_groups_by_id_and_name() -> None:
    acme = spender()
    team = acme.team("Blue")
    acme.spend("1.25", team=team, model="m")

    (row,) = ask(acme, group_by="team,model").content["rows"]

    assert row["groups"] == {
        "team": {"id": team.public_id, "name": "Blue"},
        "model": {"id": "m", "name": "m"},
    }


def test_without_a_currency_it_is_that_of_the_organization(currency: str) -> None:
    acme = spender(currency)
    acme.spend("1")

    assert ask(acme).content["currency"] == currency


def test_models_and_providers_are_chosen() -> None:
    acme = spender()
    acme.spend("1", model="a", provider="p")
    acme.spend("2", model="a", provider="q")

    assert ask(acme, model="a", provider="q").content["total"]["amount"] == "2.00"


def test_all_organizations_are_reported_where_none_is_named() -> None:
    acme, other = spender(), spender()
    acme.spend("1")
    other.spend("2")

    rows = ask(group_by="organization").content["rows"]

    found = {row["groups"]["organization"]["id"]: row["original"][0]["amount"] for row in rows}
    assert found[acme.organization.public_id] == "1"
    assert found[other.organization.public_id] == "2"


def test_an_organization_is_told_nothing_of_another() -> None:
    acme, outsider = spender(), spender()
    acme.spend("1")
    outsider.spend("50", model="theirs")

    for groups in ("day", "organization", "model", "team,user"):
        reply = ask(acme, group_by=groups)
        assert reply.content["total"]["amount"] == "1.00"
        assert outsider.organization.public_id not in reply.text
        assert "theirs" not in reply.text


def test_only_the_master_key_gets_a_report(cast: Cast) -> None:
    query = {"from": str(FIRST), "to": str(THIRD)}

    for query_format in ("json", "csv"):
        asked = query | {"format": query_format}
        assert Api().get(URL, asked).status == 401
        assert Api("sk-nobody").get(URL, asked).status == 401
        assert Api(cast.key().secret).get(URL, asked).status == 403


@pytest.mark.parametrize(
    ("param", "query"),
    [
        ("from", {"from": ""}), ("from", {"from": "2026-02-30"}), ("to", {"to": "tomorrow"}),
        ("to", {"to": "2026-03-01"}), ("to", {"to": "2027-04-06"}),
        ("currency", {"currency": "BTC"}), ("currency", {"currency": "usd"}),
        ("group_by", {"group_by": "day,day"}), ("group_by", {"group_by": "day,team,user"}),
        ("group_by[0]", {"group_by": "colour"}),
        ("to", {"group_by": "team,key", "to": "2026-04-02"}),
        ("format", {"format": "xml"}), ("provider", {"provider": "a b"}), ("tz", {"tz": "UTC"}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(param: str, query: dict[str, Any]) -> None:
    for query_format in ("json", "csv"):
        reply = ask(**{"format": query_format, **query})

        assert reply.status == 400
        assert reply.error["param"] == param


def test_both_days_must_be_given() -> None:
    reply = master().get(URL, {"from": str(FIRST)})

    assert (reply.status, reply.error["param"]) == (400, "to")
    assert SpendQuery().fields["from"].required


def test_an_organization_that_is_not_there_is_not_found() -> None:
    reply = ask(organization_id=new_id("org"))

    assert (reply.status, reply.error["param"]) == (404, "organization_id")


# --- Files ---------------------------------------------------------------------------------


def test_a_file_has_rows_rounding_total_and_how_it_was_converted(pair: Pair) -> None:
    acme = spender(pair[0])
    rate(*pair, "0.5", on=SECOND)
    acme.spend("7", on=FIRST, model="a")
    for model in ("a", "b", "c"):
        acme.spend("0.008", on=SECOND, model=model)

    lines = file_of(acme, group_by="model", currency=pair[1])

    kinds = [line["line"] for line in lines]
    assert kinds == ["row", "row", "row", "rounding", "total", "not_converted", "rate"]
    assert [line["amount"] for line in lines[:5]] == ["0.00", "0.00", "0.00", "0.01", "0.01"]
    assert [line["exact_amount"] for line in lines[:3]] == ["0.004", "0.004", "0.004"]
    assert lines[0]["original"] == f"{pair[0]} 7.008"
    assert lines[0]["not_converted"] == f"{pair[0]} 7"
    assert lines[4]["note"].startswith("What an organization spent on a day is converted")
    assert (lines[5]["currency"], lines[5]["amount"]) == (pair[0], "7")
    assert lines[6]["note"] == f"1 {pair[0]} = 0.5 {pair[1]} of {SECOND}, for {SECOND}"


def test_a_file_names_its_groups_by_id_and_name() -> None:
    acme = spender()
    key = acme.key("my key")
    acme.spend("1", key=key)

    row = file_of(acme, group_by="key,day")[0]

    assert (row["key"], row["key_name"], row["day"]) == (key.digest, "my key", str(FIRST))
    assert (row["currency"], row["amount"], row["events"]) == ("USD", "1.00", "1")


@pytest.mark.parametrize("name", FORMULAS)
def test_no_name_is_a_formula_in_a_file(name: str) -> None:
    acme = spender(name=name)
    acme.spend("1", model=name, provider=name, deployment=name)

    first = file_of(acme, group_by="model,provider")[0]
    second = file_of(acme, group_by="organization,deployment")[0]

    assert (first["model"], first["provider"]) == (f"'{name}", f"'{name}")
    assert (second["organization_name"], second["deployment"]) == (f"'{name}", f"'{name}")


def test_names_with_commas_quotes_and_lines_stay_in_their_cell() -> None:
    acme, name = spender(), 'a,"b"\nc'
    acme.spend("1", model=name)

    assert file_of(acme, group_by="model")[0]["model"] == name


def test_negative_amounts_stay_numbers() -> None:
    acme = spender()
    acme.spend("-1.5", model="credit")

    row = file_of(acme, group_by="model")[0]

    assert (row["amount"], row["exact_amount"]) == ("-1.50", "-1.5")


def test_a_file_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    acme = spender()
    for n in range(3):
        acme.spend("1", model=f"m{n}")
    monkeypatch.setattr(reports, "ROWS_MAX", 2)

    reply = ask(acme, group_by="model", format="csv")

    assert (reply.status, reply.error["param"]) == (400, "group_by")
