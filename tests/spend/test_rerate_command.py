"""``costplatform rerate``: what an operator is shown, and told when something does not fit."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from spend import events, rerating
from spend.management.commands import rerate
from spend.models import Rerating
from spend.services import reratings
from tests.budgets.support import account
from tests.conftest import Cast
from tests.spend.support import rows_of
from tests.spend.test_rerating import WRONG, WRONG_UNITS, Book, charge, new_book
from tests.spend.test_reratings import CORRECT

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def book() -> Book:
    return new_book()


def run(book: Book, *more: str, **changed: str) -> str:
    options = {
        "provider": book.provider, "model": book.model.name,
        "start": "2026-03-14", "end": "2026-03-15T00:00Z",
    } | changed  # fmt: skip
    given = [word for name, text in options.items() for word in (f"--{name}", text)]
    out = io.StringIO()
    call_command("rerate", *given, *more, stdout=out)
    return out.getvalue()


def charged_wrong(book: Book, cast: Cast, label: str = "Mine") -> str:
    old = book.price(WRONG)
    id = charge(book, cast.organization, account(cast.organization, label))
    book.correct(old, CORRECT)
    return id


def test_a_preview_shows_each_account_and_the_sum_and_writes_nothing(
    book: Book, cast: Cast
) -> None:
    id = charged_wrong(book, cast)

    lines = run(book).splitlines()

    words = [line.split() for line in lines]
    assert words[0] == ["account", "requests", "before", "after", "difference"]
    mine = f"Key: Mine ({cast.organization})".split()
    assert [*mine, "1", "0.003", "0.004", "0.001", "USD"] in words
    assert ["all", "together", "1", "0.003", "0.004", "0.001", "USD"] in words
    assert "1 requests, 1 of them change" in lines
    assert "Nothing is written." in lines[-1]
    assert rows_of(id) == [("usage", WRONG_UNITS)]


def test_what_is_applied_is_written_with_who_and_why(book: Book, cast: Cast) -> None:
    id = charged_wrong(book, cast)

    told = run(book, "--apply", "--reason", "the list was wrong")

    made = Rerating.objects.get(provider=book.provider)
    assert rows_of(id) == [("usage", WRONG_UNITS), ("adjustment", 1_000_000)]
    assert (made.reason, made.finished_at is not None) == ("the list was wrong", True)
    assert made.requested_by.startswith("command: ")
    assert "1 of 1" in told
    assert "USD 0.001 added in all" in told
    assert f"Re-rating {made.pk} is written." in told


def test_a_second_run_finds_nothing_to_change(book: Book, cast: Cast) -> None:
    charged_wrong(book, cast)
    run(book, "--apply", "--reason", "why")

    told = run(book)

    assert "1 requests, 0 of them change" in told
    assert "account" not in told


def test_one_organization_can_be_chosen(book: Book, cast: Cast) -> None:
    charged_wrong(book, cast)

    assert "0 requests" in run(book, "--organization", cast.outsider.public_id)
    assert "1 requests" in run(book, "--organization", cast.organization.public_id)


def test_what_is_skipped_is_told_with_why(book: Book, cast: Cast) -> None:
    charge(book, cast.organization, account(cast.organization), flags=(events.UNPRICED,))

    assert "1 skipped: there is still no price" in run(book)


def test_a_name_cannot_move_the_cursor_and_is_cut(book: Book, cast: Cast) -> None:
    charged_wrong(book, cast, label="\x1b[2J" + "é" * 250)

    told = run(book)

    assert "\x1b" not in told
    assert "?[2J" in told
    assert max(map(len, told.splitlines())) < 120


def test_accounts_that_are_not_shown_are_counted(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_wrong(book, cast)
    monkeypatch.setattr(rerate, "ACCOUNTS_SHOWN_MAX", 1)

    assert "and 1 accounts whose charge changes by less" in run(book)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "2026-03-14T12:00"])
@pytest.mark.parametrize("option", ["start", "end"])
def test_what_is_no_time_is_refused_by_its_option(option: str, text: str, book: Book) -> None:
    with pytest.raises(CommandError, match=f"--{option}"):
        run(book, **{option: text})


@pytest.mark.parametrize(
    ("changed", "more", "told"),
    [
        ({"end": "2026-03-14"}, (), "--end must be after the start"),
        ({"end": "2026-03-13"}, (), "--end must be after the start"),
        ({"start": "2024-01-01"}, (), "--end must be within 400 days"),
        ({"start": "2900-12-01", "end": "2900-12-02"}, (), "--end must not be in the future"),
        ({"provider": "nobody-at-all"}, (), "--provider is unknown"),
        ({"model": "n"}, (), "--model is unknown at"),
        ({"organization": "nobody"}, (), "there is no organization 'nobody'"),
        ({}, ("--apply",), "--reason is needed"),
        ({}, ("--apply", "--reason", " "), "--reason is needed"),
        ({}, ("--apply", "--reason", "x" * 501), "--reason must not have more than 500"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_written(
    changed: dict[str, str], more: tuple[str, ...], told: str, book: Book, cast: Cast
) -> None:
    charged_wrong(book, cast)

    with pytest.raises(CommandError, match=told) as refused:
        run(book, *more, **changed)

    assert refused.value.returncode == 1
    assert not Rerating.objects.filter(provider=book.provider).exists()


def test_an_unknown_name_is_told_the_nearest(book: Book) -> None:
    book.model.provider.models.create(name="gpt-4o-mini")

    with pytest.raises(CommandError, match=r"nearest: gpt-4o-mini"):
        run(book, model="gpt-4-mini")


def test_ctrl_c_says_that_it_goes_on_and_it_does(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = charged_wrong(book, cast)
    with monkeypatch.context() as patched:
        patched.setattr(rerating, "apply", _interrupted)
        with pytest.raises(CommandError, match="the worker goes on with re-rating"):
            run(book, "--apply", "--reason", "why")

    (left,) = Rerating.objects.filter(provider=book.provider)
    assert left.pk in reratings.unfinished()
    reratings.run(rerating_id=left.pk, clock=lambda: left.created_at)
    assert len(rows_of(id)) == 2


def _interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_without_a_database_it_says_what_to_start(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(reratings, "preview", away)

    with pytest.raises(CommandError, match="costplatform up"):
        run(book)
