"""The admin's pages of price proposals."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from spend.models import Model, PriceProposal, PriceVersion, ProposalState
from spend.services import price_imports
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, login, text_of
from tests.spend.test_price_imports import NOW, Vendor

PAGES = Pages(PriceProposal)


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


@pytest.fixture
def vendor() -> Vendor:
    name = uuid.uuid4().hex[:20]
    return Vendor(slug=f"v-{name}", source=f"list-{name}")


@pytest.fixture
def jumping(vendor: Vendor) -> PriceProposal:
    """One model that jumps, one that is new, and one whose price is made by hand."""
    vendor.take(vendor.model("jumps", "0.0000025"), vendor.model("kept", "0.001"), now=NOW)
    PriceVersion.objects.filter(model__name="kept", model__provider__slug=vendor.slug).update(
        source="manual"
    )
    return vendor.propose(
        vendor.model("jumps", "0.00005"),
        vendor.model("kept", "0.002"),
        vendor.model(HOSTILE[:200].replace("\u202e", ""), "0.001"),
        now=datetime.now(UTC),
    )


def post(client: Client, page: str, proposal: PriceProposal, **sent: Any) -> Any:
    return client.post(f"/admin/spend/priceproposal/{proposal.pk}/{page}/", sent, follow=True)


def test_the_page_shows_old_new_factor_and_what_is_kept(
    jumping: PriceProposal, root: Client
) -> None:
    page = text_of(root.get(PAGES.url("change", jumping.pk)))

    assert ">2.5<" in page
    assert ">50<" in page
    assert "×20" in page
    assert f'name="confirm" value="{jumping.changes[0]["provider"]}/jumps"' in page
    assert "made this price by hand" in page
    assert "<script>alert(1)" not in page
    assert 'name="_save"' not in page


def test_ticked_jumps_are_applied_and_the_rest_is_told(
    jumping: PriceProposal, vendor: Vendor, root: Client
) -> None:
    page = text_of(post(root, "apply", jumping, confirm=f"{vendor.slug}/jumps"))

    jumping.refresh_from_db()
    assert jumping.decided_by.startswith("admin:")
    assert "2 of these changes are prices now" in page
    assert "is priced by hand" in page
    assert vendor.input_rate("jumps", at=datetime.now(UTC)) == Decimal("0.00005")
    assert vendor.input_rate("kept", at=datetime.now(UTC)) == Decimal("0.001")


def test_jumps_that_are_not_ticked_stay_out(
    jumping: PriceProposal, vendor: Vendor, root: Client
) -> None:
    page = text_of(post(root, "apply", jumping))

    assert "was not confirmed" in page
    assert vendor.input_rate("jumps", at=datetime.now(UTC)) == Decimal("0.0000025")


def test_it_is_rejected_with_a_reason(jumping: PriceProposal, root: Client) -> None:
    without = text_of(post(root, "reject", jumping, note=" "))
    page = text_of(post(root, "reject", jumping, note="not ours"))

    assert "must say why" in without
    assert "Rejected: not ours" in page
    assert PriceProposal.objects.get(pk=jumping.pk).state == ProposalState.REJECTED


def test_a_new_model_that_is_too_dear_is_marked_where_it_is(vendor: Vendor, root: Client) -> None:
    proposal = vendor.propose(vendor.model("new", "2.5", "0.001"))

    page = text_of(root.get(PAGES.url("change", proposal.pk)))

    assert f'name="confirm" value="{vendor.slug}/new"' in page
    assert page.count("very dear") == 1


def test_who_may_only_view_sees_it_and_cannot_decide(
    jumping: PriceProposal, vendor: Vendor
) -> None:
    reader = login(admin_site.staff("spend.view_priceproposal"))

    page = text_of(reader.get(PAGES.url("change", jumping.pk)))

    assert 'id="apply"' not in page
    assert post(reader, "apply", jumping).status_code == 403
    assert post(reader, "reject", jumping, note="x").status_code == 403
    assert reader.get(f"/admin/spend/priceproposal/{jumping.pk}/apply/").status_code == 405
    assert login(admin_site.staff()).get(PAGES.url("change", jumping.pk)).status_code == 403
    assert Model.objects.filter(provider__slug=vendor.slug).count() == 2


def test_the_list_asks_a_few_times_reads_no_changes_and_the_sidebar_counts_open_ones(
    jumping: PriceProposal, vendor: Vendor, root: Client
) -> None:
    for n in range(4):
        Vendor(vendor.slug, f"{vendor.source}-{n}").propose(vendor.model(f"new-{n}", "1"))
    waiting = PriceProposal.objects.filter(state=ProposalState.PROPOSED).count()

    with admin_site.few_queries():
        page = root.get(PAGES.url("changelist"))

    (badge,) = (
        item["badge"]
        for group in page.context["sidebar_navigation"]
        for item in group["items"]
        if item["title"] == "Price proposals"
    )
    assert badge == str(min(waiting, 99))
    assert "changes" in page.context["cl"].result_list[0].get_deferred_fields()


def test_nobody_adds_or_deletes_one(jumping: PriceProposal, root: Client) -> None:
    assert root.get(PAGES.url("add")).status_code == 403
    assert root.post(PAGES.url("delete", jumping.pk), {"post": "yes"}).status_code == 403


def test_a_proposal_of_thousands_of_models_shows_jumps_first_and_how_many_it_leaves_out(
    vendor: Vendor, root: Client
) -> None:
    vendor.take(vendor.model("zzz", "0.001"))
    models = [vendor.model(f"m{n:04}", "0.001") for n in range(2_000)]
    proposal = vendor.propose(*models, vendor.model("zzz", "0.1"))

    page = text_of(root.get(PAGES.url("change", proposal.pk)))

    assert f'value="{vendor.slug}/zzz"' in page
    assert "1,501 further changes are not shown" in page
    price_imports.reject(proposal_id=proposal.pk, by="test", now=NOW, note="too many")
