"""The admin's page of models without a price, and the steps that it leads to."""

import re
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlparse

import pytest
from django.test import Client
from django.urls import reverse

from spend.components import Component
from spend.models import (
    Model,
    PriceVersion,
    Provider,
    Rerating,
    UnpricedModel,
)
from spend.services import unpriced
from tests import admin_site
from tests.admin_site import Pages, form_of, login, save, text_of
from tests.conftest import Cast
from tests.spend.support import now
from tests.spend.test_admin_reratings import links_of, waiting
from tests.spend.test_rerating import NOON, RIGHT, Book, new_book

pytestmark = pytest.mark.usefixtures("alone")

ADD, LIST = Pages(Rerating).url("add"), Pages(Rerating).url("changelist")
QUEUE = Pages(UnpricedModel).url("changelist")


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def book() -> Book:
    return new_book()


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


def test_the_interval_ends_after_the_last_that_waits(book: Book, cast: Cast, root: Client) -> None:
    last = datetime(2026, 3, 20, 10, 0, 0, 999_999, tzinfo=UTC)
    waiting(book, cast)
    waiting(book, cast, at=last)
    book.price(RIGHT)

    (rate,) = links_of(root.get(QUEUE, {"q": book.provider}), "Rate what waited")

    assert "2, of which 2 cost something else" in text_of(root.post(ADD, form_of(root, rate)))
