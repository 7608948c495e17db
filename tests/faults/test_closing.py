"""A new period begins by the clock alone; its predecessor is closed once, whatever happens."""

import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from datetime import time as day_time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db.models import F, Sum
from django_celery_beat.models import PeriodicTask

from budgets.models import Account, AccountBudget, AccountKind, Book, Budget, Closing, Organization
from budgets.periods import Period, period_at
from budgets.services import books
from costplatform.celery import CLOSING_TICK
from tests.faults import load, oracle
from tests.faults.conftest import Begin, Report
from tests.faults.load import Ask, Load, Plan
from tests.faults.scenario import Scenario, Sizes
from tests.scopes import Passing, limited, strict
from tests.stack import wait_until

DAY = timedelta(days=1)
LEAD_SECONDS = 25.0
FIT, LIMIT, LIMIT_UNITS = 20, "0.20", 200_000_000
ZONES = (
    "Asia/Beirut", "Europe/Berlin", "America/Havana", "Africa/Cairo", "America/Santiago",
    "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Asia/Kolkata", "Asia/Kathmandu",
    "America/New_York", "America/St_Johns", "Europe/London", "Africa/Casablanca", "Asia/Gaza",
    "Pacific/Chatham", "America/Sao_Paulo", "Asia/Tokyo", "Pacific/Niue", "UTC",
)  # fmt: skip
"""Midnights that are missing, days of 23 and 25 hours, +14, -11, quarters of an hour."""
SAMPLE = ZONES[:2]
TICK = (
    "import django; django.setup();"
    "from budgets.tasks import close_ended_periods; close_ended_periods()"
)


def oddest_midnight(zone: str) -> datetime:
    """Return the end of a day within a year: of one that is odd, if the zone has any."""
    today = datetime.now(UTC).date() + DAY
    ends = [_day(today + n * DAY, zone) for n in range(355)]
    oddness = [(_is_missing(each.end, zone), each.end - each.start != DAY) for each in ends]
    return max(zip(oddness, ends, strict=True), key=lambda pair: (pair[0], -pair[1].start_ms))[
        1
    ].end


def _day(day: date, zone: str) -> Period:
    noon = datetime.combine(day, day_time(12), ZoneInfo(zone))
    return period_at(duration="1d", zone=ZoneInfo(zone), at=noon)


def _is_missing(midnight: datetime, zone: str) -> bool:
    return midnight.astimezone(ZoneInfo(zone)).time() != day_time()


