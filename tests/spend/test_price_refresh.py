"""The clock looks at price lists: it proposes, and whatever goes wrong breaks nothing."""

import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.conf import LazySettings

from budgets.metrics import REGISTRY
from spend import tasks
from spend.catalogues import fetching, sources
from spend.models import PriceProposal, PriceVersion, ProposalState, Provider
from tests.spend.price_lists import litellm_with

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A real HTTP server whose answer each test chooses."""

    def __init__(self) -> None:
        outer = self
        self.answer: Answer = with_body(b"{}")
        self.asked = 0
        self.go_on = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/prices.json"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


def with_body(body: bytes, *, status: int = 200, length: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body)

    return answer


def redirected(location: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@pytest.fixture
def server(settings: LazySettings) -> Iterator[Server]:
    running = Server()
    settings.PRICES_URL = running.url
    settings.PRICES_FETCH_SECONDS_MAX = 2
    yield running
    running.close()


@pytest.fixture
def vendor() -> str:
    return f"v-{uuid.uuid4().hex[:20]}"


def counted(outcome: str, source: str = sources.LITELLM) -> float:
    labels = {"source": source, "outcome": outcome}
    return REGISTRY.get_sample_value("costplatform_price_refreshes_total", labels) or 0


def of_vendor(vendor: str) -> list[PriceProposal]:
    open_ones = PriceProposal.objects.filter(state=ProposalState.PROPOSED)
    return [each for each in open_ones if each.changes[0]["provider"] == vendor]


def test_a_fetched_list_is_proposed_once_and_changes_no_price(server: Server, vendor: str) -> None:
    server.answer = with_body(litellm_with("0.001", provider=vendor))
    before = counted("proposed")

    tasks.propose_fetched_prices()
    tasks.propose_fetched_prices(of_a_newer_version="ignored")

    (proposal,) = of_vendor(vendor)
    assert (proposal.source, proposal.proposed_by) == (sources.LITELLM, "system")
    assert not Provider.objects.filter(slug=vendor).exists()
    assert counted("proposed") == before + 1


def test_without_an_address_nothing_is_asked(server: Server, settings: LazySettings) -> None:
    settings.PRICES_URL = ""

    tasks.propose_fetched_prices()

    assert server.asked == 0


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (with_body(b"gone", status=404), "fetch_failed"),
        (with_body(b"oops", status=500), "fetch_failed"),
        (with_body(b"{}", length=9), "fetch_failed"),
        (redirected("file:///etc/passwd"), "fetch_failed"),
        (redirected("ftp://127.0.0.1/x"), "fetch_failed"),
        (with_body(b"<html>"), "invalid"),
        (with_body(litellm_with("-1")), "invalid"),
        (with_body(litellm_with('"NaN"')), "invalid"),
        (with_body(b"[" * 200_000), "invalid"),
    ],
    ids=[
        "not-there", "broken", "cut-short", "a-file", "another-protocol", "a-page", "below-zero",
        "no-number", "too-deep",
    ],
)  # fmt: skip
def test_a_list_that_does_not_come_or_is_none_is_counted_and_breaks_nothing(
    answer: Answer, outcome: str, server: Server
) -> None:
    server.answer = answer
    before, proposals = counted(outcome), PriceProposal.objects.count()

    tasks.propose_fetched_prices()

    assert counted(outcome) == before + 1
    assert PriceProposal.objects.count() == proposals


def test_a_server_that_is_not_there_is_counted(server: Server) -> None:
    server.close()
    before = counted("fetch_failed")

    tasks.propose_fetched_prices()

    assert counted("fetch_failed") == before + 1


def test_a_list_that_is_too_large_is_not_read_to_its_end(server: Server) -> None:
    server.answer = with_body(b"x" * 100_000)

    with pytest.raises(fetching.FetchFailed, match="too_large"):
        fetching.fetch(server.url, seconds_max=5, bytes_max=50_000)


def test_a_list_that_drips_is_given_up_in_time(server: Server) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(100):
            if server.go_on.wait(0.1):
                return
            request.wfile.write(b"x")
            request.wfile.flush()

    server.answer = drip

    with pytest.raises(fetching.FetchFailed, match="slow"):
        fetching.fetch(server.url, seconds_max=1)


def test_a_silent_server_is_given_up_in_time(server: Server) -> None:
    def say_nothing(request: BaseHTTPRequestHandler) -> None:
        server.go_on.wait(30)

    server.answer = say_nothing

    with pytest.raises(fetching.FetchFailed, match="slow"):
        fetching.fetch(server.url, seconds_max=1)


def test_a_new_version_of_the_package_is_proposed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    listing = sources.read(source=sources.GENAI)
    model = next(each for each in listing.models if each.prices)
    dearer = replace(
        model,
        prices=tuple(
            replace(
                price, rates=tuple(replace(rate, rate=rate.rate * 2 + 1) for rate in price.rates)
            )
            for price in model.prices
        ),
    )
    newer = replace(listing, version=f"9.{uuid.uuid4().hex[:6]}", models=(dearer,))
    monkeypatch.setattr(sources, "read", lambda **_: newer)
    before = counted("proposed", sources.GENAI)

    tasks.propose_upgraded_prices()
    tasks.propose_upgraded_prices(of_a_newer_version="ignored")

    (proposal,) = PriceProposal.objects.filter(source_version=newer.version)
    assert proposal.is_open
    assert proposal.counts["withdrawn"] > 1_000
    assert len(proposal.withdrawn) == 1_000
    assert counted("proposed", sources.GENAI) == before + 1


def test_the_installed_version_that_the_book_was_made_of_is_not_proposed() -> None:
    version = sources.read(source=sources.GENAI).version

    tasks.propose_upgraded_prices()

    assert PriceVersion.objects.filter(source_version=version).exists()
    assert not PriceProposal.objects.filter(source_version=version).exists()
