"""
The comparison of gateways measures what it says: load, CPU time, memory, sums and pages.

Neither nginx nor LiteLLM is needed; what is asked here is a real upstream, and this gateway.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

from bench import gateways, litellm_proxy, load, machine, measuring, nginx_proxy, report, soak
from bench.contestants import (
    Contestant,
    Place,
    Unavailable,
    Wrong,
    ask,
    free_port,
    status_of,
    upstream_process,
)
from bench.figures import Row, groups, percentile, times_better
from bench.load import BadAnswer, Sent, Target
from bench.machine import Clock, Cores
from bench.our_gateway import check_rows, check_spent
from bench.report import Comparison
from bench.upstream_server import BODY_BYTES_MAX, CHUNKS, UNARY
from costplatform import processes
from spend.verification import Difference, Report
from tests.stack import wait_until

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.no_servers


# --- The upstream ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contestant]:
    port = free_port()
    with processes.running(upstream_process(port), logs=tmp_path_factory.mktemp("logs")) as child:
        wait_until(lambda: status_of(port, "/served") == 200, seconds=30)
        asked = load.target(port=port, secret="sk-x", model="gpt-4o-mini")
        yield Contestant("direct", "the upstream itself", "", asked, child.pid)


@pytest.fixture
def client(upstream: Contestant) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{upstream.target.port}/v1", api_key="sk-x", max_retries=0
    ) as made:
        yield made


def served(upstream: Contestant) -> dict[str, int]:
    told: dict[str, int] = json.loads(ask("GET", upstream.target.port, "/served")[1])
    return told


MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def test_openais_client_reads_text_and_usage_of_an_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=MESSAGES)

    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 160
    assert len(answer.choices[0].message.content or "") > 500


@pytest.mark.parametrize("gap", [0, 2])
def test_openais_client_reads_fifty_chunks_with_the_usage_in_the_last(
    client: openai.OpenAI, upstream: Contestant, gap: int
) -> None:
    assert ask("PUT", upstream.target.port, f"/gap/{gap}")[0] == 200

    chunks = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))

    assert len(chunks) == CHUNKS
    assert [chunk.usage is not None for chunk in chunks] == [False] * (CHUNKS - 1) + [True]
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_the_upstream_counts_what_it_has_served(
    client: openai.OpenAI, upstream: Contestant
) -> None:
    before = served(upstream)
    client.chat.completions.create(model="m", messages=MESSAGES)
    for _ in client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
        pass

    after = served(upstream)

    assert {kind: after[kind] - before[kind] for kind in before} == {"unary": 1, "streams": 1}


def test_a_request_in_pieces_is_answered_once(upstream: Contestant) -> None:
    before, whole = served(upstream)["unary"], upstream.target.unary
    with socket.create_connection(("127.0.0.1", upstream.target.port), timeout=10) as connection:
        for at in (0, 40, len(whole) - 5):
            connection.sendall(whole[at : {0: 40, 40: len(whole) - 5}.get(at)])
            time.sleep(0.02)
        answer = connection.recv(65_536)

    load.check(answer, is_stream=False)
    assert served(upstream)["unary"] == before + 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {BODY_BYTES_MAX + 1}", 413),
        ("POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked", 411),
        ("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: many", 411),
        ("POST /v1/embeddings HTTP/1.1\r\nContent-Length: 0", 404),
        ("PUT /gap/1001 HTTP/1.1\r\nContent-Length: 0", 404),
    ],
)
def test_the_upstream_refuses_what_it_would_misread(
    upstream: Contestant, head: str, status: int
) -> None:
    before = served(upstream)
    with socket.create_connection(("127.0.0.1", upstream.target.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        answer = connection.recv(1_024)

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert served(upstream) == before


# --- The load ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
async def test_exactly_as_many_requests_are_sent_as_asked_for(
    upstream: Contestant, is_stream: bool
) -> None:
    before = sum(served(upstream).values())

    sent = await load.counted(upstream.target, connections=7, requests=40, is_stream=is_stream)

    assert sent.answers == len(sent.answer_ms) == 40
    assert sum(served(upstream).values()) - before == 40
    assert len(sent.first_ms) == (40 if is_stream else 0)


async def test_a_closed_loop_waits_for_the_last_answers(upstream: Contestant) -> None:
    before = served(upstream)["unary"]

    sent = await load.closed(upstream.target, connections=8, seconds=0.2)

    assert sent.answers == served(upstream)["unary"] - before >= 8


async def test_an_open_loop_sends_its_rate_and_tells_how_late(upstream: Contestant) -> None:
    sent = await load.open_loop(upstream.target, rate=50, seconds=0.4)

    assert sent.answers == len(sent.late_ms) == 20
    assert all(late >= 0 for late in sent.late_ms)


async def test_the_first_event_is_timed_and_not_the_end_of_the_stream(
    upstream: Contestant,
) -> None:
    ask("PUT", upstream.target.port, "/gap/4")
    sent = await load.open_loop(upstream.target, rate=10, seconds=0.3, is_stream=True)
    ask("PUT", upstream.target.port, "/gap/0")

    # Some fifty gaps lie between.
    assert all(
        first < answer / 2 for first, answer in zip(sent.first_ms, sent.answer_ms, strict=True)
    )


async def test_at_a_rate_that_cannot_be_kept_nothing_more_is_sent_and_all_is_answered(
    upstream: Contestant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "IN_FLIGHT_MAX", 4)
    before = served(upstream)["streams"]
    ask("PUT", upstream.target.port, "/gap/20")

    sent = await load.open_loop(upstream.target, rate=200, seconds=1, is_stream=True)
    ask("PUT", upstream.target.port, "/gap/0")

    assert sent.was_overrun
    assert sent.answers == served(upstream)["streams"] - before == 4


async def test_another_status_ends_the_run(upstream: Contestant) -> None:
    nowhere = load.target(port=upstream.target.port, secret="sk-x", model="m", path="/nowhere")

    with pytest.raises(BadAnswer, match="404"):
        await load.counted(nowhere, connections=2, requests=4)


async def test_a_connection_that_is_closed_before_its_answer_ends_the_run() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BadAnswer, match="closed"):
            await load.counted(Target(port, b"x", b"x"), connections=1, requests=1)


async def test_an_open_loop_uses_no_connection_that_was_closed_while_it_rested() -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UNARY)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        where = load.target(port=server.sockets[0].getsockname()[1], secret="sk-x", model="m")
        sent = await load.open_loop(where, rate=10, seconds=0.5)

    assert sent.answers == 5


EVENTS = b"data: {}\n\n" * CHUNKS


@pytest.mark.parametrize(
    ("answer", "is_stream"),
    [
        (b'HTTP/1.1 429 Too Many Requests\r\n\r\n{"total_tokens":1}', False),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + EVENTS, True),
        (b"HTTP/1.1 200 OK\r\n\r\n" + EVENTS[12:-11] + b"data: [DONE]\n\n", True),
    ],
    ids=["status", "no usage", "no end", "chunks missing"],
)
def test_an_answer_that_is_not_whole_is_a_bad_one(answer: bytes, is_stream: bool) -> None:
    with pytest.raises(BadAnswer):
        load.check(answer, is_stream=is_stream)


# --- What it took -------------------------------------------------------------------------------

BURN = """
import subprocess, sys, threading, time
def burn():
    until = time.process_time() + 0.3
    while time.process_time() < until: pass
