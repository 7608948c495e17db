"""Deployments: the upstreams of each model name, their credential, and the price that applies."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from budgets import display, money
from budgets.admin.base import ServiceAdmin, chosen
from budgets.admin.forms import ExactDecimalField, LinesField
from budgets.admin.lists import blocked_state, link, page_of, two_lines
from budgets.admin.platform import section
from budgets.admin.theme import ChangeList, Select, URLInput, action
from budgets.models import TAG_BYTES_MAX
from gateway import connection_test, providers, services
from gateway.admin import platform
from gateway.admin.credentials import secret_field
from gateway.admin.suggestions import WithSuggestions, known_providers
from gateway.models import Deployment, WhenClientLeaves
from spend.admin.price_words import in_and_out, unpriced
from spend.components import Component
from spend.models import PriceVersion
from spend.price_terms import RATE_MAX
from spend.pricebook import OVERRIDE_CURRENCY, OVERRIDE_FIELDS
from spend.queries import models_named, price_in_force

FIELDS: Final = (
    "organization", "model_name", "provider", "upstream_model", "api_base", "weight",
    "region", "api_version", "tags", "when_client_leaves",
    "input_tokens_max", "output_tokens_max", "blocked", "model_info",
)  # fmt: skip
USUAL_RATES: Final = (
    ("input_cost_per_token", "output_cost_per_token"),
    ("cache_read_input_token_cost", "input_cost_per_request"),
)
OTHER_RATES: Final = tuple(
    name for name in OVERRIDE_FIELDS if name not in {rate for pair in USUAL_RATES for rate in pair}
)
TOKENS_PRICED_AT_ONCE: Final = Decimal(10**6)
ROUTING_HELP: Final = (
    "In which order the deployments of a model are tried, and which model takes over, is said by"
    " routing rules. How many requests and how much money it may take, by the budgets below."
)


def rate_field(component: Component) -> forms.DecimalField:
    """Return an input for a deployment's own rate: for a million tokens, as price lists say it."""
    unit = "a request" if component == Component.REQUEST else "1M tokens"
    words = component.value.replace("_", " ").capitalize()
    return ExactDecimalField(
        label="Request" if component == Component.REQUEST else words,
        required=False,
        max_value=RATE_MAX,
        max_digits=30,
        decimal_places=12,
        help_text=f"{OVERRIDE_CURRENCY} for {unit}",
    )