@pytest.mark.parametrize("zone", ZONES if os.environ.get("FAULTS") == "full" else SAMPLE)
def test_every_process_admits_with_nothing_spent_a_second_after_a_midnight(
    zone: str, begin: Begin, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    """Neither Beat nor a worker runs; the books are closed afterwards, as if by the next tick."""
    midnight = oddest_midnight(zone)
    offset = midnight - datetime.now(UTC) - timedelta(seconds=LEAD_SECONDS)
    run = begin(web=2, extra=clock(offset))
    passing = capped(run, zone=zone)

    before = send(run, passing, 2 * FIT)
    assert datetime.now(UTC) + offset < midnight, "the start took too long for this midnight"
    time.sleep((midnight - datetime.now(UTC) - offset).total_seconds() + 0.5)
    after = send(run, passing, 2 * FIT)
    run.fleet.settle_down()
    monkeypatch.setattr(settings, "STORE_CLOCK_OFFSET_MS", offset // timedelta(milliseconds=1))
    while books.close_due(now=datetime.now(UTC), count=10_000):
        pass

    verdict = oracle.judge(run.fleet)
    *_, last = Closing.objects.filter(account=passing.account_id).order_by("period_end")
    report(zone=zone, before=before, after=after, **verdict.figures())
    assert (before, after) == (FIT, FIT)
    assert (last.period_end, last.events, last.spent_units) == (midnight, FIT, LIMIT_UNITS)
    verdict.check()


def test_what_settles_around_a_midnight_belongs_to_the_period_in_which_it_was_admitted(
    begin: Begin, sizes: Sizes, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    """Books are closed while requests settle; some of them run over midnight and come late."""
    requests = sizes.pick(sample=300, full=1_000)
    midnight = datetime.combine(datetime.now(UTC).date() + 2 * DAY, day_time(), UTC)
    offset = midnight - datetime.now(UTC) - timedelta(seconds=LEAD_SECONDS)
    run = begin(web=2, extra=clock(offset))
    monkeypatch.setattr(settings, "STORE_CLOCK_OFFSET_MS", offset // timedelta(milliseconds=1))
    passing = capped(run, limit="1000")
    body = load.chat(passing.fields["model"], marker="race", delay_ms=1_500) | passing.fields
    plan = Plan(run.url, [Ask(passing.secret, body)] * requests, at_once=requests // 5)
    assert datetime.now(UTC) + offset < midnight, "the start took too long for this midnight"

    time.sleep(max(0.0, (midnight - datetime.now(UTC) - offset).total_seconds() - 3.2))
    with Load(plan) as asking:
        while asking.is_running:
            books.close_due(now=datetime.now(UTC), count=10_000)
        answers = asking.answers()
    run.fleet.settle_down()
    books.close_due(now=datetime.now(UTC), count=10_000)

    verdict = oracle.judge(run.fleet)
    new = oracle.spent(passing.account_id, since=midnight)
    all_of_it = oracle.spent(passing.account_id)
    closing = Closing.objects.get(account=passing.account_id, period_end=midnight)
    report(requests=requests, late=closing.late_events, **verdict.figures())
    assert answers.statuses == {200: requests}
    assert all_of_it == requests * LIMIT_UNITS // FIT
    assert closing.spent_units + closing.late_units == all_of_it - new
    assert 0 < new < all_of_it
    assert closing.late_events > 0
    verdict.check()


def test_close_that_is_killed_half_way_is_gone_on_with(begin: Begin, report: Report) -> None:
    run = begin(web=1)
    accounts = many_due(1_200)

    killed = tick(run, COSTPLATFORM_FAILPOINTS="closing_before_commit=kill#2")
    after_kill = Closing.objects.filter(account__in=accounts).count()
    tick(run)
    tick(run)

    report(periods=len(accounts), closed_before_the_kill=after_kill)
    assert killed.returncode < 0
    assert after_kill == books.BATCH
    assert_closed_once(accounts)


def test_close_that_is_stopped_half_way_holds_nobody_up_for_long(
    begin: Begin, report: Report
) -> None:
    run = begin(web=1)
    accounts = many_due(600)
    stopped = start_tick(run, COSTPLATFORM_FAILPOINTS="closing_before_commit=pause:120000#1")
    time.sleep(4)
    began = time.monotonic()

    def is_closed() -> bool:
        tick(run)
        return Closing.objects.filter(account__in=accounts).count() == len(accounts)

    wait_until(is_closed, seconds=40)
    waited = time.monotonic() - began
    stopped.kill()
    stopped.wait()

    report(held_up_seconds=round(waited))
    assert_closed_once(accounts)


def test_five_beats_and_two_workers_close_each_period_once(begin: Begin, report: Report) -> None:
    """As after 26 hours without either: what waits at the broker is as many ticks as beats."""
    run = begin(web=1)
    accounts = many_due(700)
    for number in range(5):
        schedule = str(run.fleet.folder / f"schedule-{number}")
        celery(run, f"beat-{number}", "beat", "--pidfile=", "--schedule", schedule)
    for number in range(2):
        celery(run, f"worker-{number}", "worker", "--pool", "solo", "--concurrency", "1")

    wait_until(
        lambda: Closing.objects.filter(account__in=accounts).count() >= len(accounts),
        seconds=3 * CLOSING_TICK.total_seconds() + 60,
    )
    time.sleep(CLOSING_TICK.total_seconds())

    entry = PeriodicTask.objects.get(task="budgets.tasks.close_ended_periods")
    report(periods=len(accounts))
    assert (entry.interval.every, entry.interval.period) == (20, "seconds")
    assert entry.expire_seconds == 20
    assert_closed_once(accounts)


def clock(offset: timedelta) -> dict[str, str]:
    return {"COSTPLATFORM_STORE_CLOCK_OFFSET_MS": str(offset // timedelta(milliseconds=1))}


def capped(run: Scenario, *, zone: str = "UTC", limit: str = LIMIT) -> Passing:
    passing = limited("key", cast=run.cast(), terms=strict(limit, duration="1d"))
    found = Budget.objects.filter(accounts=passing.account_id)
    found.update(time_zone=zone)
    assert found.exists()
    return passing


def send(run: Scenario, passing: Passing, crowd: int) -> int:
    """Send a crowd at once; return how many were admitted."""
    body = load.chat(passing.fields["model"], marker="midnight", delay_ms=50) | passing.fields
    plan = Plan(run.url, [Ask(passing.secret, body)] * crowd, at_once=crowd, barrier=True)
    with Load(plan) as asking:
        return asking.answers().statuses[200]


def many_due(count: int) -> list[uuid.UUID]:
    """Make accounts whose last day has ended a while ago and was not closed."""
    organization = Organization.objects.get(public_id="default")
    budget = Budget.objects.create(organization=organization, duration="1d", name="Daily")
    rows = [
        Account(organization=organization, kind=AccountKind.KEY, label=f"Key {n}")
        for n in range(count)
    ]
    Account.objects.bulk_create(rows)
    AccountBudget.objects.bulk_create(AccountBudget(account=row, budget=budget) for row in rows)
    today = period_at(duration="1d", zone=ZoneInfo("UTC"), at=datetime.now(UTC))
    due = Book.objects.filter(link__budget=budget)
    due.update(open_at=today.start - timedelta(hours=1), closes_at=today.start)
    return [row.pk for row in rows]


def assert_closed_once(accounts: list[uuid.UUID]) -> None:
    rows = Closing.objects.filter(account__in=accounts)
    assert rows.count() == len(accounts) == rows.values("account").distinct().count()
    assert rows.aggregate(sum=Sum(F("spent_units") + F("late_units")))["sum"] == 0


def tick(run: Scenario, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", TICK], env=_env(run, env), check=False)


def start_tick(run: Scenario, **env: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", TICK], env=_env(run, env))


def celery(run: Scenario, name: str, *arguments: str) -> None:
    told: dict[str, Any] = {"DJANGO_SETTINGS_MODULE": "costplatform.settings"}
    run.fleet.start(name, "-m", "celery", "-A", "costplatform", *arguments, **told)


def _env(run: Scenario, more: dict[str, str]) -> dict[str, str]:
    return run.fleet.env | {"DJANGO_SETTINGS_MODULE": "costplatform.settings"} | more
