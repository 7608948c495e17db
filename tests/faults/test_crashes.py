"""No crash loses a request that the upstream has served, nor charges it twice."""

from tests.faults import load, oracle
from tests.faults.chaos import Chaos, kill_all, kill_one, recorder_killer
from tests.faults.conftest import Begin, Report
from tests.faults.fleet import RECORDER, WEB
from tests.faults.load import Ask, Load, Plan
from tests.faults.scenario import Scenario, Sizes
from tests.stack import wait_until

PROCESSES = 4
AT_ONCE = 40
STREAM = {"chunks": 8, "chunk_delay_ms": 20, "delay_ms": 30}
CHANCE = 0.004
WEB_ORDERS = ",".join(
    f"{name}=kill@{CHANCE}"
    for name in (
        "after_auth", "after_reserve", "before_send", "after_headers", "mid_stream",
        "after_last_chunk", "before_settle", "after_settle",
    )
)  # fmt: skip
RECORDER_ORDERS = (
    "recorder_before_commit=kill@0.05,recorder_after_commit=kill@0.05,"
    "recorder_before_trim=kill@0.05"
)


def plan(run: Scenario, count: int, *, at_once: int = AT_ONCE) -> Plan:
    issued = run.key(limit="1000")
    asks = [
        Ask(issued.secret, load.chat("sandbox-chat", marker="m", stream=n % 2 == 0, **STREAM))
        for n in range(count)
    ]
    return Plan(run.url, asks, at_once=at_once, seconds_max=600)


def test_killed_web_processes_lose_nothing_that_was_served(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=PROCESSES)
    requests, kills = sizes.pick(sample=500, full=10_000), sizes.pick(sample=10, full=200)
    chaos = Chaos(run.dice, kills)

    with Load(plan(run, 4 * requests)) as asking:
        names = run.fleet.names(WEB)
        done = chaos.amid(asking, lambda: kill_one(run.fleet, names, run.dice))
        wait_until(lambda: len(run.fleet.served()) >= requests, seconds=600)
        asking.stop()
        answers = asking.answers()

    verdict = oracle.judge(run.fleet)
    report(
        requests=len(answers.replies),
        kills=done,
        answered=answers.statuses[200],
        **verdict.figures(),
    )
    assert done == kills, "the load ended before enough was killed"
    verdict.check()


def test_web_processes_killed_at_every_failpoint_lose_nothing_that_was_served(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=PROCESSES, failpoints={WEB: WEB_ORDERS})
    requests = sizes.pick(sample=300, full=5_000)

    with Load(plan(run, requests)) as asking:
        answers = asking.answers()

    verdict = oracle.judge(run.fleet)
    kills = sum(run.fleet.deaths.values())
    report(requests=requests, kills=kills, answered=answers.statuses[200], **verdict.figures())
    assert kills, "no failpoint was hit"
    verdict.check()


def test_killed_recorders_lose_and_double_nothing(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=2, recorders=2, failpoints={RECORDER: RECORDER_ORDERS})
    requests, kills = sizes.pick(sample=300, full=5_000), sizes.pick(sample=6, full=60)
    chaos = Chaos(run.dice, kills)

    with Load(plan(run, requests, at_once=16)) as asking:
        names = run.fleet.names(RECORDER)
        done = chaos.amid(asking, recorder_killer(run.fleet, names, run.dice))
        answers = asking.answers()

    verdict = oracle.judge(run.fleet)
    report(requests=requests, kills=done, answered=answers.statuses[200], **verdict.figures())
    assert done, "no recorder was killed"
    assert answers.statuses == {200: requests}, answers.problems
    verdict.check()


def test_all_processes_killed_at_once_leave_no_reservation(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=PROCESSES)
    requests, kills = sizes.pick(sample=300, full=3_000), sizes.pick(sample=3, full=20)
    chaos = Chaos(run.dice, kills)
    names = [*run.fleet.names(WEB), *run.fleet.names(RECORDER)]

    with Load(plan(run, requests)) as asking:
        done = chaos.amid(asking, lambda: kill_all(run.fleet, names))
        answers = asking.answers()

    verdict = oracle.judge(run.fleet)
    report(requests=requests, kills=done, answered=answers.statuses[200], **verdict.figures())
    verdict.check()
