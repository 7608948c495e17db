"""Rates are fetched from a real server; whatever that does, the rates in force stay."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from costplatform.celery import app
from costplatform.metrics_state import read_samples
from spend.currencies import fetching, rate_files, ratebook
from spend.models import ExchangeRate, RateFetch
from spend.tasks import fetch_exchange_rates
from tests import rates


class Publisher(ThreadingHTTPServer):
    """Serves ``body`` at every address but those that misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.body = b""
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def serve(self, *quotes: tuple[str, str], base: str = "EUR", day: str | None = None) -> None:
        told = {"base": base, "date": day or str(rates.today()), "rates": dict(quotes)}
        self.body = json.dumps(told).encode()


class Answering(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        getattr(self, f"_{self.path.strip('/')}", self._whole)()

    def _whole(self) -> None:
        self._head(200, {"content-length": str(len(self.server.body))})
        self.wfile.write(self.server.body)

    def _error(self) -> None:
        self._head(503, {"content-length": "0"})

    def _round(self) -> None:
        self._head(302, {"location": "/round", "content-length": "0"})

    def _elsewhere(self) -> None:
        self._head(302, {"location": "/rates", "content-length": "0"})

    def _file(self) -> None:
        self._head(302, {"location": "file:///etc/passwd", "content-length": "0"})

    def _short(self) -> None:
        self._head(200, {"content-length": "1000"})
        self.wfile.write(b"{")

    def _packed(self) -> None:
        self._head(200, {"content-encoding": "gzip", "content-length": "4"})
        self.wfile.write(b"\x1f\x8b\x08\x00")

    def _endless(self) -> None:
        self._head(200, {})
        for _ in range(rate_files.BYTES_MAX // 2**16 + 10):
            self.wfile.write(b" " * 2**16)

    def _slow(self) -> None:
        self._head(200, {})
        for _ in range(50):
            self.wfile.write(b" ")
            time.sleep(0.1)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has had enough
            super().handle()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(publisher: Publisher, path: str = "/rates") -> RateFetch:
    return fetching.fetch(url=publisher.url + path, now=rates.now())


def kept_of(currency: str) -> list[tuple[str, str]]:
    rows = ExchangeRate.objects.filter(quote=currency).order_by("id")
    return [(f"{row.rate.normalize():f}", row.state) for row in rows]


def test_what_a_publisher_serves_is_in_force_and_kept_once(
    publisher: Publisher, currency: str
) -> None:
    publisher.serve((currency, "2.5"), ("ZZZ", "1"))

    first, again = fetch(publisher), fetch(publisher)

    assert (first.problem, first.newest, first.added) == ("", rates.today(), 1)
    assert (again.problem, again.added) == ("", 0)
    assert kept_of(currency) == [("2.5", "in_force")]


def test_the_banks_own_file_is_taken_too(publisher: Publisher, currency: str) -> None:
    publisher.body = (
        f"<e><Cube><Cube time='{rates.today()}'><Cube currency='{currency}' rate='2.5'/>"
        "</Cube></Cube></e>"
    ).encode()

    assert fetch(publisher).problem == ""
    assert ExchangeRate.objects.get(quote=currency).source == "ecb"


def test_a_doubtful_rate_of_a_publisher_is_quarantined_once(
    publisher: Publisher, currency: str
) -> None:
    rates.add(("EUR", currency), "2.5", on=rates.days_ago(1))
    publisher.serve((currency, "25"))

    first, again = fetch(publisher), fetch(publisher)

    assert (first.quarantined, again.quarantined) == (1, 0)
    assert kept_of(currency) == [("2.5", "in_force"), ("25", "quarantined")]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/error", "was answered with status 503"), ("/round", "TooManyRedirects"),
        ("/file", "NonHttpUrlRedirect"), ("/short", "ClientPayloadError"),
        ("/packed", "is neither"), ("/endless", "has more than"),
    ],
)  # fmt: skip
def test_a_publisher_that_misbehaves_changes_nothing_and_is_told(
    publisher: Publisher, path: str, problem: str
) -> None:
    before = ExchangeRate.objects.count()

    kept = fetch(publisher, path)

    assert problem in kept.problem
    assert kept.newest is None
    assert ExchangeRate.objects.count() == before


