"""Re-rating: the ledger gets the difference, once, where it belongs; nothing is edited."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from budgets.models import Organization, PeriodTotal
from budgets.money import Units
from budgets.periods import Period
from budgets.storekeeper import Entry
from spend import events, pricebook, pricing, rerating, tasks, verification
from spend.components import Component, Usage
from spend.events import Outcome
from spend.models import (
    EventKind,
    Model,
    PriceAdjustment,
    PriceRate,
    PriceVersion,
    Provider,
    Rerating,
    SpendEvent,
    UnpricedModel,
)
from spend.rates import PLAIN, UNPRICED, Conditions, Price
from spend.services import unpriced
from tests.api_client import spend
from tests.budgets.support import PathAccount, account, context, payload_of, record_everything
from tests.conftest import Cast
from tests.spend.support import apply, now, rolled_up, rows_of

pytestmark = pytest.mark.usefixtures("alone")

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
DAY = timedelta(days=1)
USAGE: Usage = {Component.INPUT: 1_000, Component.OUTPUT: 100, Component.REQUEST: 1}
WRONG = {Component.INPUT: "0.000002", Component.OUTPUT: "0.00001"}
RIGHT = {Component.INPUT: "0.000001", Component.OUTPUT: "0.00002"}
# 1,000 × 0.000002 + 100 × 0.00001, and 1,000 × 0.000001 + 100 × 0.00002, in billionths.
WRONG_UNITS, RIGHT_UNITS = 3_000_000, 3_000_000 // 3 + 2_000_000


@dataclass
class Book:
    """A model of a provider of its own, as the ledger and the price book name it."""

    model: Model

    @property
    def provider(self) -> str:
        return self.model.provider.slug

    def price(
        self, rates: Mapping[Component, str], *, start: datetime = NOON - DAY, **fields: Any
    ) -> PriceVersion:
        version = PriceVersion.objects.create(
            model=self.model, effective_from=start, source="test", **fields
        )
        for component, rate in rates.items():
            PriceRate.objects.create(version=version, component=component, rate=Decimal(rate))
        return version

    def correct(self, old: PriceVersion, rates: Mapping[Component, str]) -> PriceVersion:
        with transaction.atomic():
            PriceVersion.objects.filter(pk=old.pk).update(effective_until=NOON + 99 * DAY)
            new = self.price(rates, start=old.effective_from + timedelta(microseconds=1))
            PriceVersion.objects.filter(pk=old.pk).update(replaced_by=new, effective_until=None)
            PriceVersion.objects.filter(pk=new.pk).update(effective_from=old.effective_from)
        return new

    def scope(self, **fields: Any) -> rerating.Scope:
        return rerating.Scope(
            self.provider, self.model.name,
            fields.pop("start", NOON - DAY), fields.pop("end", NOON + DAY), **fields,
        )  # fmt: skip

    def rerate(self, **fields: Any) -> Rerating:
        made = Rerating.objects.create(
            provider=self.provider, upstream_model=self.model.name,
            start=fields.pop("start", NOON - DAY), end=fields.pop("end", NOON + DAY),
            reason="the list was wrong", requested_by="test", created_at=NOON, **fields,
        )  # fmt: skip
        return rerating.apply(made, clock=now)


def new_book() -> Book:
    provider = Provider.objects.create(slug=f"p-{uuid.uuid4().hex[:12]}", name="P")
    return Book(Model.objects.create(provider=provider, name="m"))


@pytest.fixture
def book() -> Book:
    return new_book()


def charge(
    book: Book,
    organization: Organization,
    of: PathAccount,
    *,
    at: datetime = NOON,
    price: Price | None = None,
    **outcome: Any,
) -> str:
    """Record a request as the gateway charges it at the price in force, or at no price."""
    listed = pricebook.listed(provider=book.provider, name=book.model.name)
    assert listed is not None
    in_force = listed.price_at(at, organization_id=organization.pk)
    price = price or in_force or Price("USD", (), UNPRICED)
    usage, conditions = outcome.pop("usage", USAGE), outcome.pop("conditions", PLAIN)
    cost = pricing.cost(price=price, usage=usage, conditions=conditions).amount
    path = context(organization, [of])
    payload = payload_of(
        path,
        outcome=Outcome(
            status=200, cost=cost, usage=usage, conditions=conditions, settled_at=at, **outcome
        ),
        provider=book.provider, upstream_model=book.model.name, price_reference=price.reference,
    )  # fmt: skip
    id = str(uuid.uuid4())
    units = Units(int(cost.scaleb(9).to_integral_value()))
    apply(Entry("1-0", id, units, at, tuple(each.id for each in path.path), "usage", payload))
    return id


def test_a_corrected_price_adds_the_difference_in_a_row_of_its_own(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    id = charge(book, cast.organization, of)
    new = book.correct(old, {Component.INPUT: "0.000005", Component.OUTPUT: "0.00001"})

    made = book.rerate()

    assert rows_of(id) == [("usage", WRONG_UNITS), ("adjustment", 3_000_000)]
    added = SpendEvent.objects.get(request_id=id, kind=EventKind.ADJUSTMENT)
    assert (added.cost, added.rerating_id) == (Decimal("0.003"), made.pk)
    assert added.price_reference == f"price:{new.pk}"
    assert added.admitted_at == NOON
    assert (added.usage, added.input_tokens, added.reserved_units) == ({}, 0, 0)
    assert added.lines[0] == ["input", 1_000, "0.000005000000000000", "0.005000000000000000"]
    assert (made.requests_seen, made.requests_changed, made.requests_skipped) == (1, 1, 0)
    assert made.differences == {"USD": "0.003"}


def test_a_second_run_changes_nothing(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    ids = [charge(book, cast.organization, of, at=NOON + n * timedelta(hours=1)) for n in range(3)]
    book.correct(old, {Component.INPUT: "0.000003", Component.OUTPUT: "0.00001"})
    first = book.rerate()
    before = [rows_of(id) for id in ids]

    again, same = book.rerate(), rerating.apply(first, clock=now)

    assert [rows_of(id) for id in ids] == before
    assert (again.requests_changed, again.differences) == (0, {})
    assert (same.requests_changed, same.differences) == (3, {"USD": "0.003"})


def test_a_price_that_was_too_high_is_paid_back(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    id = charge(book, cast.organization, of)
    book.correct(old, {Component.INPUT: "0", Component.OUTPUT: "0"})

    book.rerate()

    assert rows_of(id) == [("usage", WRONG_UNITS), ("adjustment", -WRONG_UNITS)]


def test_a_correction_of_a_correction_starts_from_what_is_charged_now(
    book: Book, cast: Cast
) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    id = charge(book, cast.organization, of)
    newer = book.correct(old, {Component.INPUT: "0.000009", Component.OUTPUT: "0.00001"})
    book.rerate()
    book.correct(newer, WRONG)

    book.rerate()

    amounts = [amount for _, amount in rows_of(id)]
    assert len(amounts) == 3
    assert sum(amounts) == WRONG_UNITS


def test_totals_and_roll_ups_hold_the_corrected_sum(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    period = Period(NOON - DAY, NOON + DAY)
    old = book.price(WRONG)
    charge(book, cast.organization, of)
    PeriodTotal.objects.create(
        account_id=of.id, period_start=period.start, period_end=period.end,
        amount_units=WRONG_UNITS, events=1,
    )  # fmt: skip
    book.correct(old, {Component.INPUT: "0.000003", Component.OUTPUT: "0.00001"})

    book.rerate()

    total = PeriodTotal.objects.get(account_id=of.id, period_start=period.start)
    assert total.amount_units == WRONG_UNITS + 1_000_000
    assert rolled_up(of.id)["QuarterHour"][0] == WRONG_UNITS + 1_000_000
    assert rolled_up(of.id)["Day"][0] == WRONG_UNITS + 1_000_000
    record_everything()
    assert verification.verify().differences == ()


def test_requests_outside_the_interval_are_left_alone(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG, start=NOON - 9 * DAY)
    ends = [
        charge(book, cast.organization, of, at=at)
        for at in (NOON - timedelta(microseconds=1), NOON, NOON + DAY)
    ]
    book.correct(old, {Component.INPUT: "0.000003", Component.OUTPUT: "0.00001"})

    book.rerate(start=NOON, end=NOON + DAY)

    assert [len(rows_of(id)) for id in ends] == [1, 2, 1]


def test_answers_from_the_response_cache_keep_their_price(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    hit = charge(
        book, cast.organization, of, flags=(events.CACHE_HIT,), saved_units=Units(WRONG_UNITS)
    )
    book.correct(old, {Component.INPUT: "0.000005", Component.OUTPUT: "0.00001"})

    made = book.rerate()

    assert rows_of(hit) == [("usage", WRONG_UNITS)]
    assert (made.requests_seen, made.requests_skipped) == (0, 0)


def test_what_re_ratings_add_has_saved_nothing(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    id = charge(book, cast.organization, of, saved_units=Units(7))
    book.correct(old, {Component.INPUT: "0.000005", Component.OUTPUT: "0.00001"})

    book.rerate()

    rows = SpendEvent.objects.filter(request_id=id).order_by("recorded_at")
    assert [(row.kind, row.saved_units) for row in rows] == [("usage", 7), ("adjustment", 0)]


def test_another_organization_can_be_left_alone(book: Book, cast: Cast) -> None:
    own, other = account(cast.organization), account(cast.outsider)
    old = book.price(WRONG)
    ids = [
        charge(book, cast.organization, own),
        charge(book, cast.outsider, other),
    ]
    book.correct(old, {Component.INPUT: "0.000003", Component.OUTPUT: "0.00001"})

    book.rerate(organization=cast.organization)

    assert [len(rows_of(id)) for id in ids] == [2, 1]


def test_what_waited_for_a_price_is_charged_once_there_is_one(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    id = charge(book, cast.organization, of, flags=(events.UNPRICED,))
    queued = UnpricedModel.objects.get(provider=book.provider)
    assert (queued.waiting, queued.input_tokens, queued.settled_at) == (1, 1_000, None)
    book.price(RIGHT)

    made = book.rerate()

    assert rows_of(id) == [("usage", 0), ("adjustment", RIGHT_UNITS)]
    queued.refresh_from_db()
    assert (queued.waiting, queued.settled_at) == (0, made.finished_at)


def test_what_comes_without_a_price_after_it_was_settled_waits_again(
    book: Book, cast: Cast
) -> None:
    of = account(cast.organization)
    charge(book, cast.organization, of, flags=(events.UNPRICED,))
    old = book.price(RIGHT)
    book.rerate()
    PriceRate.objects.filter(version=old).delete()

    charge(book, cast.organization, of, flags=(events.UNPRICED,))

    queued = UnpricedModel.objects.get(provider=book.provider)
    assert (queued.waiting, queued.settled_at) == (1, None)


def test_what_waits_anew_waits_since_then(book: Book, cast: Cast) -> None:
    of, later = account(cast.organization), NOON + 30 * DAY
    charge(book, cast.organization, of, flags=(events.UNPRICED,))
    version = book.price(RIGHT)
    book.rerate()
    PriceRate.objects.filter(version=version).delete()

    charge(book, cast.organization, of, at=later, flags=(events.UNPRICED,))

    queued = UnpricedModel.objects.get(provider=book.provider)
    assert (queued.first_seen_at, queued.last_seen_at) == (later, later)


def test_what_is_refused_after_it_was_settled_is_listed_again(book: Book, cast: Cast) -> None:
    charge(book, cast.organization, account(cast.organization), flags=(events.UNPRICED,))
    book.price(RIGHT)
    settled_at = book.rerate().finished_at
    assert settled_at is not None
    key, queued = (book.provider, "m"), UnpricedModel.objects.filter(provider=book.provider)

    unpriced.add_refused({key: unpriced.Refused(1, settled_at - DAY, settled_at - DAY)})
    assert queued.get().settled_at == settled_at  # refused before, and only counted now
    unpriced.add_refused({key: unpriced.Refused(1, settled_at + DAY, settled_at + DAY)})

    assert queued.get().settled_at is None
    assert queued.get().refused == 2


def test_what_was_refused_only_leaves_the_queue_once_it_has_a_price(book: Book, cast: Cast) -> None:
    other = new_book()
    for each in (book, other):
        unpriced.add_refused({(each.provider, "m"): unpriced.Refused(3, NOON, NOON)})
    charge(other, cast.organization, account(cast.organization), flags=(events.UNPRICED,))
    rows = UnpricedModel.objects.filter(provider=book.provider)

    tasks.forget_refused_models()
    still = rows.get()
    for each in (book, other):
        each.price(RIGHT)
    tasks.forget_refused_models(of_a_newer_version="ignored")

    assert (still.refused, still.settled_at) == (3, None)
    assert (rows.get().refused, rows.get().settled_at is None) == (0, False)
    assert UnpricedModel.objects.get(provider=other.provider).settled_at is None  # one waits


def test_what_came_while_the_rest_was_rated_waits_on(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = account(cast.organization)
    charge(book, cast.organization, of, flags=(events.UNPRICED,))
    written = rerating._written

    def one_more(made: Rerating) -> Any:
        charge(book, cast.organization, of, at=NOON - DAY / 2, flags=(events.UNPRICED,))
        return written(made)

    monkeypatch.setattr(rerating, "_written", one_more)
    book.price(RIGHT)

    book.rerate()

    queued = UnpricedModel.objects.get(provider=book.provider)
    assert (queued.waiting, queued.settled_at) == (2, None)


def test_a_run_that_goes_on_at_another_price_corrects_what_it_wrote(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    id = charge(book, cast.organization, of)
    newer = book.correct(old, {Component.INPUT: "0.000009", Component.OUTPUT: "0.00001"})
    broken_off = book.rerate()
    book.correct(newer, RIGHT)

    rerating.apply(broken_off, clock=now)

    amounts = [amount for _, amount in rows_of(id)]
    assert (len(amounts), sum(amounts)) == (3, RIGHT_UNITS)


def test_how_far_it_is_can_be_read_meanwhile(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerating, "BATCH_REQUESTS", 2)
    of = account(cast.organization)
    book.price(WRONG)
    for _ in range(5):
        charge(book, cast.organization, of)
    made = book.rerate()
    read: list[tuple[int | None, int]] = []

    def look(running: Rerating) -> None:
        kept = Rerating.objects.get(pk=running.pk)
        read.append((kept.requests_total, kept.requests_seen))

    rerating.apply(made, clock=now, progress=look)

    assert read == [(5, 2), (5, 4), (5, 5)]


def test_what_nobody_can_rate_keeps_no_model_in_the_queue(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    charge(book, cast.organization, of, flags=(events.UNPRICED,))
    charge(book, cast.organization, of, flags=(events.UNPRICED, events.ESTIMATED), usage={})
    book.price(RIGHT)

    made = book.rerate()

    assert (made.requests_changed, made.requests_skipped) == (1, 1)
    assert UnpricedModel.objects.get(provider=book.provider).settled_at is not None


def test_model_waits_on_while_a_class_that_was_used_has_no_rate(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    usage = {**USAGE, Component.WEB_SEARCH: 2}
    charge(book, cast.organization, of, flags=(events.UNPRICED,), usage=usage)
    book.price(RIGHT)

    made = book.rerate()

    assert made.requests_changed == 1
    assert UnpricedModel.objects.get(provider=book.provider).settled_at is None


def test_a_service_tier_that_had_no_rates_is_charged_once_it_has(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    id = charge(
        book, cast.organization, of, flags=(events.UNPRICED,), conditions=Conditions("fast"),
        usage={Component.INPUT: 1_000},
    )  # fmt: skip
    version = book.price(RIGHT)
    PriceRate.objects.create(
        version=version, component=Component.INPUT, service_tier="priority", rate=Decimal("0.001")
    )

    book.rerate()

    assert rows_of(id) == [("usage", 0), ("adjustment", 1_000_000_000)]


def test_what_has_no_price_still_waits_on(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    charge(book, cast.organization, of, flags=(events.UNPRICED,))

    made = book.rerate()

    assert (made.requests_seen, made.requests_skipped, made.requests_changed) == (1, 1, 0)
    assert made.skipped == {"no_price": 1}
    assert UnpricedModel.objects.get(provider=book.provider).waiting == 1


def test_what_nobody_knows_the_usage_of_keeps_its_charge(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    id = charge(book, cast.organization, of, usage={})
    book.correct(old, RIGHT)

    made = book.rerate()

    assert len(rows_of(id)) == 1
    assert made.skipped == {"unknown_usage": 1}


def test_a_batch_is_rated_by_its_sums_where_the_price_does_not_go_by_the_request(
    book: Book, cast: Cast
) -> None:
    used = {Component.INPUT: 1_000, Component.REQUEST: 3}
    of = account(cast.organization)
    old = book.price({Component.INPUT: "0.001"})
    id = charge(book, cast.organization, of, usage=used)
    book.correct(old, {Component.INPUT: "0.002"})

    assert book.rerate().requests_changed == 1

    assert [units for _, units in rows_of(id)] == [10**9, 10**9]


def test_a_batch_keeps_its_charge_where_the_price_goes_by_the_request(
    book: Book, cast: Cast
) -> None:
    used = {Component.INPUT: 1_000, Component.REQUEST: 3}
    of = account(cast.organization)
    version = book.price({Component.INPUT: "0.001"})
    PriceRate.objects.create(
        version=version, component=Component.INPUT, rate=Decimal(9), tier_from=500
    )
    charge(book, cast.organization, of, usage=used)

    made = book.rerate()

    assert made.skipped == {"many_requests": 1}
    assert made.requests_changed == 0


def test_a_deployments_own_price_is_not_the_price_books_to_correct(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    own = pricebook.overriding({"input_cost_per_token": "0.1"}, reference="deployment:d")
    assert own is not None
    id = charge(book, cast.organization, of, price=own)
    book.price(RIGHT)

    made = book.rerate()

    assert len(rows_of(id)) == 1
    assert made.skipped == {"own_price": 1}


def test_service_tier_and_discount_apply_as_they_did(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    PriceAdjustment.objects.create(
        provider=book.model.provider, discount_percent=Decimal(50), effective_from=NOON - DAY
    )
    version = book.price(RIGHT)
    PriceRate.objects.create(
        version=version, component=Component.INPUT, service_tier="flex", rate=Decimal("0.0000005")
    )
    id = charge(
        book, cast.organization, of, usage={Component.INPUT: 1_000}, conditions=Conditions("flex")
    )

    book.rerate()

    assert sum(amount for _, amount in rows_of(id)) == 250_000


def test_preview_shows_each_account_before_and_after_and_writes_nothing(
    book: Book, cast: Cast
) -> None:
    first, second = account(cast.organization, "First"), account(cast.organization, "Second")
    old = book.price(WRONG)
    ids = [charge(book, cast.organization, of) for of in (first, first, second)]
    book.correct(old, {Component.INPUT: "0.000003", Component.OUTPUT: "0.00001"})

    found = rerating.preview(book.scope())

    assert (found.seen, found.changed, found.skipped.total()) == (3, 3, 0)
    change = found.by_account[first.id, "USD"]
    assert (change.requests, change.before, change.after) == (2, Decimal("0.006"), Decimal("0.008"))
    assert found.by_account[second.id, "USD"].difference == Decimal("0.001")
    assert found.by_currency["USD"].difference == Decimal("0.003")
    assert [len(rows_of(id)) for id in ids] == [1, 1, 1]


def test_preview_and_application_agree(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    old = book.price(WRONG)
    for n in range(1, 6):
        usage = {Component.INPUT: 7 * n, Component.OUTPUT: n}
        charge(book, cast.organization, of, usage=usage, at=NOON + n * timedelta(minutes=1))
    book.correct(old, {Component.INPUT: "0.000000333333333333", Component.OUTPUT: "0.0000001"})

    found = rerating.preview(book.scope())
    made = book.rerate()

    assert Decimal(made.differences["USD"]) == found.by_currency["USD"].difference != 0


def test_more_requests_than_a_batch_are_each_rated_once(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerating, "BATCH_REQUESTS", 2)
    of = account(cast.organization)
    old = book.price(WRONG)
    ids = [charge(book, cast.organization, of) for _ in range(5)]  # all at one instant
    book.correct(old, {Component.INPUT: "0.000003", Component.OUTPUT: "0.00001"})

    made = book.rerate()

    assert [len(rows_of(id)) for id in ids] == [2] * 5
    assert (made.requests_seen, made.requests_changed) == (5, 5)


def test_more_requests_than_a_preview_reads_are_refused(
    book: Book, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerating, "PREVIEW_REQUESTS_MAX", 1)
    of = account(cast.organization)
    book.price(WRONG)
    for _ in range(2):
        charge(book, cast.organization, of)

    with pytest.raises(rerating.TooManyRequests):
        rerating.preview(book.scope())


def test_money_of_two_currencies_is_not_added_up_on_an_account_of_both(
    book: Book, cast: Cast
) -> None:
    shared = account(cast.organization)
    book.price(RIGHT)
    for currency in ("USD", "JPY", "JPY"):
        spend(
            cast.organization, [shared.id], "1", at=NOON, currency=currency,
            provider=book.provider, upstream_model=book.model.name,
        )  # fmt: skip

    found = rerating.preview(book.scope())

    assert found.by_account[shared.id, "USD"].requests == 1
    assert found.by_account[shared.id, "JPY"].requests == 2


def test_an_adjusting_row_must_say_which_re_rating_made_it(book: Book, cast: Cast) -> None:
    of = account(cast.organization)
    book.price(WRONG)
    id = charge(book, cast.organization, of)
    row = SpendEvent.objects.get(id=id)
    row.id, row.kind = uuid.uuid4(), EventKind.ADJUSTMENT

    with pytest.raises(IntegrityError, match="event_adjustment_says_why"):
        row.save(force_insert=True)
