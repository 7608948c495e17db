"""Invoices beside the ledger: what is compared with what, what is kept, and who is told."""

import logging
import threading
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connections, transaction

from budgets.errors import InvalidInput, NotFound
from budgets.models import Change
from spend import events
from spend.invoices.differences import Cause
from spend.invoices.lines import BadInvoice
from spend.models import (
    EventKind,
    InvoiceImport,
    InvoiceLine,
    Model,
    Provider,
    ProviderKey,
    SpendEvent,
)
from spend.reconciling import invoicing, reconciliation
from spend.reconciling.invoicing import AlreadyImported
from spend.reconciling.reconciliation import Comparison
from tests.spend.invoice_support import NOW, Bill, bill, day_of, heard

__all__ = ["bill", "heard"]


def compared(bill: Bill, *lines: str) -> Comparison:
    return invoicing.preview(
        provider=bill.provider, format="generic_csv", content=bill.file(*lines)
    )


def causes(found: Comparison) -> list[Cause]:
    return [part.cause for row in found.rows for part in row.parts]


# --- What is compared ----------------------------------------------------------------------


def test_spend_of_a_day_and_model_is_added_up_and_compared(bill: Bill) -> None:
    bill.spend("0.25")
    bill.spend("0.5", hour=23)
    bill.spend("9", provider="another")

    found = compared(bill, bill.line("0.75", input_tokens="6", output_tokens="0"))

    (row,) = found.rows
    assert [found.theirs, found.ours] == [Decimal("0.75")] * 2
    assert found.drift == 0
    assert row.cell.ours is not None
    assert (row.cell.ours.tokens, row.cell.ours.requests) == ((6, 0), 2)
    assert found.state == "matching"


def test_answers_from_the_response_cache_are_on_no_bill(bill: Bill) -> None:
    bill.spend("0.25")
    bill.spend("0.05", flags=(events.CACHE_HIT,))

    found = compared(bill, bill.line("0.25"))

    assert [found.theirs, found.ours] == [Decimal("0.25")] * 2
    assert found.rows[0].cell.ours is not None
    assert found.rows[0].cell.ours.requests == 1


def test_days_are_days_of_utc_in_which_requests_were_admitted(bill: Bill) -> None:
    bill.spend("1", day=0, hour=0)
    bill.spend("2", day=0, hour=23)
    bill.spend("4", day=1, hour=0)

    found = compared(bill, bill.line("3", day=0), bill.line("4", day=1))

    assert [row.cell.difference for row in found.rows] == [0, 0]


def test_what_the_ledger_has_within_the_days_of_the_file_must_be_on_it(bill: Bill) -> None:
    bill.spend("1", day=0)
    bill.spend("2", day=1, upstream_model="n")
    bill.spend("4", day=2)
    bill.spend("8", day=3)

    found = compared(bill, bill.line("1", day=0), bill.line("4", day=2))

    assert causes(found) == [Cause.MISSING]
    assert found.difference == -2


def test_spend_past_the_gateway_is_missing_in_the_ledger(bill: Bill) -> None:
    found = compared(bill, bill.line("5", input_tokens="10", output_tokens="1"))

    (row,) = found.rows
    assert row.cell.ours is None
    assert causes(found) == [Cause.MISSING]
    assert found.drift_percent == 100


def test_models_are_one_by_the_price_book_or_but_for_a_date(bill: Bill) -> None:
    provider = Provider.objects.get(slug=bill.provider)
    Model.objects.create(provider=provider, name="gpt", other_names=["gpt-alias"])
    bill.spend("1", upstream_model="gpt-alias")
    bill.spend("2", upstream_model="other")

    found = compared(
        bill,
        bill.line("1", model="gpt-2026-01-01"),
        bill.line("2", model="other-20260101"),
    )

    assert [row.cell.place.model for row in found.rows] == ["gpt", "other"]
    assert found.difference == found.drift == 0


def test_a_re_rated_request_counts_at_its_new_cost_and_once(bill: Bill) -> None:
    bill.spend("1")
    row = SpendEvent.objects.get(provider=bill.provider)
    row.id, row.kind, row.cost = uuid.uuid4(), EventKind.ADJUSTMENT, Decimal("0.25")
    row.input_tokens = row.output_tokens = 0
    row.rerating_id = 1

    with transaction.atomic():
        row.save(force_insert=True)
        found = compared(bill, bill.line("1.25", requests="1"))
        transaction.set_rollback(True)

    (place,) = found.rows
    assert place.cell.ours is not None
    assert (place.cell.ours.tokens, place.cell.ours.requests) == ((3, 0), 1)
    assert found.difference == 0


def test_a_file_without_models_is_compared_by_day_alone(bill: Bill) -> None:
    bill.spend("1", upstream_model="a")
    bill.spend("2", upstream_model="b")

    found = compared(bill, bill.line("3", model=""))

    assert [row.cell.place.model for row in found.rows] == [""]
    assert found.difference == 0


