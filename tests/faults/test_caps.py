"""A cap of $1.00 admits exactly 100 requests of $0.01, however many come at once, cold."""

import time
from datetime import UTC, datetime, timedelta
from datetime import time as day_time

from tests.faults import load, oracle
from tests.faults.conftest import Begin, Report
from tests.faults.load import Ask, Load, Plan
from tests.faults.scenario import Scenario, Sizes
from tests.scopes import SCOPES, Passing, limited, strict

LIMIT = "1.00"
LIMIT_UNITS = 1_000_000_000
FIT = 100
PROCESSES = 4
MIDNIGHT_SECONDS = 25.0


def test_a_cap_admits_exactly_what_fits_of_a_crowd_wherever_it_is(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=PROCESSES)
    crowd = sizes.pick(sample=200, full=1_000)
    admitted = {scope: _admitted(run, _capped(run, scope), crowd, scope) for scope in SCOPES}

    verdict = oracle.judge(run.fleet)

    report(**{"parallel": crowd, "admitted": _range(admitted), **verdict.figures()})
    assert admitted == dict.fromkeys(SCOPES, FIT)
    verdict.check()


def _capped(run: Scenario, scope: str, *, duration: str = "") -> Passing:
    return limited(scope, cast=run.cast(), terms=strict(LIMIT, duration=duration))


def _admitted(run: Scenario, passing: Passing, crowd: int, marker: str) -> int:
    """Send the crowd at once, the first requests that this key ever makes; return who got in."""
    model = passing.fields["model"]
    body = load.chat(model, marker=marker, delay_ms=50) | passing.fields
    plan = Plan(run.url, [Ask(passing.secret, body)] * crowd, at_once=crowd, barrier=True)
    with Load(plan) as asking:
        answers = asking.answers()
    run.fleet.settle_down()

    admitted = sum(1 for line in run.fleet.served() if line["marker"] == marker)
    assert set(answers.statuses) <= {200, 429}, (marker, answers.statuses, answers.codes)
    assert answers.statuses[200] == admitted
    return admitted


def _range(admitted: dict[str, int]) -> str:
    low, high = min(admitted.values()), max(admitted.values())
    return f"{low} on each of {len(admitted)} scopes" if low == high else f"{low}–{high}"


def test_a_cap_holds_while_its_counter_must_be_loaded_through_a_slow_database(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=2)
    run.database.delay(to_server_ms=20, to_client_ms=20)
    passing = _capped(run, "key")

    admitted = _admitted(run, passing, sizes.pick(sample=150, full=500), "slow")

    verdict = oracle.judge(run.fleet)
    report(admitted=admitted, **verdict.figures())
    assert admitted == FIT
    assert oracle.spent(passing.account_id) == LIMIT_UNITS
    verdict.check()


def test_a_cap_holds_on_either_side_of_the_end_of_its_period(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    started = time.monotonic()
    run = begin(web=PROCESSES, midnight_in_seconds=MIDNIGHT_SECONDS)
    # Somewhere between both the seconds to midnight began to count.
    begun = time.monotonic()
    midnight = datetime.combine(datetime.now(UTC).date() + timedelta(days=1), day_time(), UTC)
    passing = _capped(run, "team", duration="1d")
    crowd = sizes.pick(sample=150, full=1_000)

    before = _send(run, passing, crowd)
    sent = time.monotonic()
    assert sent < started + MIDNIGHT_SECONDS, "the start took too long for this midnight"
    time.sleep(begun + MIDNIGHT_SECONDS + 0.5 - sent)
    after = _send(run, passing, crowd)
    run.fleet.settle_down()

    verdict = oracle.judge(run.fleet)
    new = oracle.spent(passing.account_id, since=midnight)
    old = oracle.spent(passing.account_id) - new
    report(parallel=crowd, before=before, after=after, **verdict.figures())
    assert (before, after) == (FIT, FIT)
    assert (old, new) == (LIMIT_UNITS, LIMIT_UNITS)
    verdict.check()


def _send(run: Scenario, passing: Passing, crowd: int) -> int:
    """Send a crowd at once; return how many were admitted."""
    body = load.chat(passing.fields["model"], marker="midnight", delay_ms=50) | passing.fields
    plan = Plan(run.url, [Ask(passing.secret, body)] * crowd, at_once=crowd, barrier=True)
    with Load(plan) as asking:
        return asking.answers().statuses[200]