class DeploymentForm(forms.ModelForm):
    provider = forms.SlugField(
        max_length=64,
        widget=WithSuggestions(list_id="known-providers", known=known_providers),
        help_text="As the price book names it.",
    )
    api_base = forms.URLField(
        label="Base URL",
        max_length=500,
        required=False,
        assume_scheme="https",
        widget=URLInput,
        help_text="Up to and with /v1. Empty: the known provider’s own.",
    )
    api_key = secret_field(label="Provider’s key")
    tags = LinesField(
        length_max=TAG_BYTES_MAX,
        help_text=(
            "One a line. Requests that carry one of them go here, others do not. The tag default:"
            " also what fits no other deployment."
        ),
    )
    when_client_leaves = forms.ChoiceField(
        label="When a caller goes away",
        choices=WhenClientLeaves.choices,
        initial=WhenClientLeaves.DRAIN,
        help_text="Providers bill what they produce, whether somebody reads it or not.",
        widget=Select,
    )
    input_cost_per_token = rate_field(Component.INPUT)
    output_cost_per_token = rate_field(Component.OUTPUT)
    cache_read_input_token_cost = rate_field(Component.CACHED_READ)
    cache_creation_input_token_cost = rate_field(Component.CACHE_WRITE_5M)
    cache_creation_input_token_cost_above_1hr = rate_field(Component.CACHE_WRITE_1H)
    input_cost_per_audio_token = rate_field(Component.INPUT_AUDIO)
    output_cost_per_audio_token = rate_field(Component.OUTPUT_AUDIO)
    output_cost_per_reasoning_token = rate_field(Component.REASONING)
    input_cost_per_request = rate_field(Component.REQUEST)

    class Meta:
        model = Deployment
        fields = FIELDS
        labels = {"api_version": "API version"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, text in self.instance.price_override.items():
            self.initial[name] = Decimal(text) * _priced_at_once(name)
        if "api_key" in self.fields:
            self.fields["api_key"].help_text = _key_help(self.instance)

    def clean(self) -> Any:
        cleaned = super().clean() or self.cleaned_data
        if not cleaned.get("api_base") and "api_base" not in self.errors:
            self._fill_in_base(cleaned)
        return cleaned

    def override(self) -> dict[str, str]:
        """Return the own rates as they are stored: exact, for one unit, in text."""
        given = {name: self.cleaned_data.get(name) for name in OVERRIDE_FIELDS}
        return {
            name: money.plain(money.EXACT.divide(rate, _priced_at_once(name)))
            for name, rate in given.items()
            if rate is not None
        }

    def _fill_in_base(self, cleaned: dict[str, Any]) -> None:
        base = providers.base_url_of(cleaned.get("provider", ""))
        if base is None:
            self.add_error("api_base", "Give it: the address of this provider is not known here.")
        else:
            cleaned["api_base"] = base


class PricedChangeList(ChangeList):
    """Puts the price book's version in force on every row of the page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        prices = _listed_prices(self.result_list)
        for row in self.result_list:
            row.listed_price = prices[row.pk]


@admin.register(Deployment)
class DeploymentAdmin(ServiceAdmin):
    purpose = (
        "A deployment is one upstream that can serve a model. Those of one name share its load."
    )
    form = DeploymentForm
    list_display = ("called", "upstream", "price", "share_of_load", "whose", "state")
    list_filter = ("blocked", "provider", ("organization", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("organization", "credential")
    search_fields = ("model_name", "upstream_model", "provider", "public_id")
    search_help_text = "Model, provider or id"
    autocomplete_fields = ("organization",)
    actions_detail = ("test_connection",)
    actions_row = ("test_connection",)
    readonly_fields = ("price_now", "public_id", "created_at", "updated_at")
    change_form_outer_after_template = "budgets/platform_section.html"
    error_fields = {"model_info.id": "model_name"}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        about = (
            ("For programs", {"fields": ("public_id", ("created_at", "updated_at"), "model_info")}),
        )
        return (
            (None, {"fields": ("model_name", "organization", "weight", "blocked")}),
            ("Upstream", {
                "fields": (
                    "provider", "upstream_model", "api_base", "region", "api_version", "api_key",
                ),
            }),
            *self._price_fieldsets(request, obj),
            ("Routing", {
                "fields": ("tags", "when_client_leaves"),
                "description": ROUTING_HELP,
            }),
            ("Bounds", {"fields": (("input_tokens_max", "output_tokens_max"),)}),
            *(about if obj else ()),
        )  # fmt: skip

    def _price_fieldsets(self, request: HttpRequest, obj: Any) -> Any:
        if obj and not self.has_change_permission(request, obj):
            return (("Price", {"fields": ("price_now",)}),)
        price = ("price_now",) if obj else ()
        return (
            ("Price", {"fields": (*price, *USUAL_RATES)}),
            ("More rates of its own", {"fields": OTHER_RATES, "classes": ("collapse",)}),
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PricedChangeList

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return section(platform.things_of(obj)) if obj else {}

    def create(self, request: HttpRequest, form: Any) -> Deployment:
        return services.create_deployment(
            values=_values(form), api_key=form.cleaned_data["api_key"] or None
        )

    def update(self, request: HttpRequest, form: Any) -> None:
        services.update_deployment(
            deployment=form.instance,
            values=_values(form),
            api_key=form.cleaned_data["api_key"] or None,
        )

    def delete_model(self, request: HttpRequest, obj: Deployment) -> None:
        services.delete_deployment(deployment=obj)

    @action(description="Test connection", icon="cable", permissions=("change",))
    def test_connection(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, and then have the upstream asked for its models and say what came of it."""
        deployment = self.get_object(request, object_id)
        if deployment is None:
            raise Http404
        outcome = connection_test.run(deployment=deployment) if request.method == "POST" else None
        context = {
            **self.admin_site.each_context(request),
            "title": str(deployment),
            "opts": self.opts,
            "deployment": deployment,
            "page": page_of(deployment),
            "outcome": outcome,
        }
        return TemplateResponse(request, "gateway/connection_test.html", context)

    @column(description="Model", ordering="model_name")
    def called(self, obj: Deployment) -> str:
        return two_lines(obj.model_name, f"{obj.provider}/{obj.upstream_model}")

    @column(description="Upstream", ordering="api_base")
    def upstream(self, obj: Deployment) -> str:
        return two_lines(obj.api_base, "with a key" if obj.credential_id else "without a key")

    @column(description="Price now, per 1M tokens")
    def price(self, obj: Any) -> str:
        return _price(obj, obj.listed_price)

    @column(description="Price now")
    def price_now(self, obj: Deployment) -> str:
        version = _listed_prices([obj])[obj.pk]
        shown = _price(obj, version)
        if obj.price_override:
            return format_html("{} for 1M tokens: its own, given below", shown)
        if version is None:
            return format_html(
                "{} Requests to it are refused: give rates below, or put {}/{} in the price book.",
                shown, obj.provider, obj.upstream_model,
            )  # fmt: skip
        return format_html("{} for 1M tokens: {} of the price book", shown, link(version))

    @column(description="Weight", ordering="weight")
    def share_of_load(self, obj: Deployment) -> str:
        return display.count(obj.weight)

    @column(description="For", ordering="organization")
    def whose(self, obj: Deployment) -> str:
        return str(obj.organization) if obj.organization else "every organization"

    @column(description="State", ordering="blocked")
    def state(self, obj: Deployment) -> str:
        return blocked_state(blocked=obj.blocked)

    @column(description="Provider’s key")
    def api_key(self, obj: Deployment) -> str:
        return _key_help(obj)


def _values(form: DeploymentForm) -> dict[str, Any]:
    values = chosen(form, FIELDS)
    return values | {"price_override": form.override()}


def _priced_at_once(name: str) -> Decimal:
    return Decimal(1) if OVERRIDE_FIELDS[name] == Component.REQUEST else TOKENS_PRICED_AT_ONCE


def _key_help(deployment: Deployment) -> str:
    if deployment.credential is None:
        return "None is saved. It is encrypted, and never shown again."
    return f"Saved for {deployment.credential.host}. Empty: it stays. A new host needs it again."


def _listed_prices(deployments: Sequence[Deployment]) -> dict[int, PriceVersion | None]:
    """Return the price book's version in force for each, whatever its own price is."""
    named = models_named((each.provider, each.upstream_model) for each in deployments)
    found: dict[int, PriceVersion | None] = {}
    for each in deployments:
        model = named.get((each.provider, each.upstream_model))
        found[each.pk] = (
            price_in_force(model, at=timezone.now(), organization_id=each.organization_id)
            if model
            else None
        )
    return found


def _price(deployment: Deployment, version: PriceVersion | None) -> SafeString:
    if deployment.price_override:
        return _own_price(deployment)
    return unpriced() if version is None else in_and_out(version)


def _own_price(deployment: Deployment) -> SafeString:
    rates = [
        f"{display.per_million(Decimal(deployment.price_override[name]))} {words}"
        for name, words in (("input_cost_per_token", "in"), ("output_cost_per_token", "out"))
        if name in deployment.price_override
    ]
    words = f"{OVERRIDE_CURRENCY} {' · '.join(rates)}" if rates else "Rates"
    return format_html(
        '<span class="cp-number">{}</span> <span class="cp-quiet">of its own</span>', words
    )
