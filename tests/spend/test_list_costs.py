"""Invoices are compared with list prices: what discounts and margins did is undone, exactly."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from budgets.models import Organization
from spend import pricebook, pricing
from spend.components import Component
from spend.models import PriceAdjustment, PriceVersion
from spend.rates import Conditions
from spend.reconciling import invoice_text, invoicing
from spend.reconciling.reconciliation import Comparison
from tests import rates
from tests.api_client import master
from tests.budgets.support import account
from tests.conftest import Cast
from tests.spend.invoice_support import Bill
from tests.spend.test_rerating import DAY, NOON, USAGE, Book, charge, new_book

pytestmark = pytest.mark.usefixtures("alone")

RATES = {Component.INPUT: "0.000002", Component.OUTPUT: "0.00001", Component.REQUEST: "0.0005"}
LIST_COST = Decimal("0.0035")  # 1,000 and 100 tokens, and a request
HEAVIER = {Component.INPUT: "0.000005", Component.OUTPUT: "0.00001", Component.REQUEST: "0.0005"}
HEAVIER_COST = Decimal("0.0065")


@dataclass
class Shop:
    """A model with a list price, and an organization that asks for it."""

    book: Book
    cast: Cast

    @property
    def organization(self) -> Organization:
        return self.cast.organization

    def adjust(self, *, start: datetime = NOON - DAY, **percent: str) -> PriceAdjustment:
        return PriceAdjustment.objects.create(
            organization=self.organization, effective_from=start,
            **{name: Decimal(text) for name, text in percent.items()},
        )  # fmt: skip

    def charge(self, *, region: str = "") -> str:
        """Charge a request as the gateway does, by the price and the adjustment in force."""
        listed = pricebook.listed(provider=self.book.provider, name=self.book.model.name)
        assert listed is not None
        price = listed.price_at(NOON, organization_id=self.organization.pk)
        assert price is not None
        charged = pricebook.adjustments().apply(
            price, provider=self.book.provider, organization_id=self.organization.pk, team="",
            at=NOON,
        )  # fmt: skip
        conditions = Conditions(region=region)
        lines = pricing.cost(price=charged, usage=USAGE, conditions=conditions).lines
        return charge(
            self.book, self.organization, account(self.organization), price=charged,
            lines=lines, conditions=conditions,
        )  # fmt: skip

    def compare(self, *amounts: str | Decimal, currency: str = "USD") -> Comparison:
        """Compare with an invoice of one line of the tokens of as many requests."""
        return invoicing.preview(
            provider=self.book.provider,
            format="generic_csv",
            content=self.file(*amounts, currency=currency),
        )

    def file(self, *amounts: str | Decimal, currency: str = "USD") -> bytes:
        lines = [
            Bill(self.cast, self.book.provider).line(
                str(amount),
                day=13,
                model="m",
                currency=currency,
                input_tokens="1000",
                output_tokens="100",
            )
            for amount in amounts
        ]
        return Bill(self.cast, self.book.provider).file(*lines)


@pytest.fixture
def shop(cast: Cast) -> Shop:
    return Shop(new_book(), cast)


@pytest.mark.parametrize(
    "percent",
    [
        {},
        {"margin_percent": "10"},
        {"discount_percent": "12.5", "margin_percent": "3.3"},
        {"margin_per_request": "0.25"},
        {"discount_percent": "7", "margin_percent": "1000", "margin_per_request": "0.000000007"},
    ],
)
@pytest.mark.parametrize("region", ["", "eu"])
def test_what_matches_at_list_price_matches_whatever_is_charged_on_top(
    percent: dict[str, Any], region: str, shop: Shop
) -> None:
    shop.book.price(RATES, region_factors={"eu": "1.1"})
    shop.adjust(**percent)
    shop.charge(region=region)
    shop.charge(region=region)
    amount = LIST_COST * Decimal("1.1") if region else LIST_COST

    found = shop.compare(amount, amount)

    assert found.ours == found.theirs == 2 * amount
    assert found.difference == found.drift == 0
    assert found.state == "matching"


def test_requests_of_several_adjustments_are_each_taken_by_their_own(shop: Shop) -> None:
    shop.book.price(RATES)
    shop.charge()
    shop.adjust(margin_percent="50")
    shop.charge()
    shop.adjust(discount_percent="50", margin_per_request="1", start=NOON - DAY / 2)
    shop.charge()

    assert shop.compare("1").ours == 3 * LIST_COST


def test_an_adjustment_that_has_ended_is_undone_too(shop: Shop) -> None:
    shop.book.price(RATES)
    made = shop.adjust(margin_percent="50")
    shop.charge()
    PriceAdjustment.objects.filter(pk=made.pk).update(effective_until=NOON + DAY)

    assert shop.compare("1").ours == LIST_COST


def test_a_wrong_list_price_still_reads_as_drift(shop: Shop) -> None:
    shop.book.price(RATES)
    shop.adjust(margin_percent="10")
    shop.charge()

    found = shop.compare("0.00385")

    assert found.by_cause == {"price": Decimal("0.00035")}
    assert found.state == "drifting"


def test_a_re_rated_request_is_at_its_new_list_price(shop: Shop) -> None:
    old = shop.book.price(RATES)
    shop.adjust(margin_percent="10", margin_per_request="0.5")
    shop.charge()
    shop.book.correct(old, HEAVIER)
    shop.book.rerate()

    found = shop.compare(HEAVIER_COST)

    assert found.ours == HEAVIER_COST
    assert found.difference == 0


def test_one_that_was_re_rated_to_another_adjustment_is_taken_by_that_alone(shop: Shop) -> None:
    shop.book.price(RATES)
    shop.adjust(margin_percent="10", margin_per_request="0.5")
    shop.charge()
    shop.adjust(discount_percent="20", margin_per_request="0.25", start=NOON - DAY / 2)
    shop.book.rerate()
    shop.adjust(discount_percent="40", margin_per_request="0.125", start=NOON - DAY / 4)
    shop.book.rerate()

    assert shop.compare("1").ours == LIST_COST


def test_one_that_was_re_rated_into_another_currency_is_at_its_list_price_there(
    shop: Shop,
) -> None:
    old = shop.book.price(RATES)
    shop.adjust(margin_percent="10", margin_per_request="0.5")
    shop.charge()
    new = shop.book.correct(old, HEAVIER)
    with rates.lent(1) as (currency,):
        rates.add((currency, "USD"), "2", on=NOON.date())
        PriceVersion.objects.filter(pk=new.pk).update(currency=currency)
        rerated = shop.book.rerate()

    before, after = shop.compare("1"), shop.compare(HEAVIER_COST, currency=currency)

    assert (rerated.requests_changed, before.other_currencies) == (1, (currency,))
    assert before.ours == 0
    assert after.ours == HEAVIER_COST


def test_what_was_charged_at_nothing_is_counted_apart(shop: Shop) -> None:
    shop.book.price(RATES)
    shop.charge()
    shop.adjust(discount_percent="100", margin_per_request="0.5")
    shop.charge()

    found = shop.compare(LIST_COST, LIST_COST)

    assert (found.ours, found.unlisted) == (LIST_COST, 1)
    assert found.by_cause == {"price": LIST_COST}
    assert "requests without a list price, ours as 0: 1" in list(invoice_text.table(found))


def test_the_api_tells_how_many_have_no_list_price(shop: Shop) -> None:
    shop.book.price(RATES)
    shop.adjust(discount_percent="100")
    shop.charge()

    reply = master().post(
        "/api/v1/invoices",
        {
            "provider": shop.book.provider, "format": "generic_csv", "dry_run": True,
            "content": shop.file("1").decode(),
        },
    )  # fmt: skip

    assert reply.content["unlisted_requests"] == 1


@pytest.mark.parametrize("reference", [f"price:1*adjustment:{2**62}", "d" * 128])
def test_an_adjustment_that_nobody_knows_is_counted_apart(reference: str, cast: Cast) -> None:
    bill = Bill(cast, new_book().provider)
    bill.spend("1", price_reference=reference)

    found = invoicing.preview(
        provider=bill.provider, format="generic_csv", content=bill.file(bill.line("1"))
    )

    assert found.ours == 0
    assert found.unlisted == 1
