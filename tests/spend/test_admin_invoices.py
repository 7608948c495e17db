"""The admin of invoices: previewed, imported, read; changed by nobody."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from budgets.models import Change
from spend.admin import invoices as invoice_admin
from spend.models import InvoiceImport, Provider, ProviderKey
from spend.reconciling import invoicing
from tests import admin_site
from tests.admin_site import HOSTILE, Pages, errors_of, login, save, text_of
from tests.spend.invoice_support import Bill, bill

__all__ = ["bill"]

PAGES = Pages(InvoiceImport)
KEYS = Pages(ProviderKey)
MODELS = (InvoiceImport, ProviderKey)


@pytest.fixture
def root() -> Client:
    return login(admin_site.superuser())


def one_of(model: Any, bill: Bill) -> Any:
    if model is InvoiceImport:
        return bill.keep(bill.line("1", model="<b>bold</b>"), file_name=HOSTILE)
    return invoicing.map_provider_key(
        provider=bill.provider, external_id=HOSTILE[:20], deployments=["d"], key_digests=[]
    )


def preview(client: Client, bill: Bill, content: bytes, **changed: str) -> Any:
    file = SimpleUploadedFile("bill.csv", content, "text/csv")
    sent = {"provider": bill.provider, "format": "generic_csv"} | changed
    return client.post(PAGES.url("add"), {**sent, "file": file})


def kept(bill: Bill) -> int:
    return InvoiceImport.objects.filter(provider=bill.provider).count()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_page_opens_for_a_superuser_and_for_nobody_else(
    model: Any, bill: Bill, root: Client
) -> None:
    nobody = login(admin_site.staff())

    for page in Pages(model).all_of(one_of(model, bill)):
        answer = root.get(page)
        assert answer.status_code == 200, page
        assert admin_site.links_out(text_of(answer)) == []
        assert "<script>alert(1)" not in text_of(answer)
        assert "<b>bold" not in text_of(answer)
        assert nobody.get(page).status_code == 403, page


def test_who_may_only_view_can_neither_import_nor_compare_again(bill: Bill) -> None:
    imported = bill.keep(bill.line("1"))
    bill.spend("1")
    reader = login(admin_site.staff("spend.view_invoiceimport"))
    page = reader.get(PAGES.url("change", imported.pk))

    assert page.status_code == 200
    assert "Compare again" not in text_of(page)
    assert preview(reader, bill, b"x").status_code == 403
    assert reader.post(PAGES.url("compare", imported.pk)).status_code == 403
    assert InvoiceImport.objects.get(pk=imported.pk).state == "drifting"


def test_nobody_changes_or_deletes_an_invoice(bill: Bill, root: Client) -> None:
    imported = bill.keep(bill.line("1"))

    assert root.post(PAGES.url("change", imported.pk), {"state": "matching"}).status_code == 403
    assert root.post(PAGES.url("delete", imported.pk), {"post": "yes"}).status_code == 403
    assert "delete_selected" not in text_of(root.get(PAGES.url("changelist")))
    assert 'name="_save"' not in text_of(root.get(PAGES.url("change", imported.pk)))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_lists_ask_the_database_as_often_for_many_as_for_one(
    model: Any, bill: Bill, root: Client
) -> None:
    def ask() -> None:
        url = f"{Pages(model).url('changelist')}?q={bill.provider}"
        assert text_of(root.get(url)).count(bill.provider) > 1

    def make(number: int) -> None:
        bill.keep(bill.line(f"{number}"))
        invoicing.map_provider_key(
            provider=bill.provider, external_id=f"{number}", deployments=["d"], key_digests=[]
        )

    make(1)
    ask()
    once = admin_site.queries_of(ask)
    for number in range(2, 8):
        make(number)

    assert admin_site.queries_of(ask) == once


def test_a_file_is_previewed_and_kept_when_that_is_confirmed(bill: Bill, root: Client) -> None:
    bill.spend("1")
    content = bill.file(bill.line("1.25", input_tokens="3", output_tokens="0"))

    shown = preview(root, bill, content)
    before = kept(bill)
    answer = root.post(PAGES.url("add"), {"confirmed": shown.context["confirmed"]})

    imported = InvoiceImport.objects.get(provider=bill.provider)
    assert before == 0
    assert "the same tokens at another price" in text_of(shown)
    assert "+<span" in text_of(shown)
    assert answer.url == PAGES.url("change", imported.pk)  # type: ignore[attr-defined]  # a redirect
    assert imported.imported_by.startswith("admin:")
    assert imported.file_name == "bill.csv"


def test_what_was_not_previewed_here_is_not_kept(bill: Bill, root: Client) -> None:
    shown = preview(root, bill, bill.file(bill.line("1")))

    root.post(PAGES.url("add"), {"confirmed": shown.context["confirmed"][:-2] + "xx"})
    answer = root.get(PAGES.url("add"))

    assert "The preview is too old" in text_of(answer)
    assert kept(bill) == 0


def test_confirming_twice_keeps_it_once_and_says_so(bill: Bill, root: Client) -> None:
    shown = preview(root, bill, bill.file(bill.line("1")))
    confirmed = {"confirmed": shown.context["confirmed"]}

    root.post(PAGES.url("add"), confirmed)
    root.post(PAGES.url("add"), confirmed)

    assert "was imported before" in text_of(root.get(PAGES.url("add")))
    assert kept(bill) == 1


def test_a_file_that_was_imported_before_is_not_previewed(bill: Bill, root: Client) -> None:
    imported = bill.keep(bill.line("1"))

    answer = preview(root, bill, bill.file(bill.line("1")))

    (told,) = answer.context["form"].errors["file"]
    assert imported.public_id in told


@pytest.mark.parametrize(
    "amount", ["NaN", "Infinity", "1e400", "-0", "１２", '"1,000"', "0x10", ""]
)
def test_a_bad_amount_is_named_beside_the_file(bill: Bill, root: Client, amount: str) -> None:
    answer = preview(root, bill, bill.file(bill.line(amount)))

    (told,) = answer.context["form"].errors["file"]
    assert told.startswith("Line 2: amount must be")
    assert "confirmed" not in answer.context
    assert kept(bill) == 0


def test_what_is_no_file_of_the_format_is_refused(
    bill: Bill, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def errors(content: bytes, **changed: str) -> dict[str, list[str]]:
        form = preview(root, bill, content, **changed).context["form"]
        return {name: list(told) for name, told in form.errors.items()}

    good = bill.file(bill.line("1"))
    assert errors(b"") == {"file": ["The submitted file is empty."]}
    assert errors(b"\xff") == {"file": ["Is not UTF-8."]}
    assert set(errors(good, provider="no-such-provider")) == {"provider"}
    assert set(errors(good, format="pdf")) == {"format"}
    assert set(errors(good, format="anthropic_costs_csv")) == {"file"}
    monkeypatch.setattr(invoice_admin, "FILE_BYTES_MAX", 10)
    assert errors(good) == {"file": ["It has more than 10 bytes."]}


def test_the_page_shows_what_differs_and_on_demand_everything(bill: Bill, root: Client) -> None:
    bill.spend("1", day=0, upstream_model="alike")
    imported = bill.keep(bill.line("1", model="alike"), bill.line("2", day=1, model="other"))
    url = PAGES.url("change", imported.pk)

    short, whole = text_of(root.get(url)), text_of(root.get(f"{url}?all"))

    assert "missing in the ledger" in short
    assert 'class="cp-unmatched"' in short
    assert "1 agree" in short
    assert ">alike<" not in short
    assert ">alike<" in whole
    assert "66.67 %" in short


def test_comparing_again_is_a_post_that_keeps_the_new_state(bill: Bill, root: Client) -> None:
    imported = bill.keep(bill.line("1"))
    bill.spend("1")
    url = PAGES.url("compare", imported.pk)
    changed = text_of(root.get(PAGES.url("change", imported.pk)))

    assert root.get(url).status_code == 405
    assert root.post(PAGES.url("compare", 0)).status_code == 404
    assert root.post(url).status_code == 302
    assert "has changed since" in changed
    assert "has changed since" not in text_of(root.get(PAGES.url("change", imported.pk)))
    assert InvoiceImport.objects.get(pk=imported.pk).state == "matching"


def test_a_providers_key_is_mapped_changed_and_forgotten(bill: Bill, root: Client) -> None:
    added = save(
        root, KEYS.url("add"), provider=bill.provider, external_id="key_1", deployments="d-1\nd-2"
    )
    mapped = ProviderKey.objects.get(provider=bill.provider)
    change = KEYS.url("change", mapped.pk)
    save(root, change, deployments="", key_digests="a" * 64)
    mapped.refresh_from_db()
    told = Change.objects.filter(table_name="spend_providerkey", object_id=mapped.pk)

    assert added.status_code == 302
    assert (mapped.deployments, mapped.key_digests) == ([], ["a" * 64])
    assert all(each.actor.startswith("admin:") for each in told)
    assert root.post(KEYS.url("delete", mapped.pk), {"post": "yes"}).status_code == 302
    assert not ProviderKey.objects.filter(pk=mapped.pk).exists()


def test_a_secret_is_no_token_and_is_not_kept(bill: Bill, root: Client) -> None:
    secret = bill.cast.key().secret

    answer = save(
        root, KEYS.url("add"), provider=bill.provider, external_id="k", key_digests=secret[:64]
    )

    assert errors_of(answer)["key_digests"] == ["Must be tokens of keys: 64 hexadecimal digits."]
    assert not ProviderKey.objects.filter(provider=bill.provider).exists()
    assert Provider.objects.filter(slug=bill.provider).exists()


def test_a_key_that_stands_for_nothing_is_refused(bill: Bill, root: Client) -> None:
    answer = save(root, KEYS.url("add"), provider=bill.provider, external_id="k")

    assert errors_of(answer) != {}


def test_a_preview_tells_how_many_requests_have_no_list_price(bill: Bill, root: Client) -> None:
    bill.spend("1", price_reference=f"price:1*adjustment:{2**62}")
    bill.spend("1")

    page = text_of(preview(root, bill, bill.file(bill.line("2"))))

    assert "compared as if they had cost nothing: 1." in page
