"""What all processes count together, on real servers; and that labels stay few."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import pytest
from pytest_django.fixtures import Settings

from budgets.metrics import exposition
from budgets.models import Team
from budgets.services import tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Owner, issue_key
from gateway import metrics
from tests.conftest import Cast
from tests.gateway.support import CHAT, HELLO, PER_REQUEST, chat, get
from tests.metrics_text import read, scrape
from tests.stack import Stack, wait_until

ENDED = "costplatform_requests_total"
REFUSED = "costplatform_refusals_total"
IN_FLIGHT = "costplatform_requests_in_flight"
SECONDS = 1.2
"""Longer than what is read from the servers is kept."""


def budgeted_team(cast: Cast, limit: str) -> tuple[Team, str]:
    """Return a team with a monthly limit, and the secret of a key of it."""
    now = datetime.now(UTC)
    team = tenancy.create_team(
        organization=cast.organization,
        values={"public_id": f"metered-{cast.organization.pk}", "name": 'Team "A"\\\n'},
        terms=Terms(max_budget=Decimal(limit), duration="1mo"),
        now=now,
    )
    owner = Owner(cast.organization, team=team)
    return team, issue_key(owner=owner, values={}, terms=Terms(), now=now).secret


@pytest.fixture
def lone_web(stack: Stack) -> Iterator[str]:
    """A web process of its own, that a test may kill."""
    yield stack.start_web("lone", processes=1)
    if "lone-0" in stack.processes:
        stack.stop("lone-0")


def linger(url: str, secret: str) -> threading.Thread:
    """Have a request in flight for some seconds."""

    def ask() -> None:
        with contextlib.suppress(OSError, HTTPException):  # its process was killed
            chat(url, secret, stream=True, sandbox={"chunks": 25, "chunk_delay_ms": 200})

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def leave(url: str, secret: str, **fields: object) -> None:
    """Send a request, wait a moment, and hang up."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    body = json.dumps({"model": CHAT, "messages": HELLO} | fields)
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    time.sleep(0.7)
    connection.close()


def test_what_several_processes_have_counted_is_added_up(
    stack: Stack, cast: Cast, master_key: str
) -> None:
    key = cast.key("1")
    before = scrape(stack.lane, master_key)

    for _ in range(15):
        assert chat(stack.lane, key.secret).status == 200
        assert chat(stack.views, key.secret, stream=True).status == 200
    after = scrape(stack.views, master_key)

    labels = {"route": "/v1/chat/completions", "model": CHAT, "outcome": "answered"}
    assert after.sum(ENDED, **labels, status="2xx") - before.sum(ENDED, **labels) == 30
    for name in ("admission", "gateway_added", "upstream_headers"):
        count = f"costplatform_{name}_seconds_count"
        assert after.sum(count) - before.sum(count) == 30, name
    assert after.sum(IN_FLIGHT) == 0


def test_the_same_numbers_come_from_every_process(stack: Stack, master_key: str) -> None:
    answers = [scrape(url, master_key) for url in (stack.lane, stack.views) for _ in range(4)]

    assert len({answer.sum(ENDED) for answer in answers}) == 1


def test_a_refusal_counts_once_with_its_reason_and_the_kind_of_account(
    door: str, cast: Cast, master_key: str
) -> None:
    key = cast.key("0.015")
    assert chat(door, key.secret, model=PER_REQUEST).status == 200
    before = scrape(door, master_key)

    assert chat(door, key.secret, model=PER_REQUEST).status == 429
    after = scrape(door, master_key)

    labels = {"reason": "budget_exceeded", "account_kind": "key", "observed": "no"}
    assert after.sum(REFUSED, **labels) - before.sum(REFUSED, **labels) == 1
    assert after.sum(REFUSED) - before.sum(REFUSED) == 1
    refused = {"outcome": "refused", "status": "4xx", "model": PER_REQUEST}
    assert after.sum(ENDED, **refused) - before.sum(ENDED, **refused) == 1


