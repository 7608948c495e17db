"""The admin as a browser shows it: real processes, real Chromium, and nothing from elsewhere."""

import base64
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, expect, sync_playwright

from budgets import keys
from budgets.models import ApiKey, User
from tests import admin_site
from tests.admin_site import HOSTILE
from tests.budgets.support import account
from tests.conftest import Cast
from tests.spend.invoice_support import Bill
from tests.spend.price_support import new_model, priced
from tests.spend.report_support import FIRST, rate, spender
from tests.spend.support import rows_of
from tests.spend.test_price_imports import Vendor
from tests.spend.test_rerating import WRONG, charge, new_book
from tests.spend.test_reratings import CORRECT
from tests.stack import Stack

CHROMIUM = Path("/usr/bin/chromium")
PASSWORD = "a-long-password-1"
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="apt-get install -y chromium"),
]


@dataclass
class Browser:
    """One page of a browser, and what it has complained about or fetched from elsewhere."""

    page: Page
    base_url: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._see)

    def open(self, path: str) -> None:
        answer = self.page.goto(self.base_url + path, wait_until="load")
        assert answer is not None
        assert answer.status == 200, path

    def log_in(self, user: User) -> None:
        self.open("/admin/")
        self.page.fill("#id_username", user.username)
        self.page.fill("#id_password", PASSWORD)
        self.page.press("#id_password", "Enter")
        expect(self.page).to_have_url(f"{self.base_url}/admin/")

    def choose(self, field_name: str, text: str) -> None:
        """Type into a field that searches, and take the first thing that it finds."""
        self.page.click(f".field-{field_name} .select2-selection")
        self.page.fill(".select2-search__field", text)
        self.page.click(f".select2-results__option:has-text('{text}')")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self.base_url, "data:", "blob:")):
            self.strangers.append(request.url)


@pytest.fixture
def root() -> User:
    user = admin_site.superuser()
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def browser(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    # Playwright runs a loop on this very thread; the test itself is no coroutine.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        context = chromium.new_context(
            viewport={"width": 1440, "height": 900},
            permissions=["clipboard-read", "clipboard-write"],
        )
        opened = Browser(context.new_page(), stack.lane)
        opened.listen()
        yield opened
        chromium.close()
    assert opened.complaints == []
    assert opened.strangers == []


def test_a_key_is_made_by_clicking_and_its_secret_is_shown_once(
    browser: Browser, root: User
) -> None:
    organization = admin_site.organization_named(f"Clicked {root.pk}")
    page = browser.page
    browser.log_in(root)

    page.click("nav >> text=API keys")
    page.click("a[href$='/apikey/add/']")
    browser.choose("organization", organization.name)
    page.fill("#id_name", "made by clicking")
    page.fill("#id_max_budget", "12.50")
    page.select_option("#id_budget_duration", "1mo")
    page.click("button[name=_save]")

    secret = page.input_value("#secret")
    key = ApiKey.objects.get(digest=keys.digest(secret))
    assert key.organization == organization
    assert key.name == "made by clicking"
    expect(page.locator("#secret")).to_have_attribute(
        "aria-label", f"Secret key, {len(secret)} characters"
    )
    _copies_and_downloads(page, secret)
    _is_gone_when_asked_again(page, secret)