def test_a_publisher_that_drips_is_left_in_time(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SECONDS_MAX", 1)
    began = time.monotonic()

    kept = fetch(publisher, "/slow")

    assert kept.problem == "took more than 1 seconds"
    assert time.monotonic() - began < 4


def test_a_publisher_that_is_away_is_told(publisher: Publisher) -> None:
    kept = fetching.fetch(url="http://127.0.0.1:9/rates", now=rates.now())

    assert kept.problem == "cannot be fetched (ClientConnectorError)"


def test_a_redirect_to_rates_is_followed(publisher: Publisher, currency: str) -> None:
    publisher.serve((currency, "2.5"))

    assert fetch(publisher, "/elsewhere").problem == ""
    assert publisher.asked == ["/elsewhere", "/rates"]


@pytest.mark.parametrize("rate", ["NaN", "-1", "0", "1e308", "１２", "1,000"])
def test_one_bad_rate_spoils_a_fetch_and_is_named(
    publisher: Publisher, currency: str, rate: str
) -> None:
    publisher.serve((currency, rate), ("USD", "1.1"))

    kept = fetch(publisher)

    assert kept.problem.startswith(f"rates.{currency}: rate ")
    assert kept_of(currency) == []


# --- When ----------------------------------------------------------------------------------


def test_rates_are_fetched_when_they_are_due_and_a_failure_is_tried_sooner(
    publisher: Publisher, currency: str, settings: Settings
) -> None:
    settings.EXCHANGE_RATES_URL = f"{publisher.url}/rates"
    publisher.serve((currency, "2.5"))
    start = rates.now() + timedelta(days=1)
    hours = (0, 1, 3.9, 4, 5.1, 8)

    done = [fetching.fetch_if_due(now=start + timedelta(hours=each)) for each in hours]
    settings.EXCHANGE_RATES_URL = f"{publisher.url}/error"
    failed = [
        fetching.fetch_if_due(now=start + timedelta(hours=each)) for each in (12, 12.5, 13)
    ]  # fmt: skip

    assert [each is not None for each in done] == [True, False, False, True, False, True]
    assert [each is not None for each in failed] == [True, False, True]
    RateFetch.objects.filter(at__gt=rates.now()).delete()


def test_an_empty_address_means_that_nothing_is_fetched(settings: Settings) -> None:
    settings.EXCHANGE_RATES_URL = ""
    before = RateFetch.objects.count()

    fetch_exchange_rates(of_a_newer_version="ignored")

    assert RateFetch.objects.count() == before


def test_beat_has_rates_fetched() -> None:
    app.loader.import_default_modules()
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}

    assert "spend.tasks.fetch_exchange_rates" in scheduled & set(app.tasks)


# --- What is told --------------------------------------------------------------------------


def test_the_last_good_date_outlives_a_failure(publisher: Publisher, currency: str) -> None:
    publisher.serve((currency, "2.5"))
    good = fetch(publisher)

    fetch(publisher, "/error")

    standing = ratebook.standing(now=rates.now())
    assert standing.last_good == good
    assert standing.last is not None
    assert "503" in standing.last.problem
    told = {each.name: each.value for each in read_samples(at=rates.now())}
    assert told["costplatform_exchange_rates_fetch_failed"] == 1
    assert told["costplatform_exchange_rates_fetched_timestamp_seconds"] == good.at.timestamp()
    assert told["costplatform_exchange_rates_quarantined"] == standing.quarantined


def test_rates_that_are_older_than_the_setting_are_told_as_stale(pair: tuple[str, str]) -> None:
    rates.add(pair, "2")

    now, later = (ratebook.standing(now=rates.now() + timedelta(days=days)) for days in (0, 31 + 5))

    assert (now.days_old, now.is_stale) == (0, False)
    assert later.is_stale


def test_a_redirect_away_from_tls_is_refused() -> None:
    reply: Any = type("Reply", (), {"url": type("Url", (), {"scheme": "http"})})

    with pytest.raises(fetching.NotFetched, match="without TLS"):
        asyncio.run(fetching._body(reply, "https://example.com"))