kind = sys.argv[1]
if kind == "thread":
    thread = threading.Thread(target=burn); thread.start(); thread.join()
elif kind == "child":
    child = subprocess.Popen([sys.executable, __file__, "self"], stdin=subprocess.PIPE)
elif kind == "memory":
    kept = bytearray(b"x") * 50_000_000
else:
    burn()
print(time.process_time(), flush=True) if kind != "child" else None
sys.stdin.read()
"""


@pytest.fixture
def burner(tmp_path: Path) -> Iterator[Any]:
    """Start a process that uses CPU or memory, says how much, and waits."""
    path, started = tmp_path / "burn.py", []
    path.write_text(BURN)

    def start(kind: str) -> tuple[int, float]:
        child = subprocess.Popen(
            [sys.executable, str(path), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(child)
        assert child.stdout is not None
        return child.pid, float(child.stdout.readline())

    yield start
    for child in started:
        child.communicate()


@pytest.mark.parametrize("kind", ["self", "thread", "child"])
def test_cpu_time_is_that_of_the_tree_and_of_threads_that_have_ended(
    burner: Any, kind: str
) -> None:
    pid, told = burner(kind)

    seen = machine.cpu_seconds(pid)

    # A child's own start is not in what it tells, but that of its parent is seen too.
    assert told <= seen < told + (0.25 if kind == "child" else 0.05)


def test_memory_is_what_the_process_keeps(burner: Any) -> None:
    (small, _), (large, _) = burner("self"), burner("memory")

    more = machine.memory_bytes(large) - machine.memory_bytes(small)

    assert 45e6 < more < 60e6


def test_a_process_that_has_ended_used_nothing_and_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: machine.is_gone(child.pid), seconds=30)
    child.wait()

    assert machine.is_gone(child.pid)
    assert (machine.cpu_seconds(child.pid), machine.memory_bytes(child.pid)) == (0, 0)
    assert not machine.is_gone(os.getpid())


def test_the_cpu_time_of_a_store_is_told_by_request(
    measure: measuring.Measuring, upstream: Contestant
) -> None:
    counting = replace(upstream, store_pid=upstream.pid)

    found = measure.closed(counting)

    assert found["closed.store_cpu_ms"] == pytest.approx(found["closed.cpu_ms"], rel=0.2)


def test_a_child_is_found_by_its_command_line(burner: Any, tmp_path: Path) -> None:
    pid, _ = burner("memory")

    assert machine.child_called(str(tmp_path / "burn.py")) == pid
    with pytest.raises(LookupError):
        machine.child_called(str(tmp_path / "other.py"))


def test_what_is_started_while_pinned_stays_on_that_core(burner: Any) -> None:
    before = os.sched_getaffinity(0)
    core = max(before)

    with machine.pinned(core):
        pid, _ = burner("memory")

    assert os.sched_getaffinity(pid) == {core}
    assert os.sched_getaffinity(0) == before


def test_a_core_was_busy_for_the_share_of_ticks_that_were_not_idle() -> None:
    assert machine.busy_share(Clock(busy=100, all=1_000), Clock(busy=130, all=1_040)) == 0.75
    assert machine.clock_of(min(os.sched_getaffinity(0))).busy > 0


@pytest.mark.parametrize("wanted", ["0", "0,0", "a,b", "0,99999"])
def test_cores_that_are_not_two_of_ours_are_refused(wanted: str) -> None:
    with pytest.raises(machine.TooFewCores):
        machine.choose_cores(wanted)


async def _pretend(where: Target, answers: int) -> Sent:
    sent = await load.counted(where, connections=1, requests=3)
    sent.answers = answers
    return sent


@pytest.fixture
def measure(upstream: Contestant, tmp_path: Path) -> measuring.Measuring:
    core = min(os.sched_getaffinity(0))
    place = Place(Cores(core, core), upstream.target.port, tmp_path)
    return measuring.Measuring(place, measuring.QUICK)


def test_a_run_whose_answers_the_upstream_did_not_serve_is_wrong(
    measure: measuring.Measuring, upstream: Contestant
) -> None:
    measure.observe(upstream, lambda: _pretend(upstream.target, 3))
    with pytest.raises(Wrong, match="served 3 requests, and 4 were answered"):
        measure.observe(upstream, lambda: _pretend(upstream.target, 4))


def test_what_is_measured_has_a_value_for_every_row_that_is_shown(
    measure: measuring.Measuring, upstream: Contestant
) -> None:
    found = measure.closed(upstream) | measure.streams(upstream) | measure.idle(upstream)
    for each in (measure.at_rate(upstream, 20), measure.streams_at_rate(upstream)):
        found |= measuring.added(each, each)

    shown = groups(rates=(20,), connections=64, stream_rate=5)
    rows = {row.key for group in shown for row in group.rows}
    # The upstream has no store, and memory is taken elsewhere.
    keys = {key for key in rows if "memory" not in key and "store" not in key}
    assert keys <= found.keys()
    assert {found[key] for key in keys if "added" in key} == {0}
    assert found["closed.cpu_ms"] > 0


def test_a_soak_takes_memory_at_each_mark(
    measure: measuring.Measuring, upstream: Contestant
) -> None:
    before = sum(served(upstream).values())

    found = soak.soaked(upstream, measure, seconds_max=60)

    assert sum(served(upstream).values()) - before == found["soak.answers"] == 500
    assert found["soak.after_200_mb"] > 1
    assert found["soak.after_500_mb"] > 1


def test_a_soak_that_takes_too_long_stops_before_the_next_slice(
    measure: measuring.Measuring, upstream: Contestant
) -> None:
    found = soak.soaked(upstream, measure, seconds_max=0)

    assert found.keys() == {"soak.answers", "soak.end_mb"}
    assert found["soak.answers"] == 0


# --- Sums and pages -----------------------------------------------------------------------------


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(200, 0, -1)]

    assert [percentile(values, share) for share in (50, 95, 99, 100)] == [100, 190, 198, 200]
    assert percentile([7.0], 1) == 7


@pytest.mark.parametrize(("values", "share"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_a_percentile_of_nothing_is_an_error(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, share)


def test_times_better_is_the_median_of_rounds_whichever_way_is_better() -> None:
    more, less = Row("k", "", more_is_better=True), Row("k", "")

    assert times_better([10, 30, 20], [5, 5, 5], more) == 4
    assert times_better([1, 1, 2], [10, 30, 40], less) == 20


def test_no_ratio_is_told_where_it_would_say_nothing() -> None:
    assert times_better([0.2], [-0.1], Row("k", "")) is None
    assert times_better([1], [], Row("k", "")) is None
    assert times_better([1], [2], Row("k", "", more_is_better=None)) is None


def a_comparison(**closed: list[float]) -> Comparison:
    found = Comparison(
        taken_at=datetime(2026, 11, 24, 12, 30, tzinfo=UTC),
        commit="abc1234",
        machine=machine.described(),
        plan={"rounds": 3},
        groups=groups(rates=(20,), connections=64, stream_rate=5),
        titles={"costplatform": "ours", "litellm": "LiteLLM, plain"},
        versions={"litellm": "1.2.3"},
        problems=["nginx: nginx is not installed"],
    )
    works = {
        "costplatform": [(900.0, 0.5), (1_100.0, 0.4), (1_000.0, 0.6)],
        "litellm": [(100.0, 5.0), (100.0, 8.0), (50.0, 6.0)],
    }
    for name, rounds in works.items():
        for per_second, cpu_ms in rounds:
            found.add(name, {"closed.per_second": per_second, "closed.cpu_ms": cpu_ms})
    for key, values in closed.items():
        for value in values:
            found.add("costplatform", {f"closed.{key}": value})
    return found


def test_the_page_shows_medians_with_their_range_and_ratios() -> None:
    page = report.markdown(a_comparison())

    assert "| requests a second | 1,000 [900–1,100] | 100 [50–100] | 11 |" in page
    assert "| CPU ms a request | 0.500 [0.400–0.600] | 6.000 [5.000–8.000] | 10 |" in page
    assert "litellm: 1.2.3" in page
    assert "- nginx: nginx is not installed" in page
    assert "How far to trust it" not in page
    assert "a second with nothing to do" not in page


def test_the_page_says_that_others_used_the_core_or_that_it_was_idle() -> None:
    quiet = {"beside_busy": [0.5], "core_share": [0.97], "others_busy": [0.01]}
    shared, idle = quiet | {"others_busy": [0.4]}, quiet | {"core_share": [0.5]}

    assert report.notes(a_comparison(**quiet)) == []
    assert "Other programs used up to 40%" in "".join(report.notes(a_comparison(**shared)))
    assert "idle for 49%" in "".join(report.notes(a_comparison(**idle)))


@pytest.mark.parametrize(("others", "shown"), [(0.02, "10"), (0.3, "–")])
def test_times_are_compared_only_where_nobody_else_used_the_core(others: float, shown: str) -> None:
    found = a_comparison()
    found.add("costplatform", {"rate_20.added_p50_ms": 1.0, "rate_20.others_busy": 0.0})
    found.add("litellm", {"rate_20.added_p50_ms": 10.0, "rate_20.others_busy": others})

    assert f"| added, p50, ms | 1.00 | 10.00 | {shown} |" in report.markdown(found)


def test_what_is_saved_can_be_read_again_and_names_no_machine(tmp_path: Path) -> None:
    paths = report.save(a_comparison(), folder=tmp_path / "results")

    assert [path.name for path in paths] == [
        "2026-11-24-1230-abc1234.json", "2026-11-24-1230-abc1234.md",
    ]  # fmt: skip
    told = json.loads(paths[0].read_text())
    assert told["figures"]["litellm"]["closed.cpu_ms"] == [5, 8, 6]
    for path in paths:
        assert socket.gethostname() not in path.read_text()
        assert str(Path.home()) not in path.read_text()
        assert str(ROOT) not in path.read_text()


# --- Books, and what cannot be had -----------------------------------------------------------


def a_report(*, rows: int, differences: tuple[Difference, ...] = ()) -> Report:
    return Report(rows, 0, 1, 1, 1, differences)


def test_rows_that_are_missing_or_drift_make_figures_worthless() -> None:
    check_rows(a_report(rows=5), answers=5)

    with pytest.raises(Wrong, match="4 rows in the ledger for 5 answers"):
        check_rows(a_report(rows=4), answers=5)
    with pytest.raises(Wrong, match="drift"):
        check_rows(a_report(rows=5, differences=(Difference("counter", 1, 2),)), answers=5)


def test_an_account_whose_budget_was_not_asked_makes_figures_worthless() -> None:
    check_spent([[70], [70]], total=70)

    for spent in ([[70], []], [[70], [69]], [[70], [70, 0]]):
        with pytest.raises(Wrong):
            check_spent(spent, total=70)


def test_without_nginx_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)

    with (
        pytest.raises(Unavailable, match="apt-get install"),
        nginx_proxy.running(Place(Cores(0, 0), 1, tmp_path)),
    ):
        pass


@pytest.mark.slow
def test_where_litellm_cannot_be_installed_it_is_said_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(litellm_proxy, "VERSION", "0.0.0")
    said: list[str] = []

    for _ in range(2):
        with pytest.raises(Unavailable, match="No matching distribution"):
            litellm_proxy.installed(say=said.append)

    assert len(said) == 2


@pytest.mark.parametrize(
    ("failure", "failed", "kept"),
    [
        (measuring.Overrun("too many wait"), False, 1),
        (BadAnswer("503"), True, 0),
        (Wrong("drift"), True, 0),
    ],
    ids=["overrun", "bad answer", "wrong"],
)
def test_who_answers_wrongly_is_left_out_and_who_is_only_too_slow_is_not(
    measure: measuring.Measuring,
    upstream: Contestant,
    failure: Exception,
    failed: bool,
    kept: int,
) -> None:
    found, asked = a_comparison(), []
    bench = gateways.Bench(measure, found, upstream, [upstream])

    def fails(one: Contestant) -> dict[str, float]:
        asked.append(one)
        raise failure

    for _ in range(2):
        bench._each("a rate", fails)

    assert len(asked) == 1 + kept
    assert found.failed is failed
    assert [each for each in found.problems if str(failure) in each] == [found.problems[-1]]


@pytest.mark.parametrize("arguments", [["--only", "envoy"], ["--rounds", "0"], ["--rounds", "x"]])
def test_options_that_mean_nothing_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gateways.main(arguments)

    assert "error: argument" in capsys.readouterr().err


@pytest.mark.slow
def test_a_quick_run_measures_this_gateway_and_finds_its_books_right() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bench.gateways", "--quick", "--only", "costplatform"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stdout + run.stderr
    for row in ("requests a second", "CPU ms a stream", "added, p50, ms", "memory at the end, MB"):
        assert f"| {row} | " in run.stdout
    assert "Not measured" not in run.stdout


# --- Closing books --------------------------------------------------------------------------


def test_closing_is_measured_beside_the_gateway() -> None:
    words = [sys.executable, "-m", "bench.closing", "--accounts", "600", "--rate", "20"]

    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr[-2_000:]
    assert "600 periods closed in " in ran.stdout
    assert "| answers, p99 in ms |" in ran.stdout
