"""The admin's pages of re-ratings and of models without a price, and a request's adjusting rows."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from spend import events, rerating, tasks
from spend.models import (
    EventKind,
    Rerating,
    SpendEvent,
    UnpricedModel,
)
from spend.services import reratings
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, errors_of, form_of, login, text_of
from tests.budgets.support import account
from tests.conftest import Cast
from tests.spend.support import rows_of
from tests.spend.test_rerating import DAY, NOON, WRONG, WRONG_UNITS, Book, charge, new_book
from tests.spend.test_reratings import CORRECT

pytestmark = pytest.mark.usefixtures("alone")

ADD, LIST = Pages(Rerating).url("add"), Pages(Rerating).url("changelist")
QUEUE = Pages(UnpricedModel).url("changelist")


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def book() -> Book:
    return new_book()


def charged_wrong(book: Book, cast: Cast, label: str = "Mine") -> str:
    old = book.price(WRONG)
    id = charge(book, cast.organization, account(cast.organization, label))
    book.correct(old, CORRECT)
    return id


def waiting(book: Book, cast: Cast, **fields: Any) -> UnpricedModel:
    charge(book, cast.organization, account(cast.organization), flags=(events.UNPRICED,), **fields)
    return UnpricedModel.objects.get(provider=book.provider)


def asked(book: Book, **changed: str) -> dict[str, str]:
    return {
        "provider": book.provider, "upstream_model": book.model.name, "organization": "",
        "start_0": "2026-03-14", "start_1": "00:00:00", "end_0": "2026-03-15",
        "end_1": "00:00:00", "reason": "",
    } | changed  # fmt: skip


def made(book: Book, **fields: Any) -> Rerating:
    return Rerating.objects.create(
        **{
            "provider": book.provider, "upstream_model": "m", "start": NOON, "end": NOON + DAY,
            "reason": "why", "requested_by": "somebody", "created_at": NOON, "finished_at": NOON,
            **fields,
        }
    )  # fmt: skip


def links_of(answer: Any, words: str) -> list[str]:
    found = re.findall(rf'href="([^"]+)"[^>]*>\s*{words}', text_of(answer))
    return [each.replace("&amp;", "&") for each in found]


# --- Re-ratings ------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Rerating, UnpricedModel], ids=lambda model: model.__name__)
def test_every_page_opens_for_a_superuser_and_for_nobody_else(
    model: Any, book: Book, cast: Cast, root: Client
) -> None:
    obj = made(book, reason=HOSTILE) if model is Rerating else waiting(book, cast)
    nobody = login(admin_site.staff("spend.view_spendevent"))
    pages = [Pages(model).url("changelist"), Pages(model).url("change", obj.pk)]

    for page in [*pages, *([ADD] if model is Rerating else [])]:
        answer = root.get(page)
        assert answer.status_code == 200, page
        assert admin_site.links_out(text_of(answer)) == []
        assert "<script>alert(1)" not in text_of(answer)
        assert nobody.get(page).status_code == 403, page


def test_a_preview_shows_each_account_and_writes_nothing(
    book: Book, cast: Cast, root: Client
) -> None:
    id = charged_wrong(book, cast, label=HOSTILE)

    page = text_of(root.post(ADD, asked(book)))

    assert "USD 0.003" in page
    assert "USD 0.001" in page
    assert "USD 0.004" in page
    assert "All together, in USD" in page
    assert "<script>alert(1)" not in page
    assert 'id="apply"' in page
    assert rows_of(id) == [("usage", WRONG_UNITS)]
    assert not Rerating.objects.filter(provider=book.provider).exists()


def test_what_was_previewed_is_applied_and_its_page_leads_to_the_rows(
    book: Book, cast: Cast, root: Client
) -> None:
    id = charged_wrong(book, cast)
    preview = text_of(root.post(ADD, asked(book)))
    hidden = re.findall(r'type="hidden" name="([^"]+)"(?: value="([^"]*)")?', preview)
    sent = {name: value for name, value in hidden if name != "csrfmiddlewaretoken"}

    answer = root.post(ADD, sent | {"reason": "the list was wrong", "apply": "yes"}, follow=True)

    done = Rerating.objects.get(provider=book.provider)
    assert rows_of(id) == [("usage", WRONG_UNITS), ("adjustment", 1_000_000)]
    assert done.requested_by.startswith("admin:")
    assert answer.redirect_chain[-1][0] == Pages(Rerating).url("change", done.pk)
    assert "the list was wrong" in text_of(answer)
    assert "Written" in text_of(answer)
    assert "USD 0.001" in text_of(answer)
    (rows,) = links_of(answer, "Those that it added")
    listed = root.get(rows).context["cl"].result_list
    assert [(each.kind, str(each.request_id)) for each in listed] == [("adjustment", id)]


def test_without_a_reason_nothing_is_applied(book: Book, cast: Cast, root: Client) -> None:
    id = charged_wrong(book, cast)

    answer = root.post(ADD, asked(book, apply="yes", reason="  "))

    assert list(errors_of(answer)) == ["reason"]
    assert len(rows_of(id)) == 1
    assert not Rerating.objects.filter(provider=book.provider).exists()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"start_0": "yesterday"}, "start"),
        ({"start_0": "2026-13-01"}, "start"),
        ({"start_0": "", "start_1": ""}, "start"),
        ({"end_1": "12:00 Z"}, "end"),
        ({"end_0": "2026-03-14"}, "end"),
        ({"end_0": "2026-03-13"}, "end"),
        ({"end_0": "2027-12-31"}, "end"),
        ({"end_0": "2999-12-31", "start_0": "2999-12-30"}, "end"),
        ({"provider": "nobody"}, "provider"),
        ({"provider": ""}, "provider"),
        ({"provider": "\x00"}, "provider"),
        ({"upstream_model": "nothing"}, "upstream_model"),
        ({"upstream_model": "x" * 256}, "upstream_model"),
        ({"organization": "999999999"}, "organization"),
        ({"reason": "x" * 501}, "reason"),
    ],
)
@pytest.mark.parametrize("apply", [{}, {"apply": "yes"}], ids=["preview", "apply"])
def test_what_does_not_fit_is_refused_at_its_field(
    apply: dict[str, str], changed: dict[str, str], field: str, book: Book, cast: Cast, root: Client
) -> None:
    charged_wrong(book, cast)

    answer = root.post(ADD, asked(book, **{"reason": "why", **apply, **changed}))

    assert list(errors_of(answer)) == [field]
    assert not Rerating.objects.filter(provider=book.provider).exists()


def test_a_preview_that_changes_nothing_offers_nothing_to_apply(
    book: Book, cast: Cast, root: Client
) -> None:
    book.price(WRONG)
    charge(book, cast.organization, account(cast.organization))

    page = text_of(root.post(ADD, asked(book)))

    assert "Nothing would change" in page
    assert 'id="apply"' not in page


def test_who_may_only_view_can_neither_preview_nor_apply(book: Book, cast: Cast) -> None:
    id = charged_wrong(book, cast)
    reader = login(admin_site.staff("spend.view_rerating"))

    assert reader.get(LIST).status_code == 200
    assert reader.get(ADD).status_code == 403
    assert reader.post(ADD, asked(book)).status_code == 403
    assert reader.post(ADD, asked(book, apply="yes", reason="why")).status_code == 403
    assert len(rows_of(id)) == 1


def test_nobody_changes_or_deletes_a_re_rating(book: Book, root: Client) -> None:
    kept, pages = made(book), Pages(Rerating)

    changed = root.post(pages.url("change", kept.pk), {"reason": "another"})
    deleted = root.post(pages.url("delete", kept.pk), {"post": "yes"})

    assert (changed.status_code, deleted.status_code) == (403, 403)
    assert 'name="_save"' not in text_of(root.get(pages.url("change", kept.pk)))
    assert "delete_selected" not in text_of(root.get(LIST))


def test_a_large_one_is_left_to_the_worker_and_shows_how_far_it_is(
    book: Book, cast: Cast, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_wrong(book, cast)
    monkeypatch.setattr(reratings, "AT_ONCE_REQUESTS_MAX", 0)
    monkeypatch.setattr(tasks.apply_rerating, "delay", lambda **_: None)

    answer = root.post(ADD, asked(book, apply="yes", reason="why"), follow=True)
    begun = Rerating.objects.get(provider=book.provider)
    waits = text_of(answer)
    Rerating.objects.filter(pk=begun.pk).update(requests_total=5_000, requests_seen=1_000)
    runs = text_of(root.get(Pages(Rerating).url("change", begun.pk)))

    assert "Waits for the worker" in waits
    assert "Under way: 1,000 of 5,000" in runs


def test_links_fill_the_form_in_and_what_is_no_time_is_left_empty(book: Book, root: Client) -> None:
    filled = form_of(root, f"{ADD}?provider={book.provider}&start=2026-03-14T12:30:05Z")
    empty = form_of(root, f"{ADD}?start=nonsense&end=")

    assert filled["provider"] == book.provider
    assert (filled["start_0"], filled["start_1"]) == ("2026-03-14", "12:30:05")
    assert (empty["start_0"], empty["end_0"]) == ("", "")


def test_lists_ask_the_database_a_few_times_however_long_they_are(cast: Cast, root: Client) -> None:
    for n in range(6):
        book = new_book()
        made(book, organization=cast.organization)
        waiting(book, cast, at=NOON + n * timedelta(minutes=1))

    with admin_site.few_queries():
        assert root.get(LIST).status_code == 200
    with admin_site.few_queries():
        assert root.get(QUEUE).status_code == 200


@pytest.mark.parametrize("id", ["nonsense", "0", "９", "9" * 30, "-1"])
def test_an_unknown_re_rating_shows_no_rows_rather_than_all(
    id: str, book: Book, cast: Cast, root: Client
) -> None:
    charged_wrong(book, cast)

    page = root.get(Pages(SpendEvent).url("changelist"), {"rerating": id})

    assert "Nothing matches" in text_of(page)


# --- The rows of a request ---------------------------------------------------------------


def test_a_requests_page_shows_all_its_rows_with_their_sum_and_why(
    book: Book, cast: Cast, root: Client
) -> None:
    id = charged_wrong(book, cast)
    why = book.rerate()
    adjusting = SpendEvent.objects.get(request_id=id, kind=EventKind.ADJUSTMENT)

    first = text_of(root.get(Pages(SpendEvent).url("change", id)))
    second = text_of(root.get(Pages(SpendEvent).url("change", adjusting.pk)))

    for page in (first, second):
        assert "All rows of the request: USD 0.004" in page
        assert "the list was wrong" in page
        assert Pages(Rerating).url("change", why.pk) in page
    assert Pages(SpendEvent).url("change", adjusting.pk) in first
    assert "what was charged before" not in first
    assert "A re-rating added the difference to another price." in second
    assert "given back" not in second
    sums = re.findall(r'<td class="cp-right(?: cp-equals)?">(USD [\d.]+)</td></tr>', second)
    assert sums[:5] == ["USD 0.003", "USD 0.001", "USD 0.004", "USD 0.003", "USD 0.001"]


def test_the_search_for_a_request_finds_its_adjusting_rows(
    book: Book, cast: Cast, root: Client
) -> None:
    id = charged_wrong(book, cast)
    book.rerate()

    page = root.get(Pages(SpendEvent).url("changelist"), {"q": id})

    kinds = {each.kind for each in page.context["cl"].result_list}
    assert kinds == {"usage", "adjustment"}


def test_more_than_a_preview_reads_is_refused_at_the_interval(
    book: Book, cast: Cast, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_wrong(book, cast)
    monkeypatch.setattr(rerating, "PREVIEW_REQUESTS_MAX", 0)

    assert list(errors_of(root.post(ADD, asked(book)))) == ["end"]


def test_accounts_beyond_those_shown_are_counted(
    book: Book, cast: Cast, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_wrong(book, cast)
    monkeypatch.setattr("spend.admin.reratings.ACCOUNTS_SHOWN_MAX", 1)

    assert "1 accounts whose charge changes by less" in text_of(root.post(ADD, asked(book)))
