"""Postgres may be away: nothing that was served is lost, and what cannot be checked is refused."""

import time

from tests.faults import load, oracle
from tests.faults.conftest import Begin, Report
from tests.faults.load import Ask, Load, Plan
from tests.faults.scenario import Scenario, Sizes

AT_ONCE = 12
AFTER_SECONDS = 3.0
"""How long requests go on after Postgres is back; a member needs a renewal to admit again."""


def _asks(run: Scenario, seconds: float) -> list[Ask]:
    """Enough to last; a request takes about 0.2 s, a refusal by far less."""
    issued = run.key(limit="1000")
    script = {"chunks": 4, "chunk_delay_ms": 40, "delay_ms": 40}
    return [
        Ask(issued.secret, load.chat("sandbox-chat", marker="m", stream=n % 2 == 0, **script))
        for n in range(int(seconds * AT_ONCE * 20))
    ]


def test_a_database_that_is_away_under_load_loses_nothing(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=2)
    away_seconds = sizes.pick(sample=8, full=60)
    plan = Plan(run.url, _asks(run, away_seconds), at_once=AT_ONCE, seconds_max=300, pace_ms=50)

    with Load(plan) as asking:
        time.sleep(2)
        run.postgres.stop_at_once()
        time.sleep(away_seconds)
        run.postgres.start()
        time.sleep(AFTER_SECONDS)
        asking.stop()
        answers = asking.answers()

    verdict = oracle.judge(run.fleet)
    statuses = answers.statuses
    report(seconds_away=away_seconds, ok=statuses[200], refused=statuses[503], **verdict.figures())
    assert set(statuses) <= {200, 503}, (statuses, answers.codes, answers.problems)
    verdict.check()


def test_a_database_that_hangs_under_load_loses_nothing(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=2)
    away_seconds = sizes.pick(sample=5, full=30)
    plan = Plan(run.url, _asks(run, away_seconds), at_once=AT_ONCE, seconds_max=300, pace_ms=50)

    with Load(plan) as asking:
        time.sleep(2)
        run.postgres.freeze()
        time.sleep(away_seconds)
        run.postgres.thaw()
        time.sleep(AFTER_SECONDS)
        asking.stop()
        answers = asking.answers()

    verdict = oracle.judge(run.fleet)
    statuses = answers.statuses
    report(seconds_hung=away_seconds, ok=statuses[200], refused=statuses[503], **verdict.figures())
    assert set(statuses) <= {200, 503}, (statuses, answers.codes, answers.problems)
    verdict.check()
