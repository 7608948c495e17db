"""What balancers and supervisors are told."""

import time
from collections.abc import Iterator

import pytest
import redis
from django.db import OperationalError

from budgets import storekeeper
from costplatform import health
from tests.api_client import master


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    health._check_migrations.cache_clear()
    yield
    health._check_migrations.cache_clear()


def ask(path: str) -> tuple[int, dict[str, object]]:
    response = master().client.get(path)
    return response.status_code, response.json()


def test_a_process_that_answers_is_alive() -> None:
    assert ask("/healthz/live") == (200, {"status": "ok"})


def test_a_process_is_ready_with_postgres_its_schema_and_an_open_store() -> None:
    assert ask("/healthz/ready") == (200, {"status": "ok"})


def test_a_store_that_is_not_open_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storekeeper, "is_open", lambda _: False)

    status, told = ask("/healthz/ready")

    assert status == 503
    assert told["missing"] == {"live_store": "not open: the recorder opens it"}


def test_a_store_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: object) -> bool:
        raise redis.ConnectionError

    monkeypatch.setattr(storekeeper, "is_open", away)

    status, told = ask("/healthz/ready")

    assert status == 503
    assert told["missing"] == {"live_store": "unreachable (ConnectionError)"}


def test_migrations_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "costplatform.health.MigrationExecutor.migration_plan", lambda *_: [object()]
    )

    status, told = ask("/healthz/ready")

    assert status == 503
    assert told["missing"] == {"postgres": "1 migrations are not applied"}


def test_a_postgres_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError

    monkeypatch.setitem(health._CHECKS, "postgres", away)

    assert ask("/healthz/ready")[1]["missing"] == {"postgres": "unreachable (OperationalError)"}


def test_the_answer_comes_in_time_though_a_check_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS_MAX", 0.2)
    monkeypatch.setitem(health._CHECKS, "live_store", lambda: time.sleep(0.6))
    began = time.monotonic()

    status, told = ask("/healthz/ready")

    assert time.monotonic() - began < 0.5
    assert (status, told["missing"]) == (503, {"live_store": "no answer in 0.2 s"})


def test_a_process_that_is_not_ready_is_still_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storekeeper, "is_open", lambda _: False)

    assert ask("/healthz/live")[0] == 200


def test_the_root_leads_to_the_admin() -> None:
    response = master().client.get("/")

    assert (response.status_code, response["Location"]) == (302, "/admin/")