def test_spend_in_another_currency_is_told_of_and_not_compared(bill: Bill) -> None:
    bill.spend("1")
    bill.spend("1", cost_currency="EUR")

    found = compared(bill, bill.line("1"))

    assert found.other_currencies == ("EUR",)
    assert found.difference == 0


def test_a_file_of_tokens_is_compared_in_tokens(bill: Bill) -> None:
    bill.spend("1")
    start = 1_772_323_200  # 2026-03-01
    content = (
        "start_time,end_time,num_model_requests,model,input_tokens,output_tokens\n"
        f"{start},{start + 60},1,m,3,0\n{start + 60},{start + 120},1,m,40,2\n"
    ).encode()

    found = invoicing.preview(
        provider=bill.provider, format="openai_usage_csv", content=content
    )  # fmt: skip

    assert found.currency == ""
    assert [found.theirs, found.ours] == [Decimal(45), Decimal(3)]
    assert causes(found) == [Cause.MISSING]


def test_requests_past_midnight_are_timing_and_no_drift(bill: Bill) -> None:
    bill.spend("3", day=0)
    bill.spend("1", day=0, hour=23)
    bill.spend("3", day=1)

    found = compared(bill, bill.line("3", day=0), bill.line("4", day=1))

    assert causes(found) == [Cause.TIMING, Cause.TIMING]
    assert found.drift == 0
    assert found.state == "matching"


def test_lines_whose_id_came_before_are_a_duplicate(bill: Bill) -> None:
    bill.spend("1")
    once = bill.line("1", external_id="a", input_tokens="3", output_tokens="0")

    found = compared(bill, once, once)

    assert found.by_cause == {Cause.DUPLICATE: 1}
    assert found.theirs == 2


def test_rounding_is_of_as_many_lines_as_the_provider_shows(bill: Bill) -> None:
    bill.spend("0.03")

    found = compared(bill, *[bill.line("0.01", external_id=f"{n}") for n in range(4)])
    in_one = compared(bill, bill.line("0.04"))

    assert found.by_cause == {Cause.ROUNDING: Decimal("0.01")}
    assert in_one.by_cause == {Cause.UNEXPLAINED: Decimal("0.01")}


# --- Keys ----------------------------------------------------------------------------------


def keyed(found: Comparison) -> dict[str, Decimal]:
    return {row.cell.place.key: row.cell.difference for row in found.rows}


def test_keys_that_nobody_has_mapped_are_compared_together(bill: Bill) -> None:
    bill.spend("3", key_digest="a" * 64)

    found = compared(bill, bill.line("1", key="x"), bill.line("2", key="y"))

    assert keyed(found) == {"": 0}
    assert found.unmapped_keys == ("x", "y")


def test_a_mapped_key_is_compared_by_itself(bill: Bill) -> None:
    bill.spend("1", key_digest="a" * 64)
    bill.spend("2", deployment="d-1")
    bill.spend("4", deployment="d-2")
    invoicing.map_provider_key(
        provider=bill.provider, external_id="x", deployments=[], key_digests=["a" * 64]
    )
    invoicing.map_provider_key(
        provider=bill.provider, external_id="y", deployments=["d-1"], key_digests=[]
    )

    found = compared(
        bill,
        bill.line("1", key="x"), bill.line("2.5", key="y"), bill.line("4", key="z"),
    )  # fmt: skip

    assert keyed(found) == {"": 0, "x": 0, "y": Decimal("0.5")}
    assert found.unmapped_keys == ("z",)


def test_a_mapping_is_of_no_use_to_a_file_without_its_key(bill: Bill) -> None:
    bill.spend("1", deployment="d-1")
    invoicing.map_provider_key(
        provider=bill.provider, external_id="y", deployments=["d-1"], key_digests=[]
    )

    assert keyed(compared(bill, bill.line("1"))) == {"": 0}


def test_mapping_a_key_again_replaces_it_and_the_history_keeps_it(bill: Bill) -> None:
    first, mapped = (
        invoicing.map_provider_key(
            provider=bill.provider, external_id="x", deployments=[deployment], key_digests=[]
        )
        for deployment in ("d-1", "d-2")
    )
    forgotten = invoicing.forget_provider_key(provider=bill.provider, external_id="x")

    changes = Change.objects.filter(table_name="spend_providerkey", object_id=mapped.pk)
    assert [change.action for change in changes.order_by("id")] == ["insert", "update", "delete"]
    assert first.pk == mapped.pk
    assert forgotten.deployments == ["d-2"]
    with pytest.raises(NotFound):
        invoicing.forget_provider_key(provider=bill.provider, external_id="x")


def test_a_key_is_mapped_to_something(bill: Bill) -> None:
    with pytest.raises(InvalidInput):
        invoicing.map_provider_key(
            provider=bill.provider, external_id="x", deployments=[], key_digests=[]
        )
    with pytest.raises(IntegrityError, match="provider_key_names_requests"):
        ProviderKey.objects.create(provider=bill.provider, external_id="x")


# --- What is kept --------------------------------------------------------------------------


