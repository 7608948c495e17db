"""Lists of things that hold accounts: what each has used is read once for the whole page."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from budgets.admin import bars, figures
from budgets.admin.limits import account_of
from budgets.admin.theme import ChangeList, ModelAdmin

EXPIRES_SOON: Final = timedelta(days=14)


class FiguresChangeList(ChangeList):
    """Puts ``figures`` on every row of the page: the same few queries however many rows."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        held = [(row, account_of(row)) for row in self.result_list]
        found = figures.of_accounts([account for _, account in held if account], now=timezone.now())
        for row, account in held:
            row.figures = found[account.id] if account else None


class FiguresAdmin(ModelAdmin):
    """Shows what each row's account has used of its budgets."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FiguresChangeList

    @column(description="Spent of limit")
    def used(self, obj: Any) -> str:
        return bars.bars(obj.figures) if obj.figures else bars.NOTHING


class UsedFilter(SimpleListFilter):
    """Accounts that have spent most of a limit, as of the ledger."""

    title = "spent of limit"
    parameter_name = "used"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("80", "80 % or more"), ("100", "All of it")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() not in {"80", "100"}:
            return None
        ids = figures.fullest(share_min=int(self.value() or 0), now=timezone.now())
        return queryset.filter(pk__in=ids)


class KeyStateFilter(SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("active", "Active"),
            ("expiring", f"Expires within {EXPIRES_SOON.days} days"),
            ("expired", "Expired"),
            ("blocked", "Blocked"),
            ("forever", "Never expires"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = _key_states(timezone.now()).get(self.value() or "")
        return queryset if wanted is None else queryset.filter(wanted)


def _key_states(now: datetime) -> dict[str, Q]:
    expired = Q(expires_at__lte=now)
    return {
        "active": Q(blocked=False) & ~expired,
        "expiring": Q(expires_at__gt=now, expires_at__lte=now + EXPIRES_SOON),
        "expired": expired,
        "blocked": Q(blocked=True),
        "forever": Q(expires_at=None),
    }


def state(kind: str, icon: str, text: str) -> SafeString:
    """Return a state in words, with an icon and a colour: ``fine``, ``warning`` or ``full``."""
    return format_html(
        '<span class="cp-state cp-{}"><span class="material-symbols-outlined" aria-hidden="true">'
        "{}</span>{}</span>",
        kind, icon, text,
    )  # fmt: skip


def blocked_state(*, blocked: bool) -> SafeString:
    return state("full", "block", "Blocked") if blocked else state("fine", "check_circle", "Active")


def link(obj: Model | None, text: str | None = None) -> SafeString | str:
    """Return a link to an object's page in the admin."""
    if obj is None:
        return bars.NOTHING
    return format_html('<a class="cp-link" href="{}">{}</a>', page_of(obj), text or str(obj))


def page_of(obj: Model) -> str:
    return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])


def two_lines(first: str, second: str) -> SafeString:
    """Return a name with what it is in small print under it."""
    return format_html(
        '<span class="cp-wrap cp-two">{}<br><small class="cp-quiet">{}</small></span>',
        first,
        second,
    )


def models_column(names: list[str]) -> str:
    """Return an access list in few words; an empty one allows all."""
    if not names:
        return "all"
    rest = f" and {len(names) - 2} more" if len(names) > 2 else ""  # noqa: PLR2004  # two fit the column
    return ", ".join(names[:2]) + rest
