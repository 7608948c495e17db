"""The note on pages of organizations and teams whose children may spend more than they may."""

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from budgets import display
from budgets.admin import bars
from budgets.models import Account
from budgets.overcommitment import Overcommitment, overcommitments


def note(account: Account) -> SafeString | str:
    """Return a sentence for each kind of accounts that has more allotted than there is."""
    found = overcommitments([account]).get(account.pk, [])
    return format_html_join("", "<p>{}</p>", ((_told(each, account),) for each in found))


def _told(found: Overcommitment, account: Account) -> SafeString:
    words = found.kind if found.accounts == 1 else f"{found.kind}s"
    limit = display.limit_terms(found.limit, account.currency, found.duration)
    return format_html(
        "{} {} with limits of their own may together spend {}: {} more than {} here.",
        display.count(found.accounts), words, bars.amount(found.allotted, account.currency),
        bars.amount(found.excess, account.currency), limit,
    )  # fmt: skip