def test_a_refusal_before_any_account_was_asked_names_none(
    door: str, cast: Cast, master_key: str
) -> None:
    before = scrape(door, master_key)

    assert chat(door, "sk-nonsense").status == 401
    after = scrape(door, master_key)

    labels = {"reason": "invalid_api_key", "account_kind": ""}
    assert after.sum(REFUSED, **labels) - before.sum(REFUSED, **labels) == 1


@pytest.mark.parametrize(
    ("script", "stream", "outcome"),
    [
        ({"status": 503}, False, "upstream_error"),
        ({"fault": "reset_before_headers"}, False, "upstream_error"),
        ({"fault": "reset_mid_stream", "chunks": 10}, True, "upstream_error"),
        ({}, True, "answered"),
    ],
)
def test_each_request_ends_once_with_what_became_of_it(
    door: str, cast: Cast, master_key: str, script: dict[str, object], stream: bool, outcome: str
) -> None:
    before = scrape(door, master_key)

    chat(door, cast.key("1").secret, sandbox=script, stream=stream)
    after = scrape(door, master_key)

    assert after.sum(ENDED, outcome=outcome) - before.sum(ENDED, outcome=outcome) == 1
    assert after.sum(ENDED) - before.sum(ENDED) == 1
    assert after.sum(REFUSED) == before.sum(REFUSED)
    assert after.sum(IN_FLIGHT) == 0


@pytest.mark.parametrize("script", [{"fault": "hang"}, {"chunks": 50, "chunk_delay_ms": 100}])
def test_a_request_whose_caller_leaves_ends_once(
    door: str, cast: Cast, master_key: str, script: dict[str, object]
) -> None:
    key = cast.key("1")
    before = scrape(door, master_key)

    leave(door, key.secret, sandbox=script, stream="chunks" in script)

    def ended() -> dict[str, float]:
        now = scrape(door, master_key)
        return {
            name: now.sum(ENDED, **labels) - before.sum(ENDED, **labels)
            for name, labels in {"all": {}, "left": {"outcome": "client_closed"}}.items()
        }

    wait_until(lambda: ended()["all"] > 0, seconds=15)
    assert ended() == {"all": 1, "left": 1}
    assert scrape(door, master_key).sum(IN_FLIGHT) == 0


def test_a_model_that_nobody_deployed_is_other(door: str, cast: Cast, master_key: str) -> None:
    before = scrape(door, master_key)

    for n in range(5):
        assert chat(door, cast.key("1").secret, model=f"made-up-{n}").status == 404
    after = scrape(door, master_key)

    assert after.sum(ENDED, model="other") - before.sum(ENDED, model="other") == 5
    assert not {name for name in after.labels(ENDED, "model") if name.startswith("made-up")}


def test_no_key_user_or_end_user_is_in_any_label(door: str, cast: Cast, master_key: str) -> None:
    key = cast.key("1")
    assert chat(door, key.secret, user="customer-of-mine").status == 200

    text = get(door, master_key, "/metrics").body.decode()

    for secret in (key.secret, key.key.digest, key.key.prefix, str(key.key.account_id)):
        assert secret not in text
    assert "customer-of-mine" not in text
    assert cast.user.email not in text


def test_money_is_what_the_management_api_shows(stack: Stack, cast: Cast, master_key: str) -> None:
    team, secret = budgeted_team(cast, "1.5")
    for _ in range(3):
        assert chat(stack.lane, secret, model=PER_REQUEST).status == 200
    lingering = linger(stack.lane, secret)
    wait_until(lambda: scrape(stack.lane, master_key).sum(IN_FLIGHT) == 1, seconds=5)
    time.sleep(SECONDS)

    scraped = scrape(stack.lane, master_key)
    told = get(stack.lane, master_key, f"/team/info?team_id={team.public_id}").json["team_info"]

    def of(name: str) -> float:
        labels = {"kind": "team", "period": "1mo", "account_id": str(team.account_id)}
        (value,) = scraped.each(
            f"costplatform_budget_{name}", organization=cast.organization.public_id,
            account=team.account.label, currency="USD", **labels,
        )  # fmt: skip
        return value

    assert (of("limit"), of("spent")) == (told["max_budget"], told["spend"]) == (1.5, 0.03)
    assert of("reserved") > 0
    assert of("remaining") == pytest.approx(1.5 - 0.03 - of("reserved"))
    assert scraped.sum("costplatform_open_reservations") == 1
    assert scraped.sum("costplatform_oldest_reservation_age_seconds") >= SECONDS
    lingering.join(timeout=30)
    assert scrape(stack.lane, master_key).sum(IN_FLIGHT) == 0


