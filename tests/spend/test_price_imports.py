"""Lists become prices only by a decision: what is proposed, applied, kept and left out."""

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import ProgrammingError, connection, connections, transaction

from budgets.errors import InvalidInput, NotFound
from budgets.models import Change
from budgets.snapshots import GLOBAL_SCOPE
from costplatform import seeding
from spend import pricebook
from spend.catalogues import csv_list, sources
from spend.catalogues.diff import Kind
from spend.catalogues.listing import BEGINNING, ListedModel, ListedPrice, Listing
from spend.components import Component
from spend.models import Model, PriceProposal, PriceVersion, ProposalState, Provider
from spend.rates import Rate
from spend.services import price_imports
from tests.admin_site import raises_version

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=7)
BY = "admin:somebody"


@dataclass
class Vendor:
    """A provider of a test's own, and the lists that are proposed of it."""

    slug: str
    source: str

    def model(
        self, name: str, *rates: str, at: datetime = BEGINNING, **fields: object
    ) -> ListedModel:
        listed = tuple(
            Rate(component, Decimal(rate))
            for component, rate in zip((Component.INPUT, Component.OUTPUT), rates, strict=False)
        )
        return ListedModel(self.slug, name, (ListedPrice(at, listed),), **fields)  # type: ignore[arg-type]

    def listing(self, *models: ListedModel) -> Listing:
        return Listing(self.source, "1", {self.slug: "The Vendor"}, models)

    def propose(self, *models: ListedModel, now: datetime = NOW) -> PriceProposal:
        made = price_imports.propose(listing=self.listing(*models), by=BY, now=now)
        assert made.proposal is not None
        return made.proposal

    def take(
        self, *models: ListedModel, now: datetime = NOW, confirmed: Sequence[str] = ()
    ) -> PriceProposal:
        proposal = self.propose(*models, now=now)
        return price_imports.apply(proposal_id=proposal.pk, by=BY, now=now, confirmed=confirmed)

    def input_rate(self, name: str, *, at: datetime) -> Decimal | None:
        listed = pricebook.listed(provider=self.slug, name=name)
        price = listed.price_at(at) if listed else None
        return price.rate_of(Component.INPUT, input_tokens=0) if price else None

    def version(self, name: str) -> PriceVersion:
        return PriceVersion.objects.current().get(model__provider__slug=self.slug, model__name=name)


@pytest.fixture
def vendor() -> Vendor:
    name = uuid.uuid4().hex[:20]
    return Vendor(slug=f"v-{name}", source=f"list-{name}")


def left_out(proposal: PriceProposal) -> dict[str, str]:
    return {each["model"]: each["reason"] for each in proposal.outcome["left_out"]}


def test_a_proposal_changes_no_price(vendor: Vendor) -> None:
    proposal = vendor.propose(vendor.model("m", "0.001"))

    assert proposal.is_open
    assert proposal.counts["new_models"] == 1
    assert not Provider.objects.filter(slug=vendor.slug).exists()


def test_applying_makes_prices_that_count_at_once_and_keeps_who_did_it(vendor: Vendor) -> None:
    proposal = vendor.propose(vendor.model("m", "0.001", "0.001", prefixes=("m-",)))

    with raises_version(GLOBAL_SCOPE):
        price_imports.apply(proposal_id=proposal.pk, by=BY, now=NOW)

    assert vendor.input_rate("m-2026", at=NOW) == Decimal("0.001")
    change = Change.objects.filter(table_name="spend_priceversion").order_by("-id")[0]
    assert (change.actor, change.reason) == (BY, f"price proposal {proposal.pk}")
    assert Provider.objects.get(slug=vendor.slug).name == "The Vendor"


def test_the_same_list_proposed_twice_is_one_proposal(vendor: Vendor) -> None:
    first = vendor.propose(vendor.model("m", "0.001"))
    second = vendor.propose(vendor.model("m", "0.001"), now=LATER)

    assert second.pk == first.pk


def test_a_newer_list_of_a_source_takes_the_place_of_its_open_proposal(vendor: Vendor) -> None:
    first = vendor.propose(vendor.model("m", "0.001"))
    second = vendor.propose(vendor.model("m", "0.002"))

    first.refresh_from_db()
    assert first.state == ProposalState.REJECTED
    assert str(second.pk) in first.note


def test_applying_twice_changes_nothing(vendor: Vendor) -> None:
    proposal = vendor.take(vendor.model("m", "0.001"))
    before = Change.objects.count()

    again = price_imports.apply(proposal_id=proposal.pk, by="another", now=LATER)

    assert again.decided_by == BY
    assert Change.objects.count() == before


def test_a_list_that_says_nothing_new_is_not_proposed(vendor: Vendor) -> None:
    vendor.take(vendor.model("m", "0.001"))

    made = price_imports.propose(
        listing=vendor.listing(vendor.model("m", "0.0010")), by=BY, now=LATER
    )

    assert made.proposal is None
    assert made.difference.unchanged_count == 1


