"""The harness itself: a fault that does not happen would prove nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from budgets import storekeeper
from budgets.models import Partition
from tests.faults import load, oracle
from tests.faults.conftest import Begin
from tests.faults.load import Ask, Load, Plan
from tests.faults.proxy import Proxy
from tests.faults.scenario import replica_of
from tests.faults.servers import Postgres, Valkey, postgres_url, valkey_url
from tests.stack import wait_until


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path / "valkey") as running:
        yield running


@pytest.fixture
def proxy(valkey: Valkey) -> Iterator[Proxy]:
    with Proxy(valkey.port) as running:
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Any]:
    with redis.Redis.from_url(valkey_url(proxy.port), socket_timeout=1, retry=None) as client:
        yield client


def test_a_killed_store_keeps_what_its_file_has_and_an_emptied_one_keeps_nothing(
    valkey: Valkey,
) -> None:
    valkey.client.set("a", "1")
    first_run = valkey.client.info("server")["run_id"]

    valkey.kill()
    valkey.start()
    assert valkey.client.get("a") == b"1"
    assert valkey.client.info("server")["run_id"] != first_run

    valkey.kill()
    valkey.empty()
    valkey.start()
    assert valkey.client.get("a") is None


def test_a_frozen_store_keeps_connections_and_says_nothing(valkey: Valkey, client: Any) -> None:
    client.ping()

    valkey.freeze()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    valkey.thaw()

    assert client.ping()


def test_a_promoted_replica_lacks_what_came_after_it_began_to_lag(
    valkey: Valkey, proxy: Proxy, tmp_path: Path
) -> None:
    with Valkey(tmp_path / "replica") as replica:
        valkey.client.set("a", "1")
        replica.replicate(port=proxy.port)
        proxy.stall()
        valkey.client.set("a", "2")

        valkey.kill()
        replica.promote()

        assert replica.client.get("a") == b"1"
        assert replica.client.set("a", "3")


def test_a_cut_connection_is_broken_and_the_next_one_passes(proxy: Proxy, client: Any) -> None:
    before = client.client_id()

    proxy.cut()

    assert client.client_id() != before


def test_a_refusing_proxy_refuses_until_it_accepts_again(proxy: Proxy, client: Any) -> None:
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.accept()

    assert client.ping()


def test_a_stalled_proxy_holds_bytes_back_and_loses_none(proxy: Proxy, client: Any) -> None:
    client.ping()

    proxy.stall()
    with pytest.raises(redis.TimeoutError):
        client.set("a", "1")
    proxy.flow()

    wait_until(lambda: client.get("a") == b"1", seconds=5)


def test_a_delayed_proxy_delays_and_keeps_the_order(proxy: Proxy, client: Any) -> None:
    client.ping()
    proxy.delay(to_server_ms=60, to_client_ms=40)

    began = time.monotonic()
    pipeline = client.pipeline(transaction=False)
    for n in range(100):
        pipeline.rpush("list", n)
    pipeline.execute()

    assert time.monotonic() - began >= 0.1
    proxy.delay()
    assert [int(n) for n in client.lrange("list", 0, -1)] == list(range(100))


def test_a_retargeted_proxy_leads_to_the_other_server(
    valkey: Valkey, proxy: Proxy, client: Any, tmp_path: Path
) -> None:
    with Valkey(tmp_path / "other") as other:
        valkey.client.set("a", "old")
        other.client.set("a", "new")
        assert client.get("a") == b"old"

        proxy.retarget(other.port)

        assert client.get("a") == b"new"


def test_a_large_value_passes_the_proxy_unchanged(client: Any) -> None:
    value = os.urandom(20_000_000)

    client.set("large", value)

    assert client.get("large") == value


def test_a_postgres_that_was_stopped_at_once_has_every_confirmed_commit(
    template: Postgres, tmp_path: Path
) -> None:
    postgres = Postgres(tmp_path / "postgres", template=template)
    with postgres:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS n")
            postgres.stop_at_once()
        postgres.start()

        with psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]
    postgres.remove()


def test_a_frozen_postgres_answers_nobody_until_it_is_thawed(
    template: Postgres, tmp_path: Path
) -> None:
    postgres = Postgres(tmp_path / "postgres", template=template)
    with postgres, Proxy(postgres.port) as proxy:
        url = postgres_url(proxy.port)
        with psycopg.connect(url, options="-c statement_timeout=0") as connection:
            postgres.freeze()
            frozen = _in_another_process(url, seconds=1)
            postgres.thaw()

            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert not frozen
    postgres.remove()


def test_a_replica_that_takes_over_is_the_store_of_all_without_what_it_missed(
    begin: Begin,
) -> None:
    run = begin(web=1)
    with replica_of(run) as replica:
        run.valkey.client.set("seen", "1")
        wait_until(lambda: replica.server.client.get("seen") == b"1", seconds=5)
        replica.lag()
        run.valkey.client.set("missed", "1")

        replica.take_over(run)

        through_proxy = redis.Redis.from_url(valkey_url(run.store.port))
        for client in (through_proxy, storekeeper.store()):
            assert (client.get("seen"), client.get("missed")) == (b"1", None)
        through_proxy.close()


def _in_another_process(url: str, *, seconds: float) -> bool:
    code = f"import psycopg; psycopg.connect({url!r}).execute('SELECT 1')"
    try:
        subprocess.run([sys.executable, "-c", code], timeout=seconds, check=True)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_servers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    code = f"""
import pathlib, time
from tests.faults.scenario import replica_of
from tests.faults.servers import Postgres, Valkey
folder = pathlib.Path({str(tmp_path)!r})
with Valkey(folder / "v") as valkey, Postgres(folder / "p") as postgres:
    print(valkey.port, postgres.port, flush=True)
    time.sleep(600)
"""
    setup = "import django; django.setup()\n"
    with subprocess.Popen(
        [sys.executable, "-c", setup + code], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        opened = [int(port) for port in starter.stdout.readline().split()]
        starter.send_signal(signal.SIGKILL)

    assert len(opened) == 2
    wait_until(lambda: not any(map(_is_open, opened)), seconds=10)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_fleet_serves_and_starts_again_what_was_killed(begin: Begin) -> None:
    run = begin(web=2)
    issued = run.key(limit="1.00")
    asks = [
        Ask(issued.secret, load.chat("sandbox-chat", marker="m", stream=n % 2 == 0))
        for n in range(20)
    ]

    with Load(Plan(run.url, asks, at_once=4)) as asking:
        first = asking.answers()
    before = run.fleet.processes["web-0"].pid
    run.fleet.kill("web-0")
    wait_until(lambda: run.fleet.processes["web-0"].pid != before, seconds=10)
    with Load(Plan(run.url, asks, at_once=20, barrier=True)) as asking:
        second = asking.answers()

    assert first.statuses == {200: 20}, first
    assert second.statuses == {200: 20}, second
    assert run.fleet.deaths == {"web-0": 1}
    verdict = oracle.judge(run.fleet)
    verdict.check()
    assert (verdict.served, verdict.rows) == (40, 40)
    assert Partition.objects.get(number=0).generation > 0
