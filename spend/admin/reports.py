"""The page of spend reports: choose days, groups and a currency, read it, or take it along."""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from budgets import display, queries
from budgets.admin import bars
from budgets.admin.lists import two_lines
from budgets.admin.theme import Select, TextInput
from budgets.currencies import CURRENCIES
from budgets.errors import InvalidInput
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import Organization
from spend.reporting import report_csv, reports
from spend.reporting.report_figures import POLICY_WORDS, Amount, Figures
from spend.reporting.report_names import Named
from spend.reporting.report_sums import Group
from spend.reporting.reports import Report, Row

ROWS_SHOWN_MAX: Final = 500
RATES_SHOWN_MAX: Final = 100
ORGANIZATIONS_LISTED_MAX: Final = 1_000
PROVIDER_LENGTH_MAX: Final = 64
GROUPS: Final = [(group.value, group.value.capitalize()) for group in Group]
NONE: Final = ("", "–")
_FIELDS: Final = {"to": "last_day", "group_by": "group_by"}


class ReportForm(forms.Form):
    first_day = forms.DateField(label="From", widget=TextInput({"type": "date"}))
    last_day = forms.DateField(label="To", widget=TextInput({"type": "date"}))
    group_by = forms.ChoiceField(label="Group by", choices=GROUPS, widget=Select)
    then_by = forms.ChoiceField(
        label="Then by", choices=[NONE, *GROUPS], required=False, widget=Select
    )
    currency = forms.ChoiceField(
        choices=[("", "as the organizations count"), *(
            (code, f"{code} · {currency.name}") for code, currency in CURRENCIES.items()
        )],
        required=False, widget=Select,
    )  # fmt: skip
    organization = forms.ModelChoiceField(
        queryset=Organization.objects.none(), required=False, widget=Select
    )
    model = forms.CharField(max_length=NAME_LENGTH_MAX, required=False, widget=TextInput)
    provider = forms.CharField(max_length=PROVIDER_LENGTH_MAX, required=False, widget=TextInput)

    def __init__(self, data: QueryDict | dict[str, Any], *, visible: QuerySet[Organization]):
        super().__init__(data)
        self.visible = visible
        field: Any = self.fields["organization"]
        field.queryset = visible
        listed = visible.order_by("name", "pk")[:ORGANIZATIONS_LISTED_MAX]
        field.choices = [("", "all"), *((each.pk, each.name) for each in listed)]

    def asked(self) -> reports.Asked:
        """Return what is asked for, once the form is valid."""
        chosen = self.cleaned_data
        one = chosen["organization"]
        groups = [chosen["group_by"], *filter(None, [chosen["then_by"]])]
        return reports.Asked(
            organizations=self.visible.filter(pk=one.pk) if one else self.visible,
            first_day=chosen["first_day"],
            last_day=chosen["last_day"],
            group_by=tuple(map(Group, groups)),
            currency=chosen["currency"],
            model=chosen["model"],
            provider=chosen["provider"],
        )


@dataclass(frozen=True, slots=True)
class RowTold:
    groups: list[SafeString | str]
    figures: "FiguresTold"


@dataclass(frozen=True, slots=True)
class FiguresTold:
    """``is_converted``: some was spent in another currency, so the amount depends on rates."""

    amount: SafeString | str
    is_converted: bool
    original: list[SafeString]
    not_converted: list[SafeString]
    is_stale: bool
    events: str
    tokens: str


@dataclass(frozen=True, slots=True)
class Told:
    """A report as the page shows it; ``cut`` counts rows that are left to the download."""

    columns: list[str]
    rows: list[RowTold]
    cut: int
    total: FiguresTold
    rounding: SafeString | str
    rates: list[str]
    rates_cut: int
    not_converted: list[tuple[SafeString, str]]
    has_stale: bool
    converts: bool