def test_a_changed_rate_is_a_new_version_from_the_moment_it_is_applied(vendor: Vendor) -> None:
    vendor.take(vendor.model("m", "0.001"))
    charged = vendor.version("m")

    vendor.take(vendor.model("m", "0.002"), now=LATER)

    charged.refresh_from_db()
    assert charged.replaced_by is None
    assert vendor.input_rate("m", at=LATER - timedelta(microseconds=1)) == Decimal("0.001")
    assert vendor.input_rate("m", at=LATER) == Decimal("0.002")


def test_a_dated_price_begins_when_the_list_says(vendor: Vendor) -> None:
    vendor.take(vendor.model("m", "0.001"))

    proposal = vendor.propose(vendor.model("m", "0.002", at=LATER))
    price_imports.apply(proposal_id=proposal.pk, by=BY, now=NOW + timedelta(hours=1))

    assert proposal.counts["new_prices"] == 1
    assert vendor.input_rate("m", at=LATER - timedelta(seconds=1)) == Decimal("0.001")
    assert vendor.input_rate("m", at=LATER) == Decimal("0.002")


def test_a_correction_replaces_the_version_that_begins_at_the_same_instant(
    vendor: Vendor,
) -> None:
    day = NOW - timedelta(days=1)
    vendor.take(vendor.model("m", "0.001", at=day))
    wrong = vendor.version("m")

    proposal = vendor.take(vendor.model("m", "0.002", at=day))

    wrong.refresh_from_db()
    right = vendor.version("m")
    assert proposal.counts["corrections"] == 1
    assert wrong.replaced_by == right
    assert wrong.rates.get().rate == Decimal("0.001")
    assert (right.effective_from, right.rates.get().rate) == (day, Decimal("0.002"))


def test_a_price_made_by_hand_is_never_overwritten(vendor: Vendor) -> None:
    vendor.take(vendor.model("m", "0.001"))
    PriceVersion.objects.filter(model__provider__slug=vendor.slug).update(source="manual")

    made = price_imports.propose(listing=vendor.listing(vendor.model("m", "0.002")), by=BY, now=NOW)
    taken = vendor.take(vendor.model("m", "0.002"), vendor.model("other", "0.001"))

    assert made.proposal is None
    assert made.difference.changes[0].kind is Kind.KEPT
    assert left_out(taken) == {f"{vendor.slug}/m": price_imports.KEPT}
    assert vendor.input_rate("m", at=LATER) == Decimal("0.001")


@pytest.mark.parametrize(
    ("old", "new", "is_jump"),
    [
        ("0.001", "0.01", False),
        ("0.001", "0.010000000000000001", True),
        ("0.001", "0.0001", False),
        ("0.001", "0.000099999999999999", True),
        ("0.001", "0", True),
        ("0", "0.000000000000000001", True),
    ],
)
def test_a_rate_that_jumps_is_taken_only_if_its_model_is_confirmed(
    old: str, new: str, is_jump: bool, vendor: Vendor
) -> None:
    vendor.take(vendor.model("m", old))

    taken = vendor.take(vendor.model("m", new), now=LATER)

    assert taken.counts["jumps"] == is_jump
    assert vendor.input_rate("m", at=LATER) == Decimal(old if is_jump else new)
    if is_jump:
        assert left_out(taken) == {f"{vendor.slug}/m": price_imports.UNCONFIRMED}
        vendor.take(vendor.model("m", new), now=LATER, confirmed=[f"{vendor.slug}/m"])
        assert vendor.input_rate("m", at=LATER) == Decimal(new)


def test_a_new_model_whose_tokens_are_priced_one_by_one_by_mistake_waits_for_confirmation(
    vendor: Vendor,
) -> None:
    text = f"provider,model,component,rate\n{vendor.slug},gpt,input,2.50\n"
    listing = csv_list.read(text.encode(), version="1")
    made = price_imports.propose(listing=listing, by=BY, now=NOW)
    assert made.proposal is not None

    taken = price_imports.apply(proposal_id=made.proposal.pk, by=BY, now=NOW)

    assert left_out(taken) == {f"{vendor.slug}/gpt": price_imports.UNCONFIRMED}
    assert vendor.input_rate("gpt", at=LATER) is None


def test_another_currency_needs_confirmation_too(vendor: Vendor) -> None:
    vendor.take(vendor.model("m", "0.001"))
    rates = (Rate(Component.INPUT, Decimal("0.001")),)
    euros = ListedModel(vendor.slug, "m", (ListedPrice(BEGINNING, rates, currency="EUR"),))

    proposal = vendor.propose(euros)

    assert proposal.counts["jumps"] == 1


