"""What may be re-rated, and that a re-rating ends: at once, by the worker, or after a break."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from kombu.exceptions import OperationalError

from budgets.errors import InvalidInput
from spend import events, rerating, tasks
from spend.components import Component
from spend.models import Rerating
from spend.services import reratings
from tests.budgets.support import account
from tests.conftest import Cast
from tests.spend.support import now, rows_of
from tests.spend.test_rerating import (
    DAY,
    NOON,
    WRONG,
    WRONG_UNITS,
    Book,
    charge,
    new_book,
)

pytestmark = pytest.mark.usefixtures("alone")

CORRECT = {Component.INPUT: "0.000003", Component.OUTPUT: "0.00001"}
CORRECT_UNITS = 4_000_000


@pytest.fixture
def book() -> Book:
    return new_book()


@pytest.fixture
def other_connection() -> Iterator[BaseDatabaseWrapper]:
    other = connections.create_connection("default")
    yield other
    other.close()


def start(book: Book, **fields: Any) -> Rerating:
    known: dict[str, Any] = {"by": "somebody", "reason": "the list was wrong", "now": now()}
    return reratings.start(scope=book.scope(), **known | fields)


def charged_wrong(book: Book, cast: Cast) -> str:
    """Return a request that was charged at a price that is corrected since."""
    old = book.price(WRONG)
    id = charge(book, cast.organization, account(cast.organization))
    book.correct(old, CORRECT)
    return id


def test_a_start_says_who_wanted_what_and_why_and_changes_nothing_yet(
    book: Book, cast: Cast
) -> None:
    id = charged_wrong(book, cast)

    made = start(book, reason="  why  ")

    made.refresh_from_db()
    assert rerating.scope_of(made) == book.scope()
    assert (made.requested_by, made.reason) == ("somebody", "why")
    assert (made.requests_total, made.finished_at) == (None, None)
    assert rows_of(id) == [("usage", WRONG_UNITS)]


@pytest.mark.parametrize(
    ("start", "end", "problem"),
    [
        (NOON, NOON, "must be after the start"),
        (NOON, NOON - DAY, "must be after the start"),
        (NOON - 401 * DAY, NOON, "must be within 400 days of the start"),
        (NOON, NOON + 400 * DAY, "must not be in the future"),
    ],
)
def test_an_interval_that_cannot_be_is_refused(
    start: Any, end: Any, problem: str, book: Book
) -> None:
    with pytest.raises(InvalidInput, match=problem) as refused:
        reratings.check(scope=book.scope(start=start, end=end), now=NOON + 2 * DAY)

    assert refused.value.field == "end"


def test_the_longest_interval_may_end_now(book: Book) -> None:
    reratings.check(scope=book.scope(start=NOON - 400 * DAY, end=NOON), now=NOON)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\x00b"])
def test_a_reason_that_nobody_can_read_is_refused(reason: str, book: Book) -> None:
    with pytest.raises(InvalidInput) as refused:
        start(book, reason=reason)

    assert refused.value.field == "reason"
    assert not Rerating.objects.filter(provider=book.provider).exists()


def test_no_re_rating_is_without_a_reason(book: Book) -> None:
    made = start(book)

    with pytest.raises(IntegrityError, match="rerating_says_why"):
        Rerating.objects.filter(pk=made.pk).update(reason="")


@pytest.mark.parametrize(("slip", "field"), [("provider", "provider"), ("upstream_model", "model")])
def test_what_nobody_knows_is_refused_with_the_nearest_names(
    slip: str, field: str, book: Book
) -> None:
    scope = book.scope()
    wrong = rerating.Scope(
        **{
            "provider": scope.provider, "upstream_model": scope.upstream_model,
            "start": scope.start, "end": scope.end,
            slip: getattr(scope, slip) + "x",
        }
    )  # fmt: skip

    with pytest.raises(InvalidInput) as refused:
        reratings.check(scope=wrong, now=now())

    assert refused.value.field == field
    assert refused.value.problem.startswith("is unknown")
    assert "nearest: " in refused.value.problem
    assert getattr(scope, slip) in refused.value.problem


def test_what_only_the_ledger_knows_can_be_re_rated(book: Book, cast: Cast) -> None:
    charge(book, cast.organization, account(cast.organization), flags=(events.UNPRICED,))
    book.model.delete()

    reratings.check(scope=book.scope(), now=now())


def test_a_run_applies_it_and_a_second_one_leaves_it_as_it_is(book: Book, cast: Cast) -> None:
    id = charged_wrong(book, cast)
    made = start(book)

    done = reratings.run(rerating_id=made.pk, clock=now)
    again = reratings.run(rerating_id=made.pk, clock=lambda: NOON)

    assert sum(amount for _, amount in rows_of(id)) == CORRECT_UNITS
    assert (done.requests_total, done.requests_seen, done.requests_changed) == (1, 1, 1)
    assert again.finished_at == done.finished_at is not None


def test_one_re_rating_is_run_by_one_process_at_a_time(
    book: Book, cast: Cast, other_connection: BaseDatabaseWrapper
) -> None:
    id = charged_wrong(book, cast)
    made = start(book)
    lock = [reratings._LOCK_NAMESPACE, made.pk]
    other = other_connection.cursor()
    other.execute("SELECT pg_advisory_lock(%s, %s)", lock)

    with pytest.raises(reratings.AlreadyRunning):
        reratings.run(rerating_id=made.pk, clock=now)
    tasks.apply_rerating(rerating_id=made.pk)  # says so and leaves it

    assert len(rows_of(id)) == 1
    other.execute("SELECT pg_advisory_unlock(%s, %s)", lock)
    assert reratings.run(rerating_id=made.pk, clock=now).requests_changed == 1


def test_a_run_that_failed_lets_the_next_one_in(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch, other_connection: BaseDatabaseWrapper
) -> None:
    charged_wrong(book, cast)
    made = start(book)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(rerating, "apply", fail)
        with pytest.raises(ZeroDivisionError):
            reratings.run(rerating_id=made.pk, clock=now)

    with other_connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [reratings._LOCK_NAMESPACE, made.pk])
        assert cursor.fetchone() == (True,)


def test_a_small_one_is_done_at_once(book: Book, cast: Cast) -> None:
    id = charged_wrong(book, cast)

    done = tasks.rerate_now_or_soon(start(book))

    assert done.finished_at is not None
    assert len(rows_of(id)) == 2


def test_a_large_one_is_left_to_the_worker(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, told = charged_wrong(book, cast), []
    monkeypatch.setattr(reratings, "AT_ONCE_REQUESTS_MAX", 0)
    monkeypatch.setattr(tasks.apply_rerating, "delay", lambda **given: told.append(given))

    left = tasks.rerate_now_or_soon(start(book))

    assert left.finished_at is None
    assert len(rows_of(id)) == 1
    assert told == [{"rerating_id": left.pk}]
    tasks.apply_rerating(**told[0], of_a_newer_version="ignored")
    tasks.apply_rerating(**told[0])
    assert len(rows_of(id)) == 2


def test_one_that_nobody_could_be_told_of_is_found_later(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    charged_wrong(book, cast)

    def away(**_: object) -> None:
        raise OperationalError

    with monkeypatch.context() as patched:
        patched.setattr(reratings, "AT_ONCE_REQUESTS_MAX", 0)
        patched.setattr(tasks.apply_rerating, "delay", away)
        left = tasks.rerate_now_or_soon(start(book))
    told: list[int] = []
    monkeypatch.setattr(
        tasks.apply_rerating, "delay", lambda *, rerating_id: told.append(rerating_id)
    )
    tasks.finish_reratings()

    assert "rerating_not_queued" in caplog.messages
    assert left.pk in told


def test_more_than_a_preview_reads_is_refused_at_the_interval(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_wrong(book, cast)
    monkeypatch.setattr(rerating, "PREVIEW_REQUESTS_MAX", 0)

    with pytest.raises(InvalidInput, match="more than 0 requests") as refused:
        reratings.preview(scope=book.scope(), now=now())

    assert refused.value.field == "end"


def test_a_request_a_microsecond_from_the_end_is_out(book: Book, cast: Cast) -> None:
    old = book.price(WRONG)
    of, end = account(cast.organization), NOON + timedelta(microseconds=1)
    ids = [charge(book, cast.organization, of, at=at) for at in (NOON, end)]
    book.correct(old, CORRECT)

    made = reratings.start(scope=book.scope(start=NOON, end=end), by="b", reason="r", now=now())
    reratings.run(rerating_id=made.pk, clock=now)

    assert [len(rows_of(id)) for id in ids] == [2, 1]
