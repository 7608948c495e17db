"""The admin of batches and their files: to be read, and nothing else."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from gateway.models import GatewayBatch, GatewayFile
from tests import admin_site
from tests.admin_site import Pages, login, text_of
from tests.conftest import Cast
from tests.gateway import batch_support
from tests.gateway.batch_support import BatchProvider, answered, begun, in_ledger
from tests.gateway.upstreams import RATE, Upstream, deployed
from tests.stack import Stack

BATCHES, FILES = Pages(GatewayBatch), Pages(GatewayFile)


@pytest.fixture
def provider(upstream: Upstream) -> Iterator[BatchProvider]:
    with batch_support.serving(upstream) as running:
        yield running


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


def test_who_may_view_sees_state_lines_and_cost_with_the_way_to_the_ledger(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    batch = begun(stack.lane, cast.key("1").secret, deployed(upstream, cast).model_name, lines=3)
    provider.end(batch.upstream_id, [answered(str(n)) for n in range(3)])
    in_ledger(batch)
    reader = login(admin_site.staff("gateway.view_gatewaybatch", "gateway.view_gatewayfile"))

    page = text_of(reader.get(BATCHES.url("change", batch.pk)))
    listed = text_of(reader.get(BATCHES.url("changelist") + f"?q={batch.request_id}"))

    cost = format(3 * (15 * RATE / 2 + RATE).normalize(), "f")
    assert Decimal(cost) > 0
    for text in (page, listed):
        assert f"{cost} USD" in text
        assert "Ended, its cost in the ledger" in text
        assert batch.public_id in text
    ledger = reverse("admin:spend_spendevent_changelist")
    assert f"{ledger}?q={batch.request_id}" in page
    assert 'name="_save"' not in page


def test_the_pages_open_for_a_superuser_and_for_nobody_else(
    root: Client, stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    batch = begun(stack.lane, cast.key("1").secret, deployed(upstream, cast).model_name)
    nobody = login(admin_site.staff())

    for pages, row in ((BATCHES, batch), (FILES, batch.input_file)):
        for page in (pages.url("changelist"), pages.url("change", row.pk)):
            answer = root.get(page)
            assert answer.status_code == 200, page
            assert admin_site.links_out(text_of(answer)) == []
            assert nobody.get(page).status_code == 403, page
        assert root.get(pages.url("add")).status_code == 403
        assert root.post(pages.url("delete", row.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("pages", [BATCHES, FILES], ids=["batches", "files"])
def test_a_list_needs_as_many_queries_for_many_rows_as_for_few(
    pages: Pages, root: Client, stack: Stack, cast: Cast, upstream: Upstream,
    provider: BatchProvider,
) -> None:  # fmt: skip
    model = deployed(upstream, cast).model_name
    begun(stack.lane, cast.key("1").secret, model)
    url = f"{pages.url('changelist')}?organization__id__exact={cast.organization.pk}"

    few = admin_site.queries_of(lambda: root.get(url))
    for _ in range(4):
        begun(stack.lane, cast.key("1").secret, model)

    assert admin_site.queries_of(lambda: root.get(url)) <= few