def page(request: HttpRequest) -> HttpResponse:
    """Show a report of what the form in the address asks for, or give it as a file."""
    if not request.user.has_perm("spend.view_spendevent"):
        raise PermissionDenied
    form = _form(request)
    report = _report(form)
    if report is not None and request.GET.get("format") == "csv":
        return report_csv.file_of(report)
    context = {
        **admin.site.each_context(request),
        "title": "Spend report",
        "form": form,
        "report": report,
        "told": report and told(report),
        "policy": POLICY_WORDS,
        "download": _download(form),
    }
    return TemplateResponse(request, "spend/report.html", context)


def _form(request: HttpRequest) -> ReportForm:
    today = timezone.now().date()
    usual = {"first_day": today.replace(day=1), "last_day": today, "group_by": Group.DAY.value}
    user: Any = request.user
    return ReportForm(request.GET or usual, visible=queries.organizations_visible_to(user))


def _report(form: ReportForm) -> Report | None:
    if not form.is_valid():
        return None
    try:
        return reports.read(form.asked())
    except InvalidInput as refused:
        form.add_error(
            _FIELDS[refused.field], f"{refused.problem[:1].upper()}{refused.problem[1:]}."
        )
        return None


def _download(form: ReportForm) -> str:
    sent = QueryDict(mutable=True)
    sent.update({name: str(form[name].value() or "") for name in form.fields} | {"format": "csv"})
    return sent.urlencode()


def told(report: Report) -> Told:
    """Return a report as the page shows it."""
    shown = report.rows[:ROWS_SHOWN_MAX]
    shared = _shared_names(shown)
    used = [
        f"{report_csv.rate_words(each, report.currency)}, {report_csv.days_words(each)}"
        for each in report.rates
    ]
    return Told(
        columns=[group.value.capitalize() for group in report.group_by],
        rows=[
            RowTold(
                [_named(each, shared) for each in row.groups],
                _figures(row.figures, report.currency),
            )
            for row in shown
        ],
        cut=len(report.rows) - len(shown),
        total=_figures(report.total, report.currency),
        rounding=_rounding(report),
        rates=used[:RATES_SHOWN_MAX],
        rates_cut=max(0, len(used) - RATES_SHOWN_MAX),
        not_converted=[
            (bars.amount(each.amount, each.currency), report_csv.days_words(each))
            for each in report.not_converted
        ],
        has_stale=report.total.is_stale,
        converts=bool(report.rates or report.not_converted),
    )


def _shared_names(rows: Iterable[Row]) -> set[str]:
    """Return the names that several groups have: their ids tell them apart."""
    groups = {group for row in rows for group in row.groups if group.id != group.name}
    return {name for name, times in Counter(each.name for each in groups).items() if times > 1}


def _named(group: Named, shared: Container[str]) -> SafeString | str:
    if not group.id:
        return format_html('<span class="cp-quiet">{}</span>', "none")
    if group.name in shared:
        return two_lines(group.name, group.id)
    return format_html('<span title="{}">{}</span>', group.id, group.name)


def _figures(figures: Figures, currency: str) -> FiguresTold:
    return FiguresTold(
        amount=_amount(figures, currency),
        is_converted=any(each.currency != currency for each in figures.original),
        original=_amounts(figures.original),
        not_converted=_amounts(figures.not_converted),
        is_stale=figures.is_stale,
        events=display.count(figures.events),
        tokens=display.count(figures.input_tokens + figures.output_tokens),
    )


def _amount(figures: Figures, currency: str) -> SafeString | str:
    """
    Return the rounded amount, as the rows must add up; what is not 0 never reads as 0, nor does
    what could not be converted.
    """
    if figures.not_converted and figures.not_converted == figures.original:
        return bars.NOTHING
    return format_html(
        '<span class="cp-number" title="{}">{}</span>',
        display.exact(figures.exact, currency),
        display.amount(figures.amount or figures.exact, currency),
    )


def _amounts(amounts: Sequence[Amount]) -> list[SafeString]:
    return [bars.amount(each.amount, each.currency) for each in amounts]


def _rounding(report: Report) -> SafeString | str:
    return bars.amount(report.rounding, report.currency) if report.rounding else ""
