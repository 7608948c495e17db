"""The example data: believable, and every sum of it agrees, also beside counters in use."""

import asyncio
import io
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from budgets import money, snapshots
from budgets.livestore import LiveStore
from budgets.models import Account, ApiKey, Budget, Organization, Partition
from budgets.store_connection import StoreConnection
from costplatform import demo
from costplatform.demo import people, rhythm
from costplatform.demo.rhythm import Traffic
from costplatform.management.commands.demo import TerminalProgress
from gateway.catalogue import read_catalogue
from gateway.models import Deployment
from spend import events, verification
from spend.models import EventKind, SpendEvent
from spend.verification import Difference

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)
EVENTS = demo.BATCH_EVENTS + 500
FEW = 300


class Silence:
    def step(self, what: str) -> None:
        pass

    def advance(self, done: int, *, of: int) -> None:
        pass


@dataclass
class OpensCounters(Silence):
    """After each batch, compares all counters and loads every budget's, as requests would."""

    opened: set[object] = field(default_factory=set)
    differences: list[Difference] = field(default_factory=list)

    def advance(self, done: int, *, of: int) -> None:
        self.differences += verification.verify().differences
        self.opened |= set(load_counters())


def load_counters() -> list[object]:
    """Load the counters of all example budgets in their running period; return the accounts."""
    organizations = Organization.objects.filter(metadata__has_key=demo.MARK)
    counters = [
        (account.id, budget.period_at(NOW))
        for budget in Budget.objects.filter(organization__in=organizations)
        for account in budget.accounts.all()
    ]
    totals = snapshots.ledger_totals(counters)
    generation = Partition.objects.get(number=0).generation

    async def load() -> None:
        connection = StoreConnection(url=settings.REDIS_URL, timeout_ms=5_000)
        store = LiveStore(connection=connection, member="demo test", timeout_ms=5_000)
        store.generation = generation
        for total in totals:
            await store.load(total)
        await store.close()

    asyncio.run(load())
    return [account for account, _ in counters]


def rows_of(made: demo.Made) -> "QuerySet[SpendEvent]":
    return SpendEvent.objects.filter(organization_id__in=[each.pk for each in made.organizations])


@dataclass(frozen=True)
class Filled:
    made: demo.Made
    progress: OpensCounters


