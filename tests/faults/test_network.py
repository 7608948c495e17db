"""The network between gateways, recorder and servers breaks, delays and hangs under load."""

import time
from typing import Any

from tests.faults import oracle
from tests.faults.conftest import Begin, Report
from tests.faults.load import Load, Plan
from tests.faults.proxy import Proxy
from tests.faults.scenario import Scenario, Sizes
from tests.faults.test_store_lost import AT_ONCE, UNITS, NearLimit, check
from tests.stack import wait_until


def trouble(run: Scenario, proxy: Proxy) -> None:
    """One of the ways in which a network fails, for a moment."""
    what = run.dice.choice(["cut", "delay", "stall", "refuse"])
    if what == "cut":
        proxy.cut()
    elif what == "delay":
        proxy.delay(to_server_ms=run.dice.uniform(0, 300), to_client_ms=run.dice.uniform(0, 300))
        time.sleep(1)
        proxy.delay()
    elif what == "stall":
        proxy.stall()
        time.sleep(run.dice.uniform(0.1, 3))  # beyond the time-out now and then
        proxy.flow()
    else:
        proxy.refuse()
        time.sleep(run.dice.uniform(0.1, 1))
        proxy.accept()


def test_a_bad_network_before_the_store_passes_no_limit_and_loses_nothing(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=3)

    near, answers, count = _amid_trouble(run, run.store, rounds=sizes.pick(sample=8, full=80))

    verdict = oracle.judge(run.fleet)
    report(**_figures(near, answers, count), **verdict.figures())
    check(near, answers, verdict)


def test_a_bad_network_before_the_database_passes_no_limit_and_loses_nothing(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=3)

    near, answers, count = _amid_trouble(run, run.database, rounds=sizes.pick(sample=6, full=60))

    verdict = oracle.judge(run.fleet)
    report(**_figures(near, answers, count), **verdict.figures())
    check(near, answers, verdict)


def _amid_trouble(run: Scenario, proxy: Proxy, *, rounds: int) -> Any:
    near = NearLimit(run)
    plan = Plan(run.url, near.asks(200_000), at_once=AT_ONCE, seconds_max=3_000, pace_ms=20)
    with Load(plan) as asking:
        wait_until(lambda: len(run.fleet.served()) > AT_ONCE, seconds=30)
        for _ in range(rounds):
            near.raise_limit()
            time.sleep(run.dice.uniform(0.2, 0.8))
            trouble(run, proxy)
        time.sleep(3)
        asking.stop()
        return near, asking.answers(), rounds


def _figures(near: NearLimit, answers: Any, count: int) -> dict[str, object]:
    return {
        "troubles": count,
        "answers": " ".join(f"{k}: {n}" for k, n in sorted(answers.statuses.items())),
        "spent of limit": f"{near.spent // UNITS} of {near.limit_units // UNITS}",
    }