def test_the_recorder_counts_what_it_writes(stack: Stack, cast: Cast, master_key: str) -> None:
    key = cast.key("1")
    stack.settle_down(seconds=30)
    before = scrape(stack.lane, master_key)

    for _ in range(4):
        chat(stack.lane, key.secret)
    stack.settle_down()
    time.sleep(SECONDS)
    after = scrape(stack.lane, master_key)

    def grown(name: str) -> float:
        return after.sum(name) - before.sum(name)

    assert grown("costplatform_recorder_events_total") == 4
    assert 1 <= grown("costplatform_recorder_batches_total") <= 4
    assert grown("costplatform_recorder_sweeps_total") >= 1
    for name in ("recorder_lag_seconds", "unrecorded_events", "open_reservations"):
        assert after.each(f"costplatform_{name}") == [0], name
    assert after.each("costplatform_store_open") == [1]
    wait_until(
        lambda: scrape(stack.lane, master_key).sum("costplatform_unconfirmed_events") == 0,
        seconds=5,
    )


def test_a_killed_process_keeps_its_counters_and_loses_its_gauges(
    stack: Stack, lone_web: str, cast: Cast, master_key: str
) -> None:
    key = cast.key("1")
    stack.settle_down(seconds=30)
    before = scrape(stack.lane, master_key)
    for _ in range(3):
        assert chat(lone_web, key.secret).status == 200
    linger(lone_web, key.secret)
    wait_until(lambda: scrape(stack.lane, master_key).sum(IN_FLIGHT) == 1, seconds=5)

    stack.kill("lone-0")
    killed = scrape(stack.lane, master_key)
    files = set(stack.metrics.glob("*.db"))
    again = stack.start_web("lone", processes=1)
    assert chat(again, key.secret).status == 200
    after = scrape(stack.lane, master_key)

    assert killed.sum(ENDED) - before.sum(ENDED) == 3
    assert killed.sum(IN_FLIGHT) == 0
    assert after.sum(ENDED) - before.sum(ENDED) == 4
    assert set(stack.metrics.glob("*.db")) == files

    def swept() -> float:
        orphans = "costplatform_recorder_orphans_total"
        return scrape(stack.lane, master_key).sum(orphans) - before.sum(orphans)

    wait_until(lambda: swept() == 1, seconds=15)


@pytest.mark.no_servers
def test_labels_of_models_are_those_of_the_oldest_deployments_and_no_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.METRICS_MODELS_MAX = 2
    monkeypatch.setattr(metrics, "_models", {})
    deployed = {name: object() for name in ("first", "s" * 200, "third")}

    labels = [metrics._label_of(name, deployed) for name in ("third", *deployed, "unknown")]
    later = metrics._label_of("new", {"new": object(), **deployed})

    assert labels == ["other", "first", "s" * 120, "other", "other"]
    assert later == "other"
    assert metrics._label_of("first", {}) == "other"


@pytest.mark.no_servers
def test_what_an_observing_budget_would_have_refused_is_told_apart() -> None:
    labels = {"reason": "budget_exceeded", "account_kind": "team", "observed": "yes"}
    before = read(exposition().decode()).sum(REFUSED, **labels)

    metrics.would_have_refused(reason="budget_exceeded", account_kind="team")

    assert read(exposition().decode()).sum(REFUSED, **labels) - before == 1