@pytest.fixture(scope="module")
def filled(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[Filled]:
    """One run of the command's own work, with counters opened while it was at it."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]  # pytest-django has no public type for it
        progress = OpensCounters()
        options = demo.Options(months=2, events=EVENTS, again=True)
        yield Filled(demo.run(options=options, now=NOW, progress=progress), progress)


def test_ledger_totals_rollups_and_counters_agree_to_the_last_unit(filled: Filled) -> None:
    load_counters()

    report = verification.verify()

    assert report.differences == ()
    assert report.counters >= len(filled.progress.opened) > len(people.PLANS)


def test_counters_in_use_follow_what_is_written_meanwhile(filled: Filled) -> None:
    assert filled.progress.opened
    assert filled.progress.differences == []


def test_the_ledger_has_every_request_and_what_it_cost(filled: Filled) -> None:
    rows = rows_of(filled.made)

    requests = rows.values("request_id").distinct().count()
    units = rows.aggregate(units=Sum("amount_units"))["units"]

    assert requests == filled.made.requests == EVENTS
    assert money.to_decimal(units, currency="USD") == filled.made.spent > 1
    exact = rows.filter(kind=EventKind.USAGE).exclude(cost=0)
    assert all(row.amount_units == money.to_units(row.cost, currency="USD") for row in exact)
    assert all(sum(Decimal(line[3]) for line in row.lines) == row.cost for row in exact)


def test_all_times_are_past_and_in_order(filled: Filled) -> None:
    rows = rows_of(filled.made)

    assert not rows.filter(settled_at__gt=NOW).exclude(kind=EventKind.ORPHAN_REVERSAL).exists()
    assert not rows.filter(admitted_at__lt=filled.made.since).exists()
    assert rows.earliest("admitted_at").admitted_at < filled.made.since + timedelta(days=2)
    assert rows.latest("admitted_at").admitted_at > NOW - timedelta(days=1)


def test_there_is_something_of_everything(filled: Filled) -> None:
    rows = rows_of(filled.made)

    flags = {flag for row in rows for flag in row.flags}
    classes = {component for row in rows for component in row.usage}

    wanted = {
        events.ORPHANED, events.ESTIMATED, events.CLIENT_CLOSED, events.UPSTREAM_ERROR,
        events.OVER_CEILING,
    }  # fmt: skip
    assert flags == wanted
    assert {"input", "cached_read", "output", "reasoning", "request"} <= classes
    kinds = set(EventKind.values) - {EventKind.ADJUSTMENT}
    assert set(rows.values_list("kind", flat=True)) == kinds
    assert rows.values("provider").distinct().count() >= 4
    assert rows.exclude(end_user="").exists()
    assert rows.filter(streamed=True).exists()
    assert rows.filter(reserved_units=0).count() == 0


def test_limits_are_partly_spent_nearly_spent_and_exceeded(filled: Filled) -> None:
    shares = [each.spent * 100 / each.limit for each in filled.made.standings]

    assert all(15 <= share <= 111 for share in shares)
    assert min(shares) < 40
    assert max(shares) > 100
    assert sum(80 < share <= 100 for share in shares) >= 2


def test_keys_that_were_ended_have_spent_before_but_not_after(filled: Filled) -> None:
    keys = ApiKey.objects.filter(organization__in=filled.made.organizations)

    blocked, expired = keys.get(blocked=True), keys.get(expires_at__lt=NOW)

    for key, days in ((blocked, people.BLOCKED_DAYS_AGO), (expired, people.EXPIRED_DAYS_AGO)):
        rows = SpendEvent.objects.filter(key_digest=key.digest)
        assert rows.exists()
        assert not rows.filter(admitted_at__gt=NOW - timedelta(days=days) + rhythm.HOUR).exists()


def test_nothing_can_be_sent_to_the_example_deployments(filled: Filled) -> None:
    deployments = Deployment.objects.filter(public_id__startswith="demo-")

    offered = read_catalogue(today=datetime.now(UTC).date()).groups

    assert deployments.exists()
    assert all(each.blocked and ".invalid" in each.api_base for each in deployments)
    assert not {each.model_name for each in deployments} & offered.keys()


def test_the_same_seed_spends_the_same_under_other_ids() -> None:
    def sums(*, seed: int) -> list[tuple[int, int]]:
        options = demo.Options(months=1, events=FEW, seed=seed, again=True)
        made = demo.run(options=options, now=NOW, progress=Silence())
        rows = rows_of(made).values("organization_id").order_by("organization_id")
        summed = rows.annotate(n=Count("id"), units=Sum("amount_units"))
        return [(row["n"], row["units"]) for row in summed]

    first, second, other = sums(seed=7), sums(seed=7), sums(seed=8)

    assert first == second
    assert first != other
    assert sum(n for n, _ in first) >= FEW


def test_a_second_run_is_refused_unless_it_is_wished(filled: Filled) -> None:
    before = Account.objects.count()

    with pytest.raises(CommandError, match=r"already.*--again adds more"):
        call_command("demo")

    assert Account.objects.count() == before


@pytest.mark.parametrize(
    ("option", "value", "meant"),
    [
        ("--months", "0", "from 1 to 24"),
        ("--months", "25", "from 1 to 24"),
        ("--months", "two", "from 1 to 24"),
        ("--events", "99", "from 100 to 1000000"),
        ("--events", "1000001", "from 100 to 1000000"),
        ("--events", "1e4", "from 100 to 1000000"),
        ("--seed", "-1", "expected one argument|from 0 to"),
        ("--seed", "٣", "from 0 to"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(
    option: str, value: str, meant: str
) -> None:
    with pytest.raises(CommandError, match=rf"{option}: .*({meant})"):
        call_command("demo", option, value)


def test_the_command_tells_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    said = io.StringIO()

    call_command("demo", "--again", "--months", "1", "--events", "100", stdout=said)

    assert "100 requests" in said.getvalue()
    assert "Team Search" in said.getvalue()
    assert "/admin/spend/spendevent/" in said.getvalue()
    assert "verify-ledger" in said.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.no_servers
def test_a_terminal_gets_a_bar_and_a_file_gets_lines() -> None:
    terminal, file = Terminal(), io.StringIO()

    for out in (terminal, file):
        progress = TerminalProgress(OutputWrapper(out))
        progress.step("Writing")
        for done in range(10, 110, 10):
            progress.advance(done, of=100)

    assert terminal.getvalue().count("\r") == 10
    assert terminal.getvalue().endswith("100 of 100\n")
    assert file.getvalue() == "Writing …\n  30 of 100\n  50 of 100\n  80 of 100\n  100 of 100\n"


def drawn(traffic: Traffic, *, count: int = 4_000) -> list[datetime]:
    """Return arrivals of one plan over three months, in Madrid's local time."""
    zone = ZoneInfo("Europe/Madrid")
    span = (rhythm.months_before(NOW, months=3), NOW)
    found = rhythm.arrivals(
        plans=[(traffic, zone)], span=span, count=count, random=random.Random(1)
    )
    return [at.astimezone(zone) for _, at in found]


@pytest.mark.no_servers
def test_offices_are_busy_by_day_and_on_weekdays() -> None:
    times = drawn(Traffic(share=1))

    by_day = sum(8 <= at.hour < 18 for at in times)
    weekend = sum(at.weekday() >= rhythm.SATURDAY for at in times)

    assert len(times) == 4_000
    assert by_day / len(times) > 0.7
    assert weekend / len(times) < 0.15


@pytest.mark.no_servers
def test_traffic_grows() -> None:
    times = drawn(Traffic(share=1, by_night_too=True))

    middle = times[0] + (times[-1] - times[0]) / 2
    assert 1.25 < sum(at > middle for at in times) / sum(at <= middle for at in times) < 1.9


@pytest.mark.no_servers
def test_one_day_has_a_spike() -> None:
    times = drawn(Traffic(share=1, by_night_too=True, has_the_spike=True))

    (day, most), (_, next_most) = Counter(at.date() for at in times).most_common(2)

    assert day == (NOW - timedelta(days=rhythm.SPIKE_DAYS_AGO)).date()
    assert most > 8 * next_most


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("months", "start"), [(1, "2026-02-28"), (3, "2025-12-28"), (24, "2024-03-28")]
)
def test_months_are_counted_by_the_calendar(months: int, start: str) -> None:
    at = datetime(2026, 3, 31, 12, tzinfo=UTC)

    assert f"{rhythm.months_before(at, months=months):%Y-%m-%d}" == start
