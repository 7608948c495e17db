"""Who may scrape, what a scrape reads, and what it leaves out."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings
from redis.exceptions import ConnectionError as StoreAway

from budgets import storekeeper
from budgets.models import Organization, Partition, Team
from budgets.periods import FOREVER
from budgets.services import tenancy
from budgets.services.accounts import Terms
from costplatform import metrics, metrics_state
from spend import verification
from spend.models import UnpricedModel, Verification
from spend.services import unpriced
from spend.verification import VERIFICATIONS_KEPT, Difference, Report
from tests.api_client import live_counter, master, new_id, spend
from tests.conftest import Cast
from tests.metrics_text import Scraped, read

TOKEN = "a-token-for-the-scraper"
QUERIES_MAX = 17


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What another test has read is forgotten, and so is what this one reads."""
    metrics._state._read_at = float("-inf")
    yield
    metrics._state._read_at = float("-inf")


def ask(*, bearer: str = "", **meta: Any) -> Any:
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    return Client(SERVER_NAME="127.0.0.1", **meta).get("/metrics", headers=headers)


def scraped() -> Scraped:
    response = ask()
    assert response.status_code == 200
    return read(response.content.decode())


def make_team(organization: Organization, **terms: Any) -> Team:
    return tenancy.create_team(
        organization=organization,
        values={"public_id": new_id("team"), "name": "Same name"},
        terms=Terms(**terms),
        now=datetime.now(UTC),
    )


# --- Access --------------------------------------------------------------------------------


def test_a_client_on_this_machine_needs_no_key_as_long_as_there_is_no_token() -> None:
    assert ask().status_code == 200
    assert ask(REMOTE_ADDR="::1").status_code == 200


@pytest.mark.parametrize(
    "meta",
    [
        {"REMOTE_ADDR": "10.0.0.7"},
        {"REMOTE_ADDR": ""},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_HOST": "llm.example.com"},
    ],
)
def test_others_are_refused_in_the_one_shape(meta: dict[str, str], settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "llm.example.com"]

    response = ask(**meta)

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "unauthorized")
    assert set(error) == {"message", "type", "param", "code"}


def test_the_master_key_may_scrape_from_anywhere(master_key: str) -> None:
    assert ask(bearer=master_key, REMOTE_ADDR="10.0.0.7").status_code == 200


def test_with_a_token_everybody_needs_it_or_the_master_key(
    settings: Settings, master_key: str
) -> None:
    settings.METRICS_TOKEN = TOKEN

    assert ask().status_code == 401
    assert ask(bearer=TOKEN, REMOTE_ADDR="10.0.0.7").status_code == 200
    assert ask(bearer=master_key).status_code == 200


def test_a_wrong_or_a_virtual_key_is_refused_also_on_this_machine(
    cast: Cast, settings: Settings
) -> None:
    for secret in (cast.key("1").secret, TOKEN):
        assert ask(bearer=secret).status_code == 401
    settings.METRICS_TOKEN = TOKEN
    assert ask(bearer=f"{TOKEN}x").status_code == 401
    assert ask(bearer=f"{TOKEN[:-1]}é").status_code == 401


def test_only_reading_is_answered() -> None:
    assert Client(SERVER_NAME="127.0.0.1").post("/metrics").status_code == 405


