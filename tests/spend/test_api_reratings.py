"""Re-ratings and what waits for a price, as programs ask for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from spend import events, rerating, tasks
from spend.components import Component
from spend.models import Rerating
from spend.services import reratings
from tests.admin_site import few_queries
from tests.api_client import Api, master
from tests.budgets.support import account
from tests.conftest import Cast
from tests.spend.support import rows_of
from tests.spend.test_rerating import DAY, NOON, RIGHT, WRONG, WRONG_UNITS, Book, charge, new_book
from tests.spend.test_reratings import CORRECT

pytestmark = pytest.mark.usefixtures("alone")

PATH = "/api/v1/reratings"
QUEUE = "/api/v1/unpriced-models"


@pytest.fixture
def book() -> Book:
    return new_book()


def asked(book: Book, **fields: Any) -> dict[str, Any]:
    return {
        "provider": book.provider, "model": book.model.name,
        "start": (NOON - DAY).isoformat(), "end": (NOON + DAY).isoformat(),
    } | fields  # fmt: skip


def charged_wrong(book: Book, cast: Cast, *, of: Any = None) -> str:
    old = book.price(WRONG)
    id = charge(book, cast.organization, of or account(cast.organization, "Mine"))
    book.correct(old, CORRECT)
    return id


@contextmanager
def nobody_works() -> Iterator[None]:
    """All is left to the worker, and there is none."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reratings, "AT_ONCE_REQUESTS_MAX", 0)
        patched.setattr(tasks.apply_rerating, "delay", lambda **_: None)
        yield


def test_nothing_is_written_unless_it_is_asked_for(book: Book, cast: Cast) -> None:
    of = account(cast.organization, "Mine")
    id = charged_wrong(book, cast, of=of)

    told = master().made(PATH, **asked(book))

    assert (told["id"], told["dry_run"], told["finished_at"]) == (None, True, None)
    assert told["differences"] == {"USD": "0.001"}
    mine = next(each for each in told["accounts"] if each["account_id"] == str(of.id))
    assert mine == {
        "account_id": str(of.id), "account": f"Key: Mine ({cast.organization})", "requests": 1,
        "before": "0.003", "after": "0.004", "difference": "0.001", "currency": "USD",
    }  # fmt: skip
    assert told["accounts_left_out"] == 0
    assert rows_of(id) == [("usage", WRONG_UNITS)]
    assert not Rerating.objects.filter(provider=book.provider).exists()


def test_what_is_asked_for_is_written_and_told_again(book: Book, cast: Cast) -> None:
    id = charged_wrong(book, cast)

    made = master().made(PATH, **asked(book, dry_run=False, reason="the list was wrong"))
    told = master().told(f"{PATH}/{made['id']}")
    listed = master().told(PATH, size=1)

    assert rows_of(id) == [("usage", WRONG_UNITS), ("adjustment", 1_000_000)]
    assert told == made == listed[0]
    assert (told["reason"], told["requested_by"]) == ("the list was wrong", "master key")
    assert (told["requests_total"], told["requests_changed"]) == (1, 1)
    assert told["differences"] == {"USD": "0.001"}
    assert told["accounts"] is None


def test_many_are_left_to_the_worker_and_the_answer_says_so(book: Book, cast: Cast) -> None:
    charged_wrong(book, cast)

    with nobody_works():
        made = master().made(PATH, **asked(book, dry_run=False, reason="why"))
    tasks.apply_rerating(rerating_id=made["id"])
    told = master().told(f"{PATH}/{made['id']}")

    assert (made["finished_at"], made["requests_total"], made["requests_seen"]) == (None, None, 0)
    assert told["finished_at"] is not None
    assert told["requests_changed"] == 1


def test_one_organization_can_be_chosen_and_is_named(book: Book, cast: Cast) -> None:
    old = book.price(WRONG)
    ids = [
        charge(book, organization, account(organization))
        for organization in (cast.organization, cast.outsider)
    ]
    book.correct(old, CORRECT)

    made = master().made(
        PATH,
        **asked(book, organization_id=cast.outsider.public_id, dry_run=False, reason="why"),
    )

    assert [len(rows_of(id)) for id in ids] == [1, 2]
    assert made["organization_id"] == cast.outsider.public_id


