"""The admin's pages of re-ratings and of models without a price, and a request's adjusting rows."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlparse

import pytest
from django.test import Client
from django.urls import reverse

from spend import events, rerating, tasks
from spend.components import Component
from spend.models import (
    EventKind,
    Model,
    PriceVersion,
    Provider,
    Rerating,
    SpendEvent,
    UnpricedModel,
)
from spend.services import reratings, unpriced
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, errors_of, form_of, login, save, text_of
from tests.budgets.support import account
from tests.conftest import Cast
from tests.spend.support import now, rows_of
from tests.spend.test_rerating import DAY, NOON, RIGHT, WRONG, WRONG_UNITS, Book, charge, new_book
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
    sums = re.findall(r'<td class="cp-right">(USD [\d.]+)</td></tr>', second)
    assert sums[:5] == ["USD 0.003", "USD 0.001", "USD 0.004", "USD 0.003", "USD 0.001"]


def test_the_search_for_a_request_finds_its_adjusting_rows(
    book: Book, cast: Cast, root: Client
) -> None:
    id = charged_wrong(book, cast)
    book.rerate()

    page = root.get(Pages(SpendEvent).url("changelist"), {"q": id})

    kinds = {each.kind for each in page.context["cl"].result_list}
    assert kinds == {"usage", "adjustment"}


# --- Models without a price --------------------------------------------------------------


def test_the_queue_shows_what_was_refused_what_waits_and_what_it_may_cost(
    book: Book, cast: Cast, root: Client
) -> None:
    waiting(book, cast)
    unpriced.add_refused({(book.provider, "m"): unpriced.Refused(1_234, NOON, now())})
    other = Book(Model.objects.create(provider=book.model.provider, name="other"))
    other.price({Component.INPUT: "0.001"})

    page = text_of(root.get(QUEUE, {"q": book.provider}))

    assert "1,234" in page
    assert "1,000 / 100" in page
    assert "USD 1.00" in page
    assert "dearest rates" in page


def test_each_step_leads_to_a_form_that_is_filled_in(book: Book, cast: Cast, root: Client) -> None:
    waiting(book, cast)
    (price,) = links_of(root.get(QUEUE, {"q": book.provider}), "Give it a price")
    given = form_of(root, price)
    assert given["model"] == str(book.model.pk)
    assert (given["effective_from_0"], given["effective_from_1"]) == ("2026-03-14", "00:00:00")
    book.price(RIGHT)

    queue = root.get(QUEUE, {"q": book.provider})
    (rate,) = links_of(queue, "Rate what waited")
    preview = root.post(ADD, form_of(root, rate))

    assert "Has a price" in text_of(queue)
    assert links_of(queue, "Give it a price") == []
    assert "1, of which 1 cost something else" in text_of(preview)


def test_what_waited_leaves_the_queue_once_it_is_rated(
    book: Book, cast: Cast, root: Client
) -> None:
    queued = waiting(book, cast)
    book.price(RIGHT)
    (rate,) = links_of(root.get(QUEUE, {"q": book.provider}), "Rate what waited")

    save(root, ADD, **form_of(root, rate), apply="yes")

    queued.refresh_from_db()
    assert queued.settled_at is not None
    assert "Nothing matches" in text_of(root.get(QUEUE, {"q": book.provider}))


def test_what_has_no_model_or_provider_yet_is_led_to_them_first(
    book: Book, cast: Cast, root: Client
) -> None:
    waiting(book, cast)
    book.model.delete()
    (model,) = links_of(root.get(QUEUE, {"q": book.provider}), "Add the model")
    given = form_of(root, model)
    slug, pk = book.provider, book.model.provider.pk
    Provider.objects.filter(pk=pk).delete()
    (provider,) = links_of(root.get(QUEUE, {"q": slug}), "Add the provider")

    assert (given["provider"], given["name"]) == (str(pk), "m")
    assert dict(parse_qsl(urlparse(provider).query)) == {"slug": slug, "name": slug}


def test_steps_that_one_may_not_take_are_not_offered(book: Book, cast: Cast) -> None:
    waiting(book, cast)
    reader = login(admin_site.staff("spend.view_unpricedmodel"))

    page = reader.get(QUEUE, {"q": book.provider})

    assert links_of(page, "Give it a price") == links_of(page, "Rate what waited") == []
    assert book.provider in text_of(page)


def test_a_model_that_was_refused_only_has_nothing_to_rate(book: Book, root: Client) -> None:
    unpriced.add_refused({(book.provider, "m"): unpriced.Refused(1, NOON, now())})

    page = root.get(QUEUE, {"q": book.provider})

    assert links_of(page, "Rate what waited") == []
    assert links_of(page, "Give it a price") != []


def test_the_sidebar_tells_how_many_models_wait(book: Book, cast: Cast, root: Client) -> None:
    before = unpriced.waiting().count()
    waiting(book, cast)

    page = text_of(root.get(reverse("admin:index")))
    item = page[page.index(f'href="{QUEUE}"') :]

    assert re.search(r"uppercase[^>]*>\s*(\d+)\s*<", item[:2_000]).group(1) == str(before + 1)  # type: ignore[union-attr]


def test_a_time_in_a_link_to_a_price_that_is_none_is_left_empty(root: Client) -> None:
    given = form_of(root, f"{Pages(PriceVersion).url('add')}?effective_from=nonsense")

    assert given["effective_from_0"] == ""


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


def test_the_interval_ends_after_the_last_that_waits(book: Book, cast: Cast, root: Client) -> None:
    last = datetime(2026, 3, 20, 10, 0, 0, 999_999, tzinfo=UTC)
    waiting(book, cast)
    waiting(book, cast, at=last)
    book.price(RIGHT)

    (rate,) = links_of(root.get(QUEUE, {"q": book.provider}), "Rate what waited")

    assert "2, of which 2 cost something else" in text_of(root.post(ADD, form_of(root, rate)))