def test_a_name_that_another_model_was_charged_for_is_compared_with_it(vendor: Vendor) -> None:
    vendor.take(vendor.model("m", "0.001", prefixes=("m-",)))

    same = price_imports.propose(
        listing=vendor.listing(vendor.model("m-1", "0.001")), by=BY, now=NOW
    )
    dearer = vendor.propose(vendor.model("m-1", "0.02"))

    assert same.proposal is None
    assert dearer.counts["new_models"] == dearer.counts["jumps"] == 1


def test_what_has_changed_since_it_was_proposed_is_left_out(vendor: Vendor) -> None:
    vendor.take(vendor.model("m", "0.001"))
    stale = vendor.propose(vendor.model("m", "0.002"))
    Vendor(vendor.slug, f"{vendor.source}-2").take(vendor.model("m", "0.003"), now=NOW)

    taken = price_imports.apply(proposal_id=stale.pk, by=BY, now=LATER)

    assert left_out(taken) == {f"{vendor.slug}/m": price_imports.STALE}
    assert vendor.input_rate("m", at=LATER) == Decimal("0.003")


def test_a_model_that_the_list_has_no_more_keeps_its_price_and_is_told(vendor: Vendor) -> None:
    vendor.take(vendor.model("m", "0.001"), vendor.model("gone", "0.001"))

    proposal = vendor.take(vendor.model("m", "0.002"), now=LATER)

    assert proposal.withdrawn == [f"{vendor.slug}/gone"]
    assert proposal.counts["withdrawn"] == 1
    assert vendor.input_rate("gone", at=LATER) == Decimal("0.001")


def test_what_was_rejected_changes_nothing_and_is_not_proposed_again_by_the_clock(
    vendor: Vendor,
) -> None:
    proposal = vendor.propose(vendor.model("m", "0.001"))
    price_imports.reject(proposal_id=proposal.pk, by=BY, now=NOW, note="wrong by a factor")
    listing = vendor.listing(vendor.model("m", "0.001"))

    by_clock = price_imports.propose(listing=listing, by="system", now=LATER, insist=False)
    by_hand = price_imports.propose(listing=listing, by=BY, now=LATER)

    assert by_clock.proposal == proposal
    assert not by_clock.is_new
    assert by_hand.is_new
    assert not Model.objects.filter(provider__slug=vendor.slug).exists()


def test_what_is_decided_is_not_decided_otherwise(vendor: Vendor) -> None:
    applied = vendor.take(vendor.model("m", "0.001"))
    rejected = vendor.propose(vendor.model("m", "0.002"))
    price_imports.reject(proposal_id=rejected.pk, by=BY, now=NOW, note="no")

    with pytest.raises(InvalidInput, match="was applied"):
        price_imports.reject(proposal_id=applied.pk, by=BY, now=NOW, note="no")
    with pytest.raises(InvalidInput, match="was rejected"):
        price_imports.apply(proposal_id=rejected.pk, by=BY, now=NOW)
    with pytest.raises(NotFound):
        price_imports.apply(proposal_id=2**62, by=BY, now=NOW)


@pytest.mark.parametrize(
    "statement", ["UPDATE spend_priceproposal SET note = 'x'", "DELETE FROM spend_priceproposal"]
)
def test_the_database_keeps_what_was_decided(statement: str, vendor: Vendor) -> None:
    proposal = vendor.take(vendor.model("m", "0.001"))

    with (
        pytest.raises(ProgrammingError, match="is decided"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"{statement} WHERE id = %s", [proposal.pk])


def test_only_what_needs_confirmation_can_be_confirmed(vendor: Vendor) -> None:
    proposal = vendor.propose(vendor.model("m", "0.001"))

    with pytest.raises(InvalidInput, match="needs no confirmation"):
        price_imports.apply(proposal_id=proposal.pk, by=BY, now=NOW, confirmed=["nobody/m"])

    proposal.refresh_from_db()
    assert proposal.is_open


@pytest.mark.parametrize("note", ["", "   ", "x" * 501])
def test_a_rejection_says_why(note: str, vendor: Vendor) -> None:
    proposal = vendor.propose(vendor.model("m", "0.001"))

    with pytest.raises(InvalidInput, match="must say why"):
        price_imports.reject(proposal_id=proposal.pk, by=BY, now=NOW, note=note)


def test_applied_by_two_at_once_it_is_applied_once(vendor: Vendor) -> None:
    proposal = vendor.propose(vendor.model("m", "0.001"))

    def apply() -> str:
        try:
            return price_imports.apply(proposal_id=proposal.pk, by=BY, now=NOW).state
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        states = [each.result() for each in [pool.submit(apply) for _ in range(4)]]

    assert states == [ProposalState.APPLIED] * 4
    assert vendor.version("m").rates.count() == 1


def test_the_first_start_adds_the_list_that_comes_along_once() -> None:
    from_seed = PriceVersion.objects.filter(source=sources.SEED)
    before = from_seed.count()

    seeding.seed(now=NOW)

    assert before > 200
    assert from_seed.count() == before
    both = Model.objects.filter(prices__source=sources.GENAI).filter(prices__source=sources.SEED)
    assert not both.exists()
