"""A new version may be rolled out under load: no client of OpenAI's SDK sees an error."""

import time

from tests.faults import load, oracle
from tests.faults.conftest import Begin, Report
from tests.faults.fleet import WEB
from tests.faults.load import Ask, Load, Plan
from tests.faults.scenario import Sizes

PROCESSES = 4
AT_ONCE = 16
STREAM = {"chunks": 6, "chunk_delay_ms": 30, "delay_ms": 50}


def test_web_processes_restarted_in_turn_fail_no_client_and_lose_nothing(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=PROCESSES)
    rounds = sizes.pick(sample=1, full=10)
    issued = run.key(limit="1000")
    asks = [
        Ask(issued.secret, load.chat("sandbox-chat", marker="m", stream=n % 2 == 0, **STREAM))
        for n in range(rounds * 4_000)
    ]

    with Load(Plan(run.url, asks, at_once=AT_ONCE, sdk=True, seconds_max=900)) as asking:
        time.sleep(3)  # the SDK takes a second to load
        for name in run.fleet.names(WEB) * rounds:
            run.fleet.terminate(name)
            time.sleep(1)
        asking.stop()
        answers = asking.answers()

    verdict = oracle.judge(run.fleet)
    restarts = sum(run.fleet.deaths.values())
    report(requests=len(answers.replies), restarts=restarts, **verdict.figures())
    assert restarts == rounds * PROCESSES
    assert set(answers.statuses) == {200}, (answers.statuses, answers.codes, answers.problems)
    verdict.check()