def test_what_cannot_be_rated_is_told_by_reason(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    charge(book, cast.organization, of, flags=(events.UNPRICED,))
    charge(book, cast.organization, of, usage={})

    told = master().made(PATH, **asked(book))

    assert told["skipped"] == {"no_price": 1, "unknown_usage": 1}
    assert (told["requests_seen"], told["requests_skipped"]) == (2, 2)


def test_accounts_that_change_by_little_are_left_out_and_counted(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spend.api.reratings.ACCOUNTS_MAX", 1)
    old = book.price(WRONG)
    for _ in range(2):
        charge(book, cast.organization, account(cast.organization))
    book.correct(old, CORRECT)

    told = master().made(PATH, **asked(book))

    (only,) = told["accounts"]
    assert only["account_id"] == str(cast.organization.account_id)
    assert told["accounts_left_out"] == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": "2026-13-01"}, "start"),
        ({"start": ""}, "start"),
        ({"end": "2026-03-15T12:00:00"}, "end"),
        ({"start": "2026-03-15", "end": "2026-03-15"}, "end"),
        ({"start": "2026-03-16", "end": "2026-03-15"}, "end"),
        ({"start": "2024-01-01", "end": "2026-01-01"}, "end"),
        ({"end": "2999-01-01", "start": "2998-12-31"}, "end"),
        ({"provider": "nobody"}, "provider"),
        ({"model": "nothing"}, "model"),
        ({"dry_run": False}, "reason"),
        ({"dry_run": False, "reason": "  "}, "reason"),
        ({"dry_run": False, "reason": None}, "reason"),
        ({"dry_run": False, "reason": "x" * 501}, "reason"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_written(
    fields: dict[str, Any], param: str, book: Book, cast: Cast
) -> None:
    charged_wrong(book, cast)

    reply = master().post(PATH, asked(book, **fields))

    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        400,
        "invalid_value",
        param,
    )
    assert not Rerating.objects.filter(provider=book.provider).exists()


def test_a_slip_of_the_pen_is_told_the_nearest_names(book: Book, cast: Cast) -> None:
    charged_wrong(book, cast)

    reply = master().post(PATH, asked(book, provider=f"{book.provider}x"))

    assert book.provider in reply.error["message"]


def test_more_than_a_dry_run_looks_at_is_refused(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_wrong(book, cast)
    monkeypatch.setattr(rerating, "PREVIEW_REQUESTS_MAX", 0)

    reply = master().post(PATH, asked(book))

    assert (reply.status, reply.error["param"]) == (400, "end")


def test_an_unknown_organization_or_re_rating_is_not_found(book: Book) -> None:
    unknown = master().post(PATH, asked(book, organization_id="nobody"))
    missing = master().get(f"{PATH}/{10**18}")

    assert (unknown.status, unknown.error["param"]) == (404, "organization_id")
    assert (missing.status, missing.error["param"]) == (404, "rerating_id")


@pytest.mark.parametrize("path", [PATH, f"{PATH}/1", QUEUE])
def test_nobody_but_the_platforms_administrator_gets_in(path: str, cast: Cast) -> None:
    assert Api(cast.key().secret).get(path).status == 403
    assert Api().get(path).status == 401


def test_a_key_of_an_organization_cannot_re_rate_even_its_own(book: Book, cast: Cast) -> None:
    id = charged_wrong(book, cast)
    body = asked(book, organization_id=cast.organization.public_id, dry_run=False, reason="mine")

    assert Api(cast.key().secret).post(PATH, body).status == 403
    assert len(rows_of(id)) == 1


# --- What waits ------------------------------------------------------------------------


def waiting(book: Book, cast: Cast, **fields: Any) -> None:
    charge(book, cast.organization, account(cast.organization), flags=(events.UNPRICED,), **fields)


def queued(book: Book) -> list[dict[str, Any]]:
    return [each for each in master().told(QUEUE) if each["provider"] == book.provider]


def test_what_waits_is_told_with_the_most_that_it_may_cost(book: Book, cast: Cast) -> None:
    waiting(book, cast)
    dear = Book(book.model.provider.models.create(name="dear"))
    dear.price({Component.INPUT: "0.00003", Component.OUTPUT: "0.00001"})
    cheap = Book(book.model.provider.models.create(name="cheap"))
    cheap.price({Component.INPUT: "0.00001", Component.OUTPUT: "0.0001"})

    (told,) = queued(book)

    assert (told["model"], told["waiting"], told["refused"]) == ("m", 1, 0)
    assert (told["input_tokens"], told["output_tokens"]) == (1_000, 100)
    assert told["first_seen_at"] == told["last_seen_at"]
    # 1,000 × 0.00003 + 100 × 0.0001: of each class the dearest.
    assert told["exposure"] == [{"amount": "0.04", "currency": "USD"}]


def test_prices_that_are_not_in_force_and_other_conditions_do_not_count(
    book: Book, cast: Cast
) -> None:
    waiting(book, cast)
    other = Book(book.model.provider.models.create(name="other"))
    other.price({Component.INPUT: "9"}, start=NOON - 9 * DAY)
    other.price({Component.INPUT: "0.000001"}, start=NOON)
    other.price({Component.INPUT: "8"}, start=NOON + 9_000 * DAY)
    other.price({Component.INPUT: "7"}, organization=cast.organization)

    (told,) = queued(book)

    assert told["exposure"] == [{"amount": "0.001", "currency": "USD"}]


def test_without_any_price_of_the_provider_nothing_is_estimated(book: Book, cast: Cast) -> None:
    waiting(book, cast)

    (told,) = queued(book)

    assert told["exposure"] == []


def test_amounts_of_two_currencies_are_told_apart(book: Book, cast: Cast) -> None:
    waiting(book, cast)
    for currency in ("USD", "CNY"):
        of = Book(book.model.provider.models.create(name=currency))
        of.price({Component.INPUT: "0.001"}, currency=currency)

    (told,) = queued(book)

    amounts = {each["currency"]: Decimal(each["amount"]) for each in told["exposure"]}
    assert amounts == {"CNY": Decimal(1), "USD": Decimal(1)}


def test_what_was_rated_has_left_the_list(book: Book, cast: Cast) -> None:
    waiting(book, cast)
    book.price(RIGHT)
    assert len(queued(book)) == 1

    master().made(PATH, **asked(book, dry_run=False, reason="it has a price now"))

    assert queued(book) == []


def test_lists_ask_the_database_a_few_times_however_long_they_are(cast: Cast) -> None:
    for n in range(3):
        book = new_book()
        waiting(book, cast, at=NOON + n * timedelta(minutes=1))
        Rerating.objects.create(
            provider=book.provider, upstream_model="m", start=NOON, end=NOON + DAY, reason="r",
            requested_by="test", created_at=NOON, finished_at=NOON, organization=cast.organization,
        )  # fmt: skip

    with few_queries(5):
        master().told(QUEUE)
    with few_queries(3):
        master().told(PATH)