@pytest.mark.parametrize("name", ["METRICS_TOKEN", "METRICS_TOKEN_FILE"])
def test_a_token_that_could_be_guessed_ends_the_start(name: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short\n")
    value = str(tmp_path / "token") if name.endswith("_FILE") else "short"

    ended = subprocess.run(
        [sys.executable, "-c", "import costplatform.settings"],
        env=os.environ | {name: value}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 1
    assert ended.stderr == "METRICS_TOKEN: must have at least 16 characters\n"


# --- Money ---------------------------------------------------------------------------------


def test_spent_is_what_the_management_api_shows_recorded_or_not(cast: Cast) -> None:
    teams = [make_team(cast.organization, max_budget=Decimal("0.3")) for _ in range(2)]
    spend(cast.organization, [teams[0].account_id], "0.123456789")

    with live_counter(teams[1].account_id, FOREVER, 300_000_001):
        found = scraped()
        told = [master().told("/team/info", team_id=team.public_id)["team_info"] for team in teams]

    for team, info in zip(teams, told, strict=True):
        labels = {"account_id": str(team.account_id), "period": "lifetime", "currency": "USD"}
        assert found.each("costplatform_budget_spent", **labels) == [float(info["spend"])]
        assert found.each("costplatform_budget_limit", **labels) == [float(info["max_budget"])]
        assert found.each("costplatform_budget_reserved", **labels) == [0]
    over = found.each("costplatform_budget_remaining", account_id=str(teams[1].account_id))
    assert over == [pytest.approx(-0.000000001)]


def test_an_account_without_a_limit_has_no_limit_and_no_remaining(cast: Cast) -> None:
    team = make_team(cast.organization, soft_budget=Decimal(1), duration="1mo")

    found = scraped()

    labels = {"account_id": str(team.account_id)}
    assert found.each("costplatform_budget_spent", **labels) == [0]
    assert found.each("costplatform_budget_limit", **labels) == []
    assert found.each("costplatform_budget_remaining", **labels) == []


def test_no_value_is_infinite_or_no_number(cast: Cast) -> None:
    make_team(cast.organization, soft_budget=Decimal(1))

    lines = ask().content.decode().splitlines()

    values = [line.rpartition(" ")[2] for line in lines if not line.startswith("#")]
    assert not [value for value in values if re.search("inf|nan", value, re.IGNORECASE)]


def test_only_organizations_teams_models_providers_and_deployments_are_told(cast: Cast) -> None:
    key = cast.key("1")
    now = datetime.now(UTC)
    user = tenancy.create_user(
        organization=cast.organization,
        values={"public_id": new_id("user"), "email": f"{uuid.uuid4().hex}@example.com"},
        terms=Terms(max_budget=Decimal(1)),
        now=now,
    )

    text = ask().content.decode()

    assert str(key.key.account_id) not in text
    assert user.public_id not in text
    assert user.email not in text


def test_labels_are_cut(cast: Cast) -> None:
    team = make_team(cast.organization, max_budget=Decimal(1))
    team.account.label = "x" * 200
    team.account.save(update_fields=["label"])

    (label,) = {
        dict(labels)["account"]
        for _, labels in scraped().series
        if dict(labels).get("account_id") == str(team.account_id)
    }

    assert label == "x" * 120


def test_accounts_beyond_the_most_are_left_out_and_counted(cast: Cast, settings: Settings) -> None:
    for _ in range(3):
        make_team(cast.organization, max_budget=Decimal(1))
    left_out = "costplatform_budget_accounts_left_out"
    everything = scraped()
    accounts = len(everything.labels("costplatform_budget_spent", "account_id"))
    metrics._state._read_at = float("-inf")

    settings.METRICS_ACCOUNTS_MAX = accounts - 2
    found = scraped()

    assert everything.each(left_out) == [0]
    assert len(found.labels("costplatform_budget_spent", "account_id")) == accounts - 2
    assert found.each(left_out) == [2]


# --- Cost of a scrape ----------------------------------------------------------------------


def test_the_number_of_queries_does_not_depend_on_the_number_of_accounts(cast: Cast) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            metrics_state.read_samples(at=datetime.now(UTC))
        return len(captured)

    make_team(cast.organization, max_budget=Decimal(1), duration="1mo")
    few = queries()
    for _ in range(12):
        make_team(cast.organization, max_budget=Decimal(1), duration="1d")

    assert queries() == few <= QUERIES_MAX


def test_many_scrapes_read_once(cast: Cast) -> None:
    ask()

    with CaptureQueriesContext(connection) as captured:
        for _ in range(5):
            assert ask().status_code == 200

    assert len(captured) == 0


# --- What is away --------------------------------------------------------------------------


def test_without_the_live_store_its_figures_are_absent(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = make_team(cast.organization, max_budget=Decimal(1))

    def away(_: Partition) -> bool:
        raise StoreAway

    monkeypatch.setattr(storekeeper, "is_open", away)
    found = scraped()

    assert found.each("costplatform_store_up") == found.each("costplatform_store_open") == [0]
    assert found.each("costplatform_budget_limit", account_id=str(team.account_id)) == [1]
    for name in ("budget_spent", "budget_reserved", "budget_remaining", "recorder_lag_seconds"):
        assert found.each(f"costplatform_{name}") == [], name


def test_a_closed_store_is_up_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storekeeper, "is_open", lambda _: False)

    found = scraped()

    assert found.each("costplatform_store_up") == [1]
    assert found.each("costplatform_store_open") == [0]
    assert found.each("costplatform_budget_spent") == []


def test_without_postgres_the_counters_are_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError

    monkeypatch.setattr(metrics_state, "_verification", away)
    found = scraped()

    assert found.each("costplatform_database_up") == [0]
    assert found.each("costplatform_store_up") == []
    assert found.each("costplatform_requests_in_flight") == [0]


# --- Drift ---------------------------------------------------------------------------------


def test_the_last_verification_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = (Difference("one", 5, 7), Difference("another", 9, 6))
    report = Report(10, 0, 1, 2, 3, differences)
    monkeypatch.setattr(verification, "verify", lambda: report)
    began = datetime.now(UTC).timestamp()

    with pytest.raises(CommandError, match="drift in 2 places"):
        call_command("verify_ledger")
    found = scraped()

    assert found.each("costplatform_verification_drift_units") == [5]
    assert found.each("costplatform_verification_differences") == [2]
    (at,) = found.each("costplatform_verification_timestamp_seconds")
    assert began <= at <= datetime.now(UTC).timestamp()


def test_what_has_no_price_is_told_as_long_as_it_is_on_the_queue() -> None:
    before = scraped()
    key, now = (new_id("provider")[:60], "m"), datetime.now(UTC)
    unpriced.add_refused({key: unpriced.Refused(7, now, now)})
    UnpricedModel.objects.filter(provider=key[0]).update(waiting=5)
    metrics._state._read_at = float("-inf")

    queued = scraped()
    unpriced.settle(
        provider=key[0], upstream_model="m", waiting=5, start=now, end=now + timedelta(days=1),
        now=now,
    )  # fmt: skip
    metrics._state._read_at = float("-inf")
    settled = scraped()

    def figures(of: Scraped) -> list[float]:
        requests = "costplatform_unpriced_requests"
        return [
            of.sum("costplatform_unpriced_models"), of.sum(requests, state="waiting"),
            of.sum(requests, state="refused"),
        ]  # fmt: skip

    assert [n - m for n, m in zip(figures(queued), figures(before), strict=True)] == [1, 5, 7]
    assert figures(settled) == figures(before)


def test_old_verifications_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr(verification, "verify", lambda: Report(1, 0, 0, 0, 0, ()))
    Verification.objects.bulk_create(
        Verification(at=now, ledger_rows=n, differences=0, drift_units=0)
        for n in range(VERIFICATIONS_KEPT + 5)
    )

    verification.verify_and_keep(now=now)

    assert Verification.objects.count() == VERIFICATIONS_KEPT
    assert Verification.objects.order_by("-id")[0].ledger_rows == 1