def _copies_and_downloads(page: Page, secret: str) -> None:
    page.click("#copy")
    expect(page.locator("#told")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    link = page.get_attribute("#download", "href") or ""
    env_file = base64.b64decode(unquote(link.partition("base64,")[2])).decode()
    assert f"OPENAI_API_KEY={secret}" in env_file.splitlines()
    assert re.search(r"^OPENAI_BASE_URL=http://127\.0\.0\.1:\d+/v1$", env_file, re.MULTILINE)


def _is_gone_when_asked_again(page: Page, secret: str) -> None:
    expect(page.locator("#done")).to_be_disabled()  # not before it is stored
    page.check("#stored")
    expect(page.locator("#done")).to_be_enabled()
    page.reload()
    expect(page.locator("#content")).to_contain_text("Already shown")
    page.goto("about:blank")
    page.go_back()
    expect(page.locator("#content")).to_contain_text("Already shown")
    assert secret not in page.content()


def test_a_pasted_secret_leads_to_its_key_and_stays_out_of_the_address(
    browser: Browser, root: User
) -> None:
    issued = admin_site.key_of(admin_site.organization_named("Pasted"), "5")
    visited: list[str] = []
    browser.page.on("request", lambda request: visited.append(request.url))
    browser.log_in(root)

    browser.open("/admin/budgets/apikey/")
    browser.page.fill("#searchbar", issued.secret)
    browser.page.press("#searchbar", "Enter")

    expect(browser.page).to_have_url(
        f"{browser.base_url}/admin/budgets/apikey/{issued.key.pk}/change/"
    )
    assert not [url for url in visited if issued.secret in url]


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_of_the_sidebar_fits_and_complains_of_nothing(
    viewport: dict[str, int], browser: Browser, root: User
) -> None:
    organization = admin_site.organization_named(HOSTILE)
    key = admin_site.key_of(organization, "0.9", name=HOSTILE).key
    admin_site.spend_on(key, "0.8")
    browser.log_in(root)
    links = browser.page.locator("#nav-sidebar-apps a").evaluate_all(
        "links => links.map(link => link.getAttribute('href'))"
    )
    assert len(links) > 14

    browser.page.set_viewport_size({"width": viewport["width"], "height": viewport["height"]})
    for link in [*links, f"/admin/budgets/account/{key.account_id}/change/"]:
        browser.open(link)
        width = browser.page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"], link


def test_an_increase_is_asked_for_and_approved_by_clicking(
    browser: Browser, root: User, cast: Cast
) -> None:
    issued, page = cast.key("10"), browser.page
    account = issued.key.account
    asker = User.objects.create_superuser(f"asker-{uuid.uuid4().hex[:8]}", password=PASSWORD)
    browser.log_in(asker)
    browser.open(f"/admin/budgets/account/{account.pk}/change/")
    page.click("text=Ask for an increase")
    page.fill("#id_amount", "5")
    page.fill("#id_why", "the launch")
    page.click("#decide")
    expect(page.locator("#content")).to_contain_text("pending")
    browser.page.context.clear_cookies()

    browser.log_in(root)
    page.click("nav >> text=Increases")
    page.locator("tr", has_text=asker.username).locator("th a").first.click()
    page.click("text=Approve")
    page.fill("#id_amount", "4")
    page.click("#decide")

    expect(page.locator("#content")).to_contain_text(f"approved by {root.username}")
    assert (account.increases.get().state, account.increases.get().amount) == (
        "approved",
        Decimal(4),
    )


def test_an_invoice_is_chosen_previewed_and_imported_by_clicking(
    browser: Browser, root: User, cast: Cast, tmp_path: Path
) -> None:
    bill, file, page = Bill(cast), tmp_path / "bill.csv", browser.page
    bill.spend("1", upstream_model="agreed")
    file.write_bytes(bill.file(bill.line("1", model="agreed"), bill.line("2", model="missed")))
    browser.log_in(root)

    page.click("nav >> text=Invoices")
    page.click("a[href$='/invoiceimport/add/']")
    page.select_option("select[name=provider]", bill.provider)
    page.select_option("select[name=format]", "generic_csv")
    page.set_input_files("input[name=file]", str(file))
    page.click("#preview")
    expect(page.locator("#content")).to_contain_text("Nothing is kept yet.")
    page.click("#import")

    expect(page.locator("#content")).to_contain_text("missing in the ledger")
    page.click("text=show every day and model")
    expect(page.locator("#content")).to_contain_text("agreed")
    page.click("#compare-again")
    expect(page.locator("body")).to_contain_text("was compared again: drifting")


def test_a_re_rating_is_looked_at_and_then_written_by_clicking(
    browser: Browser, root: User, cast: Cast
) -> None:
    book, page = new_book(), browser.page
    old = book.price(WRONG)
    id = charge(book, cast.organization, account(cast.organization, HOSTILE))
    book.correct(old, CORRECT)
    browser.log_in(root)

    page.click("nav >> text=Re-ratings")
    page.click("a[href$='/rerating/add/']")
    page.fill("#id_provider", book.provider)
    page.fill("#id_upstream_model", book.model.name)
    for name, day in (("start", "2026-03-14"), ("end", "2026-03-15")):
        page.fill(f"#id_{name}_0", day)
        page.fill(f"#id_{name}_1", "00:00:00")
    page.click("button[name=_preview]")
    expect(page.locator("#content")).to_contain_text("Nothing is written yet.")
    assert len(rows_of(id)) == 1
    page.fill("#reason", "the list was wrong")
    page.click("#apply")

    expect(page.locator("#content")).to_contain_text("the list was wrong")
    expect(page.locator("#content")).to_contain_text("Written")
    assert len(rows_of(id)) == 2


def test_a_report_is_converted_and_taken_along_by_clicking(
    browser: Browser, root: User, currency: str
) -> None:
    acme, page = spender(currency, name=f"Reported {root.pk}"), browser.page
    rate(currency, "EUR", "2")
    acme.spend("1.5", team=acme.team("Blue"))
    browser.log_in(root)

    page.click("nav >> text=Spend report")
    page.fill("#id_first_day", str(FIRST))
    page.fill("#id_last_day", str(FIRST))
    page.select_option("#id_group_by", "team")
    page.select_option("#id_currency", "EUR")
    page.select_option("#id_organization", label=acme.organization.name)
    page.click("#show")

    expect(page.locator("#content tbody")).to_contain_text("Blue")
    expect(page.locator("#content tfoot")).to_contain_text("EUR 3.00")
    expect(page.locator("#content")).to_contain_text(f"1 {currency} = 2 EUR of {FIRST}")
    with page.expect_download() as taken:
        page.click("#download")
    assert "Blue,EUR,3.00" in taken.value.path().read_text()


def test_what_a_form_refuses_stands_beside_its_field(browser: Browser, root: User) -> None:
    key = admin_site.key_of(admin_site.organization_named("Refused"), "5").key
    browser.log_in(root)
    browser.open(f"/admin/budgets/apikey/{key.pk}/change/")

    browser.page.fill("#id_soft_budget", "6")
    browser.page.click("button[name=_save]")

    expect(browser.page.locator(".field-soft_budget")).to_contain_text(
        "Must not be above the limit."
    )


def test_a_jump_is_ticked_and_a_price_proposal_applied_by_clicking(
    browser: Browser, root: User
) -> None:
    vendor = Vendor(slug=f"v-{uuid.uuid4().hex[:12]}", source="a price list")
    vendor.take(vendor.model("jumps", "0.0000025", "0.00001"))
    proposal = vendor.propose(
        vendor.model("jumps", "0.00005", "0.000012"), vendor.model("new", "0.000001")
    )
    browser.log_in(root)

    browser.open(f"/admin/spend/priceproposal/{proposal.pk}/change/")
    expect(browser.page.locator("#content")).to_contain_text("×20")
    browser.page.check("input[name=confirm]")
    browser.page.click("#apply")

    expect(browser.page.locator("#content")).to_contain_text("2 of these changes are prices now")
    assert vendor.input_rate("jumps", at=datetime.now(UTC)) == Decimal("0.00005")


def test_a_price_is_previewed_while_it_is_typed(browser: Browser, root: User) -> None:
    model = new_model()
    old = priced(model)
    browser.log_in(root)
    browser.open(f"/admin/spend/priceversion/{old.pk}/correction/")

    browser.page.fill("#id_rates-0-rate", "2500")

    panel = browser.page.locator("#price-preview")
    expect(panel).to_contain_text("A request of 1,000 input and 500 output tokens costs USD 2.505.")
    expect(panel).to_contain_text("× 1000 check this")
    browser.page.click("button[name=_save]")
    expect(browser.page.locator(".field-confirm")).to_contain_text("confirm it, or mend it.")
    browser.page.check("#id_confirm")
    browser.page.click("button[name=_save]")
    expect(browser.page).to_have_url(f"{browser.base_url}/admin/spend/priceversion/")
    old.refresh_from_db()
    assert old.replaced_by_id is not None
