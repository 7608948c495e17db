"""Invoices through the command, the API and the metrics."""

from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from costplatform.metrics_state import read_samples
from spend.models import InvoiceImport, ProviderKey
from tests.admin_site import queries_of
from tests.api_client import Api, Reply, master
from tests.spend.invoice_support import NOW, Bill, bill, day_of

__all__ = ["bill"]

BAD_AMOUNTS = ("NaN", "Infinity", "1e400", "-0", "１２", '"1,000"', "0x10", "")


def kept(bill: Bill) -> int:
    return InvoiceImport.objects.filter(provider=bill.provider).count()


# --- The command ---------------------------------------------------------------------------


def reconcile(bill: Bill, file: Path, *options: str) -> tuple[int, list[str]]:
    """Run the command; return its exit code and what it printed."""
    out = StringIO()
    arguments = [str(file), "--provider", bill.provider, "--format", "generic_csv", *options]
    try:
        call_command("reconcile", *arguments, stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bill.csv"


def test_the_command_prints_what_differs_and_exits_with_1_if_it_drifts(
    bill: Bill, file: Path
) -> None:
    bill.spend("1")
    bill.spend("4", day=1)
    file.write_bytes(bill.file(bill.line("1"), bill.line("2.5", day=2, key="k")))

    code, lines = reconcile(bill, file)

    assert code == 1
    assert lines[1:4] == [
        "day         model  key  theirs  ours  difference  cause",
        "2026-03-02  m      –         –     4          -4  missing on the invoice",
        "2026-03-03  m      –       2.5     –        +2.5  missing in the ledger",
    ]
    assert lines[5:] == [
        f"{bill.provider}, 2026-03-01 to 2026-03-03, in USD",
        "theirs 3.5, ours 5, difference -1.5",
        "  missing -1.5",
        "keys that are not mapped: 1",
        "drift 6.5 (185.7143 % of theirs): drifting",
    ]


def test_the_command_keeps_what_agrees_and_compares_it_again_the_next_time(
    bill: Bill, file: Path
) -> None:
    bill.spend("1")
    file.write_bytes(bill.file(bill.line("1")))

    first, second = reconcile(bill, file), reconcile(bill, file)

    invoice = InvoiceImport.objects.get(provider=bill.provider)
    assert first[0] == second[0] == 0
    assert first[1][0] == f"imported as invoice {invoice.public_id}, 1 lines"
    assert second[1][0] == f"imported before, as invoice {invoice.public_id}; compared again"
    assert first[1][-1] == "drift 0 (0 % of theirs): matching"
    assert (invoice.imported_by, invoice.file_name) == ("command", "bill.csv")


def test_a_dry_run_keeps_nothing(bill: Bill, file: Path) -> None:
    file.write_bytes(bill.file(bill.line("1")))

    code, lines = reconcile(bill, file, "--dry-run")

    assert (code, kept(bill)) == (1, 0)
    assert lines[-1] == "drift 1 (100 % of theirs): drifting"


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_the_command_names_the_bad_line_and_exits_with_2(
    bill: Bill, file: Path, amount: str
) -> None:
    file.write_bytes(bill.file(bill.line(amount)))

    with pytest.raises(CommandError, match="line 2: amount must be") as refused:
        reconcile(bill, file)

    assert (refused.value.returncode, kept(bill)) == (2, 0)


def test_a_file_that_cannot_be_read_exits_with_2(bill: Bill, file: Path) -> None:
    with pytest.raises(CommandError, match="No such file") as refused:
        reconcile(bill, file)

    assert refused.value.returncode == 2


# --- The API -------------------------------------------------------------------------------


def send(bill: Bill, *lines: str, **more: Any) -> Reply:
    body = {
        "provider": bill.provider,
        "format": "generic_csv",
        "content": bill.file(*lines).decode(),
    }
    return master().post("/api/v1/invoices", body | more)


def test_an_import_answers_what_differs_with_money_as_text(bill: Bill) -> None:
    bill.spend("1")

    reply = send(bill, bill.line("1.25", input_tokens="3", output_tokens="0"), file_name="b.csv")

    invoice = InvoiceImport.objects.get(provider=bill.provider)
    assert reply.status == 200
    assert reply.content["invoice_id"] == invoice.public_id
    assert reply.content["causes"] == [{"cause": "price", "amount": "0.25"}]
    assert (reply.content["drift_percent"], reply.content["state"]) == ("20", "drifting")
    assert reply.content["places"] == [
        {
            "day": "2026-03-01", "model": "m", "key": "",
            "theirs": {
                "amount": "1.25", "input_tokens": 3, "output_tokens": 0, "requests": None,
            },
            "ours": {"amount": "1", "input_tokens": 3, "output_tokens": 0, "requests": 1},
            "difference": "0.25",
            "causes": [{"cause": "price", "amount": "0.25"}],
        }
    ]  # fmt: skip
    assert (invoice.imported_by, invoice.file_name) == ("master key", "b.csv")


def test_a_dry_run_of_the_api_keeps_nothing(bill: Bill) -> None:
    reply = send(bill, bill.line("1"), dry_run=True)

    assert (reply.status, reply.content["invoice_id"], kept(bill)) == (200, None, 0)


def test_the_same_file_again_exists_already(bill: Bill) -> None:
    send(bill, bill.line("1"))

    reply = send(bill, bill.line("1"))

    assert (reply.status, reply.error["code"]) == (400, "already_exists")
    assert kept(bill) == 1


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_the_api_names_the_bad_line(bill: Bill, amount: str) -> None:
    reply = send(bill, bill.line("1"), bill.line(amount))

    assert (reply.status, reply.error["code"]) == (400, "invalid_invoice")
    assert reply.error["param"] == "content"
    assert reply.error["message"].startswith("content: line 3: amount must be")
    assert kept(bill) == 0


def test_a_file_that_is_too_large_for_the_api_is_refused(bill: Bill) -> None:
    reply = send(bill, content="x" * 1_500_001)
    larger = send(bill, content="x" * 3_000_000)

    assert (reply.status, reply.error["param"]) == (400, "content")
    assert (larger.status, larger.error["code"]) == (413, "payload_too_large")


def test_imports_are_listed_newest_first_without_their_lines(bill: Bill) -> None:
    bill.keep(bill.line("1"))
    new = bill.keep(bill.line("2"))

    reply = master().get("/api/v1/invoices", {"provider": bill.provider, "size": "1"})

    assert [row["invoice_id"] for row in reply.content] == [new.public_id]
    assert reply.headers["x-total-count"] == "2"
    assert reply.content[0]["theirs"] == "2"


def test_the_list_asks_the_database_as_often_for_many_as_for_one(bill: Bill) -> None:
    def ask() -> None:
        assert master().told("/api/v1/invoices", provider=bill.provider)

    bill.keep(bill.line("1"))
    ask()
    once = queries_of(ask)
    for n in range(2, 8):
        bill.keep(bill.line(f"{n}"))

    assert queries_of(ask) == once


def test_a_comparison_is_told_page_by_page_as_of_now(bill: Bill) -> None:
    imported = bill.keep(*[bill.line("1", day=n) for n in range(3)])
    bill.spend("1", day=2)

    reply = master().get(
        "/api/v1/invoices/info", {"invoice_id": imported.public_id, "size": "2", "page": "2"}
    )

    (place,) = reply.content["places"]
    assert (place["day"], place["difference"]) == (f"{day_of(2)}", "0")
    assert (reply.headers["x-total-count"], reply.headers["x-total-pages"]) == ("3", "2")
    assert reply.content["theirs"] == "3"


def test_comparing_again_keeps_the_new_figures(bill: Bill) -> None:
    imported = bill.keep(bill.line("1"))
    bill.spend("1")

    told = master().made("/api/v1/invoices/compare", invoice_id=imported.public_id)

    assert (told["state"], told["ours"]) == ("matching", "1")
    assert InvoiceImport.objects.get(pk=imported.pk).state == "matching"


@pytest.mark.parametrize("path", ["info", "compare"])
def test_an_invoice_that_there_is_not_is_not_found(path: str) -> None:
    asked = {"invoice_id": "nothing"}
    api = master()
    reply = (
        api.get("/api/v1/invoices/info", asked)
        if path == "info"
        else api.post("/api/v1/invoices/compare", asked)
    )

    assert (reply.status, reply.error["param"]) == (404, "invoice_id")


def test_keys_of_a_provider_are_mapped_listed_and_forgotten(bill: Bill) -> None:
    one = {"provider": bill.provider, "external_id": "key_1"}
    mapped = master().made("/api/v1/provider-keys", **one, deployments=["d-1"])
    listed = master().told("/api/v1/provider-keys", provider=bill.provider)
    forgotten = master().made("/api/v1/provider-keys/delete", **one)

    assert mapped == {**one, "deployments": ["d-1"], "key_digests": []}
    assert listed == [mapped]
    assert forgotten == mapped
    assert not ProviderKey.objects.filter(provider=bill.provider).exists()


@pytest.mark.parametrize("path", ["invoices", "invoices/info", "invoices/compare", "provider-keys"])
def test_whoever_is_not_the_platform_gets_nothing(bill: Bill, path: str) -> None:
    imported = bill.keep(bill.line("1"))
    key = bill.cast.key().secret

    for secret, status in ((key, 403), ("", 401)):
        asked = Api(secret).get(f"/api/v1/{path}", {"invoice_id": imported.public_id})
        sent = Api(secret).post(f"/api/v1/{path}", {"invoice_id": imported.public_id})
        assert [asked.status, sent.status] == [status, status]
        assert bill.provider not in asked.text + sent.text


# --- Metrics -------------------------------------------------------------------------------


def test_metrics_tell_the_drift_of_the_newest_invoice_of_each_provider(bill: Bill) -> None:
    bill.spend("1")
    bill.keep(bill.line("1"))
    bill.keep(bill.line("2"), now=NOW.replace(hour=13))
    empty = Bill(bill.cast)
    empty.spend("1")
    empty.keep(empty.line("0"))

    samples = [
        (sample.name.removeprefix("costplatform_invoice_"), sample.value)
        for sample in read_samples(at=datetime.now(UTC))
        if sample.labels[:1] in {(bill.provider,), (empty.provider,)}
    ]

    assert sorted(samples) == [
        ("drift_percent", Decimal(50)), ("drifting", 1), ("drifting", 1),
    ]  # fmt: skip