def test_an_import_keeps_every_line_and_compares_as_the_file_does(bill: Bill) -> None:
    bill.spend("1.0000001")
    lines = [
        bill.line("1.0", key="x", external_id="a", input_tokens="3", output_tokens="0"),
        bill.line("0.123456789012345678", day=1, model="n", requests="7"),
    ]

    imported = bill.keep(*lines)

    assert (imported.lines, imported.first_day, imported.last_day) == (2, day_of(0), day_of(1))
    assert imported.details.count() == 2
    assert reconciliation.compare_import(imported) == compared(bill, *lines)
    again = InvoiceImport.objects.get(pk=imported.pk)
    assert (again.theirs, again.drift) == (imported.theirs, imported.drift)


def test_the_same_file_is_refused_and_changes_nothing(bill: Bill, heard: Any) -> None:
    first = bill.keep(bill.line("1"))

    with pytest.raises(AlreadyImported) as refused:
        bill.keep(bill.line("1"), file_name="renamed.csv")

    assert refused.value.invoice_id == first.public_id
    assert InvoiceImport.objects.filter(provider=bill.provider).count() == 1
    assert InvoiceLine.objects.filter(invoice=first).count() == 1
    assert heard == [(first.public_id, True)]


def test_the_same_file_at_the_same_time_is_kept_once(bill: Bill) -> None:
    outcomes: list[Any] = []
    start = threading.Barrier(4)

    def keep() -> None:
        start.wait()
        try:
            outcomes.append(bill.keep(bill.line("1")))
        except AlreadyImported as refused:
            outcomes.append(refused)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=keep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (kept,) = InvoiceImport.objects.filter(provider=bill.provider)
    refusals = [each for each in outcomes if isinstance(each, AlreadyImported)]
    assert [each.invoice_id for each in refusals] == [kept.public_id] * 3


@pytest.mark.parametrize(
    "amount", ["NaN", "Infinity", "1e400", "-0", "１２", '"1,000"', "0x10", ""]
)
def test_nothing_of_a_file_with_a_bad_line_is_kept(bill: Bill, amount: str) -> None:
    with pytest.raises(BadInvoice):
        bill.keep(bill.line("1"), bill.line(amount))

    assert not InvoiceImport.objects.filter(provider=bill.provider).exists()


def test_a_provider_that_neither_price_book_nor_ledger_knows_is_refused(bill: Bill) -> None:
    Provider.objects.filter(slug=bill.provider).delete()
    with pytest.raises(InvalidInput) as refused:
        bill.keep(bill.line("1"))
    bill.spend("1")

    assert refused.value.field == "provider"
    assert bill.keep(bill.line("1")).state == "matching"


def test_lines_are_neither_changed_nor_deleted(bill: Bill) -> None:
    imported = bill.keep(bill.line("1"))

    with pytest.raises(DatabaseError, match="append-only"):
        imported.details.update(amount=2)
    with pytest.raises(DatabaseError, match="append-only"):
        InvoiceLine.objects.filter(invoice=imported).delete()


# --- Drift ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent_max", "state"), [(9, "drifting"), (10, "matching")])
def test_an_import_is_marked_that_drifts_beyond_the_setting(
    bill: Bill, settings: Any, percent_max: int, state: str
) -> None:
    settings.INVOICE_DRIFT_PERCENT_MAX = percent_max
    bill.spend("0.9")

    imported = bill.keep(bill.line("1"))

    assert (imported.drift_percent, imported.state) == (Decimal("10.0000"), state)


def test_of_an_invoice_of_nothing_there_is_no_percentage(bill: Bill) -> None:
    bill.spend("0.9")

    imported = bill.keep(bill.line("0"))

    assert imported.drift_percent is None
    assert imported.state == "drifting"


def test_drift_is_logged_and_told_once_after_the_commit(
    bill: Bill, heard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "spend.reconciling.invoicing"):
        imported = bill.keep(bill.line("1"))
        invoicing.compare_again(invoice_id=imported.public_id, now=NOW)

    assert heard == [(imported.public_id, True)]
    (record,) = [each for each in caplog.records if each.message == "invoice_drift"]
    assert vars(record)["invoice_id"] == imported.public_id
    assert vars(record)["drift_percent"] == "100.0000"


def test_what_matches_is_told_to_nobody(bill: Bill, heard: Any) -> None:
    bill.spend("1")

    bill.keep(bill.line("1"))

    assert heard == []


def test_comparing_again_sees_what_came_late_and_tells_of_a_new_drift(
    bill: Bill, heard: Any
) -> None:
    imported = bill.keep(bill.line("1"))
    bill.spend("1")
    matching = invoicing.compare_again(invoice_id=imported.public_id, now=NOW)
    bill.spend("7")
    drifting = invoicing.compare_again(invoice_id=imported.public_id, now=NOW)

    assert [matching.state, drifting.state] == ["matching", "drifting"]
    assert heard == [(imported.public_id, True)] * 2
    with pytest.raises(NotFound):
        invoicing.compare_again(invoice_id="nothing", now=NOW)
