"""``verify-ledger`` finds a difference of one unit, wherever it is, and says so by its exit."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F, Model

from budgets import storekeeper
from budgets.livestore import LiveStore
from budgets.models import PeriodTotal, Reload
from budgets.periods import FOREVER
from budgets.scripts import TAG
from spend import verification
from spend.models import Day, QuarterHour
from spend.verification import Difference, NeverQuiet
from tests.budgets.support import Bench, bench, load, record_everything
from tests.conftest import Cast
from tests.spend.support import crash_before_telling_the_store, record_once

pytestmark = pytest.mark.usefixtures("alone", "orm_in_async")
FIELD = f"{FOREVER.start_ms}:{FOREVER.end_ms}"


@pytest.fixture
async def team(store: LiveStore, cast: Cast) -> Bench:
    """An account with 12 recorded, 3 not yet, and 7 reserved."""
    team = await bench(store, cast.organization)
    await team.spend(5)
    await team.spend(7)
    record_everything()
    await load(store, team.context.limits)
    await team.spend(3)
    await team.reserve(7)
    return team


@contextmanager
def off_by(
    amount: int, rows: type[Model], column: str = "amount_units", **which: object
) -> Iterator[None]:
    """Have one kept sum be wrong by so much."""
    chosen = rows._default_manager.filter(**which)
    assert chosen.count() == 1
    chosen.update(**{column: F(column) + amount})
    try:
        yield
    finally:
        chosen.update(**{column: F(column) - amount})


@contextmanager
def counter_off_by(amount: int, kind: str, of: uuid.UUID) -> Iterator[None]:
    key = f"{TAG}c:{of.hex}"
    storekeeper.store().hincrby(key, f"{kind}:{FIELD}", amount)
    try:
        yield
    finally:
        storekeeper.store().hincrby(key, f"{kind}:{FIELD}", -amount)


def differences() -> tuple[Difference, ...]:
    return verification.verify().differences


def run_command() -> str:
    out = StringIO()
    call_command("verify_ledger", stdout=out)
    return out.getvalue()


async def test_consistent_system_has_no_difference(team: Bench) -> None:
    report = verification.verify()

    said = run_command()

    assert report.differences == ()
    assert min(report.ledger_rows, report.counters, report.totals, report.rollup_rows) > 0
    assert f"{report.ledger_rows} ledger rows" in said
    assert said.endswith("drift 0\n")


@pytest.mark.parametrize(("kind", "word", "should_be"), [("s", "spent", 15), ("r", "reserved", 7)])
async def test_counter_that_is_off_by_one_unit_is_found(
    kind: str, word: str, should_be: int, team: Bench
) -> None:
    with counter_off_by(1, kind, team.account.id):
        (found,) = differences()
        with pytest.raises(CommandError, match=rf"drift in 1 places.*counter {word}.*drift 1"):
            run_command()

    assert found.what.startswith(f"counter {word} of account {team.account.id}")
    assert (found.is_units, found.should_be_units) == (should_be + 1, should_be)
    assert differences() == ()


@pytest.mark.parametrize(
    ("column", "words", "should_be"),
    [("amount_units", "period total of", 12), ("events", "number of events of", 2)],
)
async def test_period_total_that_is_off_by_one_is_found(
    column: str, words: str, should_be: int, team: Bench
) -> None:
    with off_by(-1, PeriodTotal, column, account=team.account.id):
        (found,) = differences()
        with pytest.raises(CommandError, match=words):
            run_command()

    assert found.what.startswith(f"{words} account {team.account.id}")
    assert (found.is_units, found.should_be_units) == (should_be - 1, should_be)
    assert differences() == ()


@pytest.mark.parametrize(("rollup", "word"), [(QuarterHour, "quarter-hours"), (Day, "days")])
async def test_rollup_that_is_off_by_one_unit_is_found(
    rollup: type[Model], word: str, team: Bench
) -> None:
    of = team.account.id
    first = rollup._default_manager.filter(account_id=of).first()
    assert first is not None

    with off_by(1, rollup, pk=first.pk):
        (found,) = differences()
        with pytest.raises(CommandError, match=word):
            run_command()

    assert found == Difference(f"{word} of account {of}", 13, 12)
    assert differences() == ()


async def test_rollup_of_an_account_without_ledger_rows_is_found(team: Bench) -> None:
    stray = QuarterHour.objects.create(
        account_id=uuid.uuid4(), bucket_start=FOREVER.start, model="", provider="", deployment="",
        amount_units=1, events=1, input_tokens=0, output_tokens=0,
    )  # fmt: skip

    found = differences()
    stray.delete()

    assert found == (Difference(f"quarter-hours of account {stray.account_id}", 1, 0),)


async def test_several_differences_are_all_counted(team: Bench) -> None:
    with (
        counter_off_by(1, "s", team.account.id),
        off_by(2, PeriodTotal, account=team.account.id),
        pytest.raises(CommandError, match="drift in 2 places"),
    ):
        run_command()


async def test_difference_tells_its_drift() -> None:
    assert str(Difference("x", 3, 5)) == "x: is 3, should be 5 (drift -2)"


async def test_event_that_is_recorded_and_not_yet_trimmed_is_no_difference(
    team: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger and position are committed, the store does not know: wait, do not report."""
    monkeypatch.setattr(verification, "PAUSE_SECONDS", 0)
    with crash_before_telling_the_store():
        record_once()

    with pytest.raises(NeverQuiet):
        verification.verify()
    record_everything()

    assert differences() == ()


async def test_recorder_that_never_rests_ends_the_command_with_a_reason(
    team: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "PAUSE_SECONDS", 0)
    Reload.objects.create(account_id=team.account.id, revision=1)

    with pytest.raises(CommandError, match="did not come to rest"):
        run_command()
    record_everything()

    assert differences() == ()
