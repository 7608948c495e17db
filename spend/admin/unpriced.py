"""Models without a price: how much of them was refused, what waits, and what to do about it."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin import display as column
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from budgets import display
from budgets.admin import bars
from budgets.admin.base import ReadOnlyAdmin
from budgets.admin.lists import state, two_lines
from budgets.admin.theme import ChangeList
from spend import exposure
from spend.admin import reratings
from spend.models import Model, Provider, UnpricedModel
from spend.queries import models_named, price_in_force
from spend.rerating import Scope
from spend.services import unpriced

SECOND = timedelta(seconds=1)


class QueueChangeList(ChangeList):
    """Puts on every row of the page what its tokens may cost, and what can be done about it."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        prepare(request, self.result_list)


@admin.register(UnpricedModel)
class UnpricedModelAdmin(ReadOnlyAdmin):
    purpose = "Models that were asked for and have no price. None is how it should be."
    list_display = (
        "called", "refused_told", "waiting_told", "tokens", "may_cost", "seen", "next_steps",
    )  # fmt: skip
    search_fields = ("provider", "upstream_model")
    search_help_text = "Provider or model"
    list_fullwidth = True
    sortable_by = ()
    fieldsets = (
        (None, {"fields": ("called", "next_steps", ("refused_told", "waiting_told"))}),
        ("What waits", {"fields": ("tokens", "may_cost", "seen")}),
    )
    readonly_fields = list_display

    def get_queryset(self, request: HttpRequest) -> Any:
        return unpriced.waiting()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return QueueChangeList

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            prepare(request, [found])
        return found

    @column(description="Model")
    def called(self, obj: UnpricedModel) -> str:
        return two_lines(obj.upstream_model, obj.provider)

    @column(description="Refused")
    def refused_told(self, obj: UnpricedModel) -> str:
        return display.count(obj.refused)

    @column(description="Waiting")
    def waiting_told(self, obj: UnpricedModel) -> str:
        return display.count(obj.waiting)

    @column(description="Tokens in / out")
    def tokens(self, obj: UnpricedModel) -> str:
        return f"{display.count(obj.input_tokens)} / {display.count(obj.output_tokens)}"

    @column(description="At most, about")
    def may_cost(self, obj: Any) -> str:
        if not obj.exposures:
            return bars.NOTHING
        told = [(bars.fine_amount(each.amount, each.currency),) for each in obj.exposures]
        amounts = format_html_join(" or ", "{}", told)
        return format_html(
            '<span class="cp-two">{}<br><small class="cp-quiet">at {}’s dearest rates</small>'
            "</span>",
            amounts,
            obj.provider,
        )

    @column(description="Seen")
    def seen(self, obj: UnpricedModel) -> str:
        return two_lines(
            f"{obj.first_seen_at:%Y-%m-%d %H:%M}", f"to {obj.last_seen_at:%Y-%m-%d %H:%M}"
        )

    @column(description="Next")
    def next_steps(self, obj: Any) -> str:
        links = format_html_join(
            " · ", '<a class="cp-link" href="{}">{}</a>', ((url, words) for words, url in obj.steps)
        )
        if obj.has_price:
            priced = state("fine", "check_circle", "Has a price")
            return format_html("<span>{} {}</span>", priced, links)
        return format_html("<span>{}</span>", links) if links else bars.NOTHING


def prepare(request: HttpRequest, rows: Sequence[Any]) -> None:
    """Put on each row what it may cost, whether it has a price by now, and what is to be done."""
    now = timezone.now()
    known = exposure.of_models(rows, at=now)
    models = models_named((row.provider, row.upstream_model) for row in rows)
    providers = {each.slug: each for each in Provider.objects.filter(slug__in=_slugs(rows))}
    for row in rows:
        model = models.get((row.provider, row.upstream_model))
        row.exposures = known[row.pk]
        row.has_price = model is not None and price_in_force(model, at=now) is not None
        steps = [_price_step(row, model, providers.get(row.provider)), _rate_step(row)]
        row.steps = [
            (words, url)
            for words, url, permission in filter(None, steps)
            if request.user.has_perm(permission)
        ]


Step = tuple[str, str, str]


def _slugs(rows: Sequence[UnpricedModel]) -> set[str]:
    return {row.provider for row in rows}


def _price_step(row: Any, model: Model | None, provider: Provider | None) -> Step | None:
    """Return where to give it a price: by way of its model and provider, where they are missing."""
    if row.has_price:
        return None
    if model is not None:
        midnight = datetime.combine(row.first_seen_at.astimezone(UTC).date(), time(), tzinfo=UTC)
        given: dict[str, Any] = {"model": model.pk, "effective_from": midnight.isoformat()}
        return "Give it a price", _add("priceversion", given), "spend.add_priceversion"
    if provider is not None:
        given = {"provider": provider.pk, "name": row.upstream_model}
        return "Add the model, to give it a price", _add("model", given), "spend.add_model"
    given = {"slug": row.provider, "name": row.provider}
    return "Add the provider, to give it a price", _add("provider", given), "spend.add_provider"


def _rate_step(row: UnpricedModel) -> Step | None:
    if not row.waiting:
        return None
    scope = Scope(
        provider=row.provider,
        upstream_model=row.upstream_model,
        start=row.first_seen_at.replace(microsecond=0),
        end=row.last_seen_at.replace(microsecond=0) + SECOND,
    )
    url = reratings.add_url(scope, reason="It had no price")
    return "Rate what waited", url, "spend.add_rerating"


def _add(model: str, given: dict[str, Any]) -> str:
    return f"{reverse(f'admin:spend_{model}_add')}?{urlencode(given)}"
